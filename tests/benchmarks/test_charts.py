"""Charts as SVG: well-formed, to scale, with every label, and the same every time."""

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p3m_edge.benchmarks.report import charts
from p3m_edge.benchmarks.report.charts import Bar, Place, Point, bars, pareto, points, trade_off

pytest.importorskip("matplotlib")
_NAMESPACE = "{http://www.w3.org/2000/svg}"
AXES = ("Latency, ms", "SAD")


def place(number: int, latency: float, error: float, precision: str = "fp32") -> Place:
    return Place(number, f"row {number}", precision, latency, 0.9 * latency, 1.1 * latency, error)


def _texts(drawn: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(drawn).iter(f"{_NAMESPACE}text")]


def _dots(drawn: str, name: str) -> list[tuple[float, float]]:
    """Where the markers of a group stand."""
    groups = (group for group in ElementTree.fromstring(drawn).iter(f"{_NAMESPACE}g") if group.get("id") == name)
    return [(float(use.get("x", 0)), float(use.get("y", 0))) for use in next(groups).iter(f"{_NAMESPACE}use")]


def _widths(drawn: str) -> list[float]:
    """Of the bars, in their order."""
    found = re.findall(r'id="bar-\d+">\s*<path d="M ([\d.]+) [\d.]+\s+L ([\d.]+) ', drawn)
    return [float(end) - float(start) for start, end in found]


def test_bars_are_as_long_as_their_values_say():
    drawn = bars("A <title> & more", [Bar("short", 2.0), Bar("long", 8.0, "1/3 of it", marked=True)], "ms")
    short, long = _widths(drawn)
    assert long / short == pytest.approx(4, abs=0.01)
    assert {"A <title> & more", "short", "long", "2.0 ms", "8.0 ms, 1/3 of it"} <= set(_texts(drawn))


def test_bars_of_nothing_and_without_a_unit():
    drawn = bars("t", [Bar("a", 0.0), Bar("b", 0.0, "all of it")], "")
    assert _widths(drawn) == [0, 0]
    assert {"0.0", "0.0, all of it"} <= set(_texts(drawn))


def test_points_lie_where_their_values_say_and_inside_the_picture():
    drawn = points("t", [Point("a", 1.0, 9.0), Point("b", 2.0, 3.0), Point("c", 4.0, 6.0)], "latency, ms", "SAD")
    dots = _dots(drawn, "points")
    (ax, ay), (bx, by), (cx, cy) = dots
    assert (cx - bx) / (bx - ax) == pytest.approx(2, abs=0.01)
    assert (cy - by) / (ay - by) == pytest.approx(0.5, abs=0.01)  # upwards, as values grow
    assert all(0 < x < 760 and 0 < y < 420 for x, y in dots)
    assert {"a", "b", "c", "latency, ms", "SAD"} <= set(_texts(drawn))


def test_points_that_are_not_finite_are_left_out():
    data = [Point("", 1.0, float("nan")), Point("", 2.0, 3.0), Point("", float("inf"), 1.0)]
    drawn = points("t", data, "x", "y", joined=True)
    assert len(_dots(drawn, "points")) == 1
    assert "3.00" in _texts(drawn)
    assert "nan" not in points("t", data[:1], "x", "y", joined=True)


def test_the_same_data_give_the_same_bytes_and_names_are_no_formulas():
    data = [Point("$a_b$ \\frac 人", 1.0, 2.0), Point("", 2.0, 1.0)]
    assert points("t", data, "x", "y") == points("t", data, "x", "y")
    assert "$a_b$ \\frac 人" in _texts(points("t", data, "x", "y"))


NUMBERS = st.floats(0.01, 100)


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=12))
def test_the_front_holds_what_no_other_row_beats(values: list[tuple[float, float]]) -> None:
    places = [place(number, *value) for number, value in enumerate(values)]

    def beats(a: Place, b: Place) -> bool:
        return a.latency <= b.latency and a.error <= b.error and (a.latency, a.error) != (b.latency, b.error)

    assert set(pareto(places)) == {p for p in places if not any(beats(other, p) for other in places)}


def test_rows_lie_where_their_values_say() -> None:
    places = [place(1, 10, 4.0), place(2, 20, 2.0, "int8"), place(3, 40, 3.0, "pal4")]
    drawn = trade_off(places, [("eager <x>", 60.0)], AXES)
    one, two, three = (_dots(drawn, f"row-{number}")[0] for number in (1, 2, 3))
    assert (two[0] - one[0]) * 2 == pytest.approx(three[0] - two[0], abs=0.2)
    assert (two[1] - one[1]) == pytest.approx(2 * (two[1] - three[1]), abs=0.3)  # upwards
    assert {"eager <x> (latency only)", "row 1", "row 2", "row 3", "1", "2", "3", *AXES} <= set(_texts(drawn))


def test_names_stand_where_there_is_room() -> None:
    crowd = [place(number, 10 + 0.01 * number, 4.0 + 0.001 * number) for number in range(12)]
    shown = [text for text in _texts(trade_off(crowd, [], AXES)) if text.startswith("row ")]
    assert 0 < len(shown) < 12


def test_the_axes_suit_the_values() -> None:
    wide, close = [place(1, 1, 1.0), place(2, 1000, 0.5)], [place(1, 10, 100.0), place(2, 20, 101.0)]
    assert "100" in _texts(trade_off(wide, [], AXES))
    assert "50" not in _texts(trade_off(wide, [], AXES))  # logarithmic: powers of ten
    assert charts.scale_is_cut(close)
    assert not charts.scale_is_cut(wide)
    for places in (wide, close, [place(1, 5, 0.0)], [place(1, 5, 0.0), place(2, 6, 0.0)], [place(1, 5, 1e-9)]):
        drawn = trade_off(places, [], AXES)
        for one in places:
            ((x, y),) = _dots(drawn, f"row-{one.number}")
            assert 0 < x < 860
            assert 0 < y < 430
