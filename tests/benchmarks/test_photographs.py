"""Error on photographs: what is measured, how it is summed up, what cannot be measured."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from p3m_edge.benchmarks import photographs
from p3m_edge.benchmarks.photographs import PhotographError
from p3m_edge.errors import InputError
from tests.artefacts import make_artefact
from tests.benchmarks.helpers.scripts import Run, runs


def write(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture.astype(np.uint8))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two portraits and two pictures of people-held, all alike: the left half is the person."""
    alpha = np.zeros((60, 80), np.uint8)
    alpha[:, :40] = 255
    image = np.dstack([alpha, alpha, alpha])
    for name in ("gt_1", "p3m_2"):
        write(tmp_path / f"portraits/{name}/image.jpg", image)
        write(tmp_path / f"portraits/{name}/alpha.png", alpha)
    (tmp_path / "manifest.csv").write_text("id,tier\ngt_1,B\np3m_2,C\n")
    for name in ("one_3", "two_4"):
        write(tmp_path / f"people-held/blurred_image/{name}.png", image)
        write(tmp_path / f"people-held/alpha/{name}.png", alpha)
    return tmp_path


def test_a_known_mistake_is_measured_as_it_is(data: Path) -> None:
    def half_right(rgb: np.ndarray) -> np.ndarray:
        alpha = np.zeros(rgb.shape[:2], np.float32)
        alpha[:30, :40] = 1
        return alpha

    found = photographs.photographs(data)
    assert [(one.set, one.group) for one in found] == [
        ("portraits", "A/B"), ("portraits", "C"), ("people-held", "one"), ("people-held", "two"),
    ]  # fmt: skip
    rows = list(photographs.measure("half", half_right, found))
    for row in rows:
        assert row.mad == pytest.approx(0.25)  # half of the person, who is half of the picture
        assert row.unknown == pytest.approx(0.25, abs=0.05)  # in the band about the edge, half of whose pixels are hers
        assert row.bias == pytest.approx(-row.unknown)  # what is wrong is too low
        assert row.grad > 0
    sums = {line.kind: line for line in photographs.totals(rows)}
    assert sums["portraits"].pictures == 2
    assert sums["portraits without tier C"].pictures == sums["portraits: C"].pictures == 1
    assert sums["people-held"].over == (2, 2)


def test_totals_are_means_medians_and_counts() -> None:
    rows = [
        PhotographError("m", "people-held", "a", str(i), mad, 2 * mad, -mad, 3.0)
        for i, mad in enumerate((0.0, 0.01, 0.2))
    ]
    line = next(iter(photographs.totals(rows)))
    assert (line.mad, line.median, line.unknown, line.bias, line.grad) == pytest.approx((0.07, 0.01, 0.14, -0.07, 3.0))
    assert line.over == (1, 1)


def test_what_cannot_be_measured_is_refused(tmp_path: Path, data: Path) -> None:
    with pytest.raises(InputError, match=r"neither portraits/ nor people-held/"):
        photographs.photographs(tmp_path / "nowhere")
    (data / "manifest.csv").write_text("nothing")
    with pytest.raises(InputError, match="lacks one of the columns id, tier"):
        photographs.photographs(data)
    (data / "manifest.csv").unlink()
    with pytest.raises(InputError, match="cannot be read as CSV"):
        photographs.photographs(data)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return lambda *words: runs(photographs.main, capsys, *words)


def test_the_command_line_measures_an_artefact(run: Run, data: Path, tmp_path: Path) -> None:
    demo_artefact = make_artefact(tmp_path / "onnx")
    done = run(demo_artefact, "--data", data, "--empty", data / "people-held/blurred_image", "--json")
    assert done.code == 0, done.err
    document = json.loads(done.out)
    methods = {row["method"] for row in document["pictures"]}
    assert str(demo_artefact) in methods
    assert all(0 <= row["mad"] <= 1 for row in document["pictures"])
    assert len(document["empty"][str(demo_artefact)]) == 2
    nothing = run(data / "nowhere", "--data", data)
    assert (nothing.code, len(nothing.err.strip().splitlines())) == (5, 1)
