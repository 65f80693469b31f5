"""Charts as SVG: well-formed, to scale, and with every label."""

import re
from xml.etree import ElementTree

import pytest

from p3m_edge.benchmarks.chart import Bar, Line, Point, bars, lines, points

_NAMESPACE = "{http://www.w3.org/2000/svg}"


def _parse(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text)


def _texts(root: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{_NAMESPACE}text")]


def test_bars_are_as_long_as_their_values_say():
    root = _parse(bars("A <title> & more", [Bar("short", 2.0), Bar("long", 8.0, "1/3 of it", marked=True)], "ms"))
    widths = [float(rect.get("width", 0)) for rect in root.iter(f"{_NAMESPACE}rect")][1:]  # the first is the paper
    assert abs(widths[1] / widths[0] - 4) < 0.01
    assert {"A <title> & more", "short", "long", "2.0 ms", "8.0 ms, 1/3 of it"} <= set(_texts(root))


def test_bars_of_nothing_and_without_a_unit():
    root = _parse(bars("t", [Bar("a", 0.0), Bar("b", 0.0, "all of it")], ""))
    assert [rect.get("width") for rect in root.iter(f"{_NAMESPACE}rect")][1:] == ["0.0", "0.0"]
    assert {"0.0", "0.0, all of it"} <= set(_texts(root))


def test_points_lie_where_their_values_say_and_inside_the_picture():
    data = [Point("a", 1.0, 9.0), Point("b", 2.0, 3.0), Point("c", 4.0, 6.0)]
    root = _parse(points("t", data, "latency, ms", "SAD"))
    circles = [(float(c.get("cx", 0)), float(c.get("cy", 0))) for c in root.iter(f"{_NAMESPACE}circle")]
    (ax, ay), (bx, by), (cx, cy) = circles
    assert abs((cx - bx) / (bx - ax) - 2) < 0.01
    assert abs((cy - by) / (ay - by) - 0.5) < 0.01  # upwards, as values grow
    width, height = map(float, re.findall(r"\d+", root.get("viewBox", ""))[2:])
    assert all(0 < x < width and 0 < y < height for x, y in circles)
    assert {"a", "b", "c", "latency, ms", "SAD"} <= set(_texts(root))


@pytest.mark.parametrize(
    ("end", "ticks"),
    [
        (40.9, ["10", "20", "30", "40", "50"]),
        (25, ["5", "10", "15", "20", "25"]),
        (0.33, ["0.1", "0.2", "0.3", "0.4"]),
        (1000, ["200", "400", "600", "800", "1000"]),
        (0, ["1"]),
    ],
)
def test_axes_have_round_numbers_and_reach_as_far_as_the_values(end, ticks):
    root = _parse(lines("t", [Line("a", [(0.0, 0.0), (end, 0.0)])], "x", "y"))
    middle = [text for text in root.iter(f"{_NAMESPACE}text") if text.get("text-anchor") == "middle"]
    along = [text for text in middle if text.text != "x"]
    assert [text.text for text in along] == ticks
    last = [float(circle.get("cx", 0)) for circle in root.iter(f"{_NAMESPACE}circle")][-1]
    assert last <= max(float(text.get("x", 0)) for text in along) + 0.1


def test_points_that_are_not_finite_are_left_out():
    drawn = _parse(
        lines("t", [Line("a", [(1.0, float("nan")), (2.0, 3.0)]), Line("b", [(1.0, float("inf"))])], "x", "y")
    )
    assert len(list(drawn.iter(f"{_NAMESPACE}circle"))) == 1
    assert "a 3.00" in _texts(drawn)
    assert "nan" not in lines("t", [Line("a", [(1.0, float("nan"))])], "x", "y")
