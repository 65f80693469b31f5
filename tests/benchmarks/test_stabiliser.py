"""The benchmark of the stabiliser: what it computes, and that it measures an artefact."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from p3m_edge.benchmarks import stabiliser
from p3m_edge.benchmarks.clips import Strip
from tests.artefacts import make_artefact
from tests.benchmarks.helpers.scripts import runs

pytest.importorskip("onnxruntime")


def edge(place: float) -> np.ndarray:
    """A soft edge at that column."""
    row = np.clip((np.arange(64, dtype=np.float32) - np.float32(place)) / 4, 0, 1)
    return np.tile(row, (8, 1))


@pytest.mark.parametrize("late", [-1, 0, 1, 2])
def test_lag_is_counted_in_frames(late: int) -> None:
    truths = [edge(20 + 8 * np.sin(number / 4)) for number in range(40)]
    alphas = [edge(20 + 8 * np.sin((number - late) / 4)) for number in range(40)]
    assert stabiliser.lag(alphas, truths) == pytest.approx(late, abs=0.05)


def test_mattes_that_trail_lag() -> None:
    truths = [edge(20 + 8 * np.sin(number / 4)) for number in range(40)]
    trailing = [truths[0]]
    for truth in truths[1:]:
        trailing.append(0.8 * trailing[-1] + 0.2 * truth)
    assert stabiliser.lag(trailing, truths) > 1


def test_a_strip_shows_no_face() -> None:
    frame = np.full((220, 220, 3), 200, np.uint8)
    rows, columns = np.mgrid[60:100, 60:90]
    frame[60:100, 60:90] = np.where(((rows + columns) % 2)[..., None], (255, 0, 0), (0, 0, 255))
    alphas = [np.full(frame.shape[:2], share, np.float32) for share in (1, 0.5)]
    shown = Strip("any", frames=(0, 1), window=(10, 10, 210, 210), face=(50, 50, 100, 110))
    picture = stabiliser.draw_strip([frame, frame], {"one": alphas, "another": alphas[::-1]}, shown)
    assert picture.shape[1] > 2 * 200
    assert picture.shape[0] > 3 * 200
    assert not ((picture.max(axis=2) > 250) & (picture.min(axis=2) < 5)).any()
    assert (np.abs(picture[4:204, 4:204].astype(int) - 200).max(axis=2) == 0).any()


def test_the_script_measures_an_artefact(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stabiliser, "CALL", 10)
    monkeypatch.setattr(stabiliser, "FAR_FRAMES", 4)
    folder = make_artefact(tmp_path / "artefact", size=(64, 96))
    path = tmp_path / "clips" / "asl_made_up" / "clip.mkv"
    path.parent.mkdir(parents=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"FFV1"), 30, (64, 48))
    rng = np.random.default_rng(0)
    still = rng.integers(40, 90, (48, 64, 3))
    for _ in range(6):
        writer.write((still + rng.integers(0, 3, still.shape)).astype(np.uint8))
    writer.release()
    done = runs(stabiliser.main, capsys, folder, "--data", tmp_path, "--count", 1, "--json")
    assert done.code == 0, done.err
    rows = json.loads(done.out)
    kinds = [(row["clips"], row["what"]) for row in rows]
    assert kinds == [
        *((kind, what) for kind in ("call", "glide") for what in ("dtSSD", "SAD", "lag")),
        ("appears", "share"), ("far", "SAD"), ("far", "GRAD"), ("real", "flicker"),
    ]  # fmt: skip
    assert all(row["reached"] == (row["change"] <= -0.3) for row in rows if row["what"] in ("dtSSD", "flicker"))
    assert rows[-1]["after"] < rows[-1]["before"]
    assert runs(stabiliser.main, capsys, tmp_path / "absent").code == 5
    unfit = runs(stabiliser.main, capsys, folder, "--data", tmp_path, "--strip", tmp_path / "strip.png")
    assert (unfit.code, len(unfit.err.strip().splitlines())) == (2, 1)
    assert not (tmp_path / "strip.png").exists()
    assert runs(stabiliser.main, capsys, folder, "--seed", "-1").code == 2
    refused = runs(stabiliser.main, capsys, folder, "--data", tmp_path / "nowhere")
    assert (refused.code, len(refused.err.strip().splitlines())) == (1, 1)
