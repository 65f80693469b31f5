"""The curve of a training: every validation is a point, bad tables are named."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from p3m_edge.errors import InputError
from p3m_edge.train.folder import write_curve

SVG = "{http://www.w3.org/2000/svg}"


def run(folder: Path, table: str) -> Path:
    folder.mkdir()
    (folder / "validation.csv").write_text(table)
    return folder


def circles(folder: Path) -> list[tuple[float, float]]:
    tree = ElementTree.parse(folder / "curve.svg")
    lines = [group for group in tree.iter(f"{SVG}g") if group.get("id") == "points"]
    return [(float(dot.get("x", 0)), float(dot.get("y", 0))) for line in lines for dot in line.iter(f"{SVG}use")]


def test_a_point_for_each_validation(tmp_path):
    write_curve(run(tmp_path / "a", "step,seen,sad,mse\n10,40,8.0,0.1\n20,80,4.0,0.1\n40,160,2.0,0.1\n"), 4)
    (x0, y0), (x1, y1), (x2, y2) = circles(tmp_path / "a")
    assert y0 < y1 < y2  # downwards in the picture is down in SAD
    assert x2 - x1 == pytest.approx(2 * (x1 - x0), abs=0.3)
    assert (y2 - y1) == pytest.approx((y1 - y0) / 2, abs=0.3)


def test_bad_tables_are_named(tmp_path):
    bad = run(tmp_path / "b", "step,sad\n1,many\n")
    for folder in (tmp_path / "nowhere", bad):
        with pytest.raises(InputError, match=rf"{folder.name}/validation.csv cannot be read"):
            write_curve(folder, 1)
    assert not (bad / "curve.svg").exists()
