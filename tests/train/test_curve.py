"""The curve of a training: every validation is a point, stages stand in a row, bad tables are named."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from p3m_edge.errors import InputError
from p3m_edge.train.curve import write_curve

SVG = "{http://www.w3.org/2000/svg}"


def run(folder: Path, rows: list[tuple[int, float]], batch: int = 4) -> Path:
    folder.mkdir()
    (folder / "config.toml").write_text(f"[run]\nbatch = {batch}\ndevices = 1\n")
    lines = ["step,sad,mse,mad,pictures", *(f"{step},{sad},0.1,0.1,3" for step, sad in rows)]
    (folder / "validation.csv").write_text("\n".join(lines) + "\n")
    return folder


def circles(path: Path) -> list[tuple[float, float]]:
    tree = ElementTree.parse(path)
    lines = [group for group in tree.iter(f"{SVG}g") if group.get("id", "").startswith("line-")]
    return [(float(dot.get("x", 0)), float(dot.get("y", 0))) for line in lines for dot in line.iter(f"{SVG}use")]


def test_a_point_for_each_validation(tmp_path):
    write_curve(tmp_path / "curve.svg", [run(tmp_path / "a", [(10, 8.0), (20, 4.0), (40, 2.0)])])
    (x0, y0), (x1, y1), (x2, y2) = circles(tmp_path / "curve.svg")
    assert y0 < y1 < y2  # downwards in the picture is down in SAD
    assert x2 - x1 == pytest.approx(2 * (x1 - x0), abs=0.3)
    assert (y2 - y1) == pytest.approx((y1 - y0) / 2, abs=0.3)


def test_stages_stand_in_a_row_by_the_pictures_seen(tmp_path):
    stages = [run(tmp_path / "one", [(10, 8.0), (20, 4.0)], batch=8), run(tmp_path / "two", [(10, 3.0)], batch=16)]
    write_curve(tmp_path / "curve.svg", stages)
    (x0, _), (x1, _), (x2, _) = circles(tmp_path / "curve.svg")
    assert x2 - x1 == pytest.approx(2 * (x1 - x0), abs=0.3)
    text = (tmp_path / "curve.svg").read_text()
    assert re.search(r">one 4\.00<", text)
    assert re.search(r">two 3\.00<", text)


def test_the_pictures_of_all_processes_count(tmp_path):
    """Torchrun says how many there are, and no setting does: the table has the pictures seen."""
    runs = [run(tmp_path / name, [(10, 8.0), (20, 4.0)]) for name in ("one", "two")]
    table = "step,seen,sad,mse,mad,pictures\n10,160,8.0,0.1,0.1,3\n20,320,4.0,0.1,0.1,3\n"
    (runs[0] / "validation.csv").write_text(table)  # four processes of four pictures
    write_curve(tmp_path / "curve.svg", runs)
    (x0, _), (x1, _), (x2, _), (x3, _) = circles(tmp_path / "curve.svg")
    assert x1 - x0 == pytest.approx(4 * (x3 - x2), abs=0.3)
    assert x2 - x1 == pytest.approx(x3 - x2, abs=0.3)


def test_bad_runs_are_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere.*no folder of a training"):
        write_curve(tmp_path / "curve.svg", [tmp_path / "nowhere"])
    with pytest.raises(InputError, match="no validation"):
        write_curve(tmp_path / "curve.svg", [run(tmp_path / "a", [])])
    bad = run(tmp_path / "b", [(1, 1.0)])
    (bad / "validation.csv").write_text("step,sad\n1,many\n")
    with pytest.raises(InputError, match="cannot be read"):
        write_curve(tmp_path / "curve.svg", [bad])
    assert not (tmp_path / "curve.svg").exists()
