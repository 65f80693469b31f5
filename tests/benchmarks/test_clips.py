"""Flicker and hands on clips: what is measured and drawn, whether the marks fit, what cannot be measured."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from p3m_edge.benchmarks import clips
from p3m_edge.errors import InputError
from tests.artefacts import make_artefact
from tests.benchmarks.helpers.scripts import Run, runs

HAND = [(10, 10), (19, 10), (19, 19), (10, 19)]  # 10 x 10 pixels
FRAMES = 6


def write_clip(path: Path) -> Path:
    """A bright square that moves over a still, uneven background, without loss; its first pixel counts the frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"FFV1"), 30, (64, 48))
    assert writer.isOpened()
    still = np.random.default_rng(0).integers(40, 90, (48, 64, 3), np.uint8)
    for number in range(FRAMES):
        frame = still.copy()
        frame[20:30, 5 * number : 5 * number + 10] = 250
        frame[0, 0] = 40 * number
        writer.write(frame)
    writer.release()
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "data" / "clips" / "asl_made_up" / "clip.mkv")


def number_of(frame: np.ndarray) -> int:
    return round(int(frame[0, 0, 0]) / 40)


def test_the_frames_come_in_their_order_and_colours(file: Path) -> None:
    frames = clips.read_frames(file)
    assert [number_of(frame) for frame in frames] == list(range(FRAMES))
    assert (frames[1][20:30, 5:15] > 240).all()
    found = clips.clips(file.parent.parent.parent)
    assert found == {"asl_made_up": file}


def test_known_flicker_and_known_hands_are_measured_as_they_are(file: Path) -> None:
    def unsteady(rgb: np.ndarray) -> np.ndarray:
        alpha = np.full(rgb.shape[:2], 0.6 + 0.1 * (number_of(rgb) % 2), np.float32)
        alpha[:, 15:] = 0.0 if number_of(rgb) == 3 else alpha[0, 0]  # half of the hand is lost in one frame
        return alpha

    def steady(rgb: np.ndarray) -> np.ndarray:
        return np.full(rgb.shape[:2], 0.5, np.float32)

    marks = {"asl_made_up": {2: [HAND], 3: [HAND, [(x + 20, y + 20) for x, y in HAND]]}}
    lines = list(clips.measure({"unsteady": unsteady, "steady": steady}, {"asl_made_up": file}, marks))
    assert [(line.method, line.clip) for line in lines] == [
        ("unsteady", "asl_made_up"), ("unsteady", "all"), ("steady", "asl_made_up"), ("steady", "all"),
    ]  # fmt: skip
    worse, better = lines[1], lines[3]
    assert (worse.frames, worse.hands, worse.whole) == (FRAMES, 3, 1)
    assert worse.kept == pytest.approx(1.5 / 3)
    assert worse.worst == 0
    assert worse.flicker > 10
    assert (better.flicker, better.whole, better.kept, better.worst) == (0, 3, 1, 1)


def test_flicker_of_a_tenth_is_ten(file: Path) -> None:
    def unsteady(rgb: np.ndarray) -> np.ndarray:
        return np.full(rgb.shape[:2], 0.1 * (number_of(rgb) % 2), np.float32)

    line = next(iter(clips.measure({"unsteady": unsteady}, {"asl_made_up": file}, {})))
    assert line.flicker == pytest.approx(10, rel=1e-4)
    assert (line.hands, line.kept, line.worst) == (0, None, None)


@pytest.mark.parametrize("marks", [{FRAMES: [HAND]}, {0: [[(x + 1000, y) for x, y in HAND]]}])
def test_marks_of_another_clip_are_refused(marks: clips.ClipHands) -> None:
    with pytest.raises(InputError, match="of another clip"):
        list(clips.hands([np.ones((48, 64), np.float32)] * FRAMES, marks))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return lambda *words: runs(clips.main, capsys, *words)


def test_the_command_line_measures_an_artefact(run: Run, file: Path, tmp_path: Path) -> None:
    artefact, data = make_artefact(tmp_path / "onnx"), tmp_path / "data"
    done = run(artefact, "--data", data, "--json")
    assert done.code == 0, done.err
    lines = [line for line in json.loads(done.out) if line["method"] == str(artefact)]
    assert [(line["clip"], line["frames"]) for line in lines] == [("asl_made_up", FRAMES), ("all", FRAMES)]
    assert lines[0]["flicker"] == lines[1]["flicker"] >= 0
    table = run(artefact, "--data", data)
    assert table.code == 0
    assert "asl_made_up" in table.out


def test_what_cannot_be_measured_is_one_line(run: Run, file: Path, tmp_path: Path) -> None:
    for folder in (tmp_path / "nowhere", tmp_path):
        done = run(tmp_path, "--data", folder)
        assert (done.code, len(done.err.strip().splitlines())) == (1, 1), done.err
    done = run(tmp_path / "no-artefact", "--data", tmp_path / "data")
    assert (done.code, len(done.err.strip().splitlines())) == (5, 1), done.err


@pytest.mark.parametrize("content", [b"", b"no video", None])
def test_a_clip_that_is_none_is_refused(tmp_path: Path, file: Path, content: bytes | None) -> None:
    broken = tmp_path / "clip.mkv"
    broken.write_bytes(file.read_bytes()[:600] if content is None else content)
    with pytest.raises(InputError, match="cannot be decoded"):
        clips.read_frames(broken)


def test_the_marks_are_on_the_hands_of_the_clips(shared: Path) -> None:
    if not (shared / "data" / "clips").is_dir():
        pytest.skip("../shared/data/clips is not here")
    found = clips.read_marks()
    marks, shown = found.hands, found.strip
    files = clips.clips(shared / "data")
    assert set(marks) == set(files)
    assert sum(map(len, marks.values())) == 20
    for clip, file in files.items():
        frames = clips.read_frames(file)
        everything = [np.ones(frame.shape[:2], np.float32) for frame in frames]
        assert [hand.kept for hand in clips.hands(everything, marks[clip])] == [1] * sum(map(len, marks[clip].values()))
        for number, polygons in marks[clip].items():
            for polygon in polygons:
                assert all(0 <= x < 640 and 0 <= y < 480 for x, y in polygon)
                inside = np.zeros((480, 640), np.uint8)
                cv2.fillPoly(inside, [np.array(polygon, np.int32)], 1)
                red, green, blue = np.median(frames[number][inside != 0], axis=0)
                assert red > green >= blue, (clip, number)  # of skin, and neither of the wall nor of trousers
        assert clip != shown.clip or max(shown.frames) < len(frames)
