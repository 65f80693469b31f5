"""``p3m-edge live``: a clip that is played at its rate is the camera."""

import importlib.util
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p3m_edge.cli import main
from p3m_edge.video import FileSource
from tests.video.clips import write_clip

pytest.importorskip("onnxruntime")


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_clip_as_camera_recorded(artefact, tmp_path, capsys):
    clip = write_clip(tmp_path / "clip.mp4", stamps=range(0, 1600, 40))
    command = ["live", artefact, "--camera", clip, "--background", "#00ff00", "--record", tmp_path / "me.mkv"]
    assert main([*map(str, command), "--no-window", "--json"]) == 0
    *status, report = lines(capsys.readouterr().out)
    assert report["frames"] + report["dropped"] <= 40
    assert status
    assert status[0]["age"] > 0
    assert set(status[0]["milliseconds"]) >= {"waited", "inferred", "composed"}
    with FileSource(tmp_path / "me.mkv") as made:
        frames = list(made)
    assert len(frames) == report["frames"] > 0
    assert np.abs(frames[-1].image.astype(int) - (0, 255, 0)).max(axis=2).min() < 30
    assert main([*map(str, command), "--no-window"]) == 1
    assert "exists" in capsys.readouterr().err
    assert main([*map(str, command), "--frames", "2", "--force"]) == 0
    told = capsys.readouterr()
    assert "2 frames" in told.out
    with FileSource(tmp_path / "me.mkv") as made:
        assert len(list(made)) == 2


def test_a_video_behind_the_subject(artefact, tmp_path, capsys):
    clip = write_clip(tmp_path / "clip.mp4", stamps=range(0, 800, 40))
    behind = write_clip(tmp_path / "behind.mp4", stamps=(0, 40))
    record = tmp_path / "me.mkv"
    command = ["live", artefact, "--camera", clip, "--background", behind, "--no-window", "--json", "--record"]
    assert main([*map(str, command), str(record)]) == 0
    frames = lines(capsys.readouterr().out)[-1]["frames"]
    with FileSource(record) as made:
        assert len(list(made)) == frames > 0
    for path, what in ((behind, "background"), (clip, "camera")):
        assert main([*map(str, command), str(path), "--force"]) == 1
        assert f"is the {what} and is not overwritten" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_what_a_killed_recording_left_is_gone_after_the_next_one(artefact, tmp_path, capsys):
    stamps = (*range(0, 5000, 1000), *range(60_000, 3_600_000, 60_000))  # it is killed long before the end
    clip = write_clip(tmp_path / "clip.mp4", stamps=stamps, size=(32, 32))
    record = [*map(str, ["live", artefact, "--camera", clip, "--no-window", "--json", "--record"])]
    command = [sys.executable, "-m", "p3m_edge", *record, str(tmp_path / "me.mp4")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in processes:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["frames"] >= 1
    killed, alive = processes
    killed.kill()
    killed.communicate()
    assert len(list(tmp_path.glob(".*.tmp"))) == 2
    assert not (tmp_path / "me.mp4").exists()
    assert main([*record, str(tmp_path / "other.mp4"), "--frames", "1"]) == 0
    capsys.readouterr()
    assert len(list(tmp_path.glob(".*.tmp"))) == 1
    alive.send_signal(signal.SIGINT)
    report = lines(alive.communicate()[0])[-1]
    with FileSource(tmp_path / "me.mp4") as made:
        assert len(list(made)) == report["frames"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "me.mp4", "other.mp4"]


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_ctrl_c_ends_it_and_finishes_the_recording(artefact, tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", stamps=range(0, 300_000, 1000), size=(32, 32))
    command = [sys.executable, "-m", "p3m_edge", "live", artefact, "--camera", clip, "--record", tmp_path / "me.mp4"]
    process = subprocess.Popen(
        [*map(str, command), "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate()
    report = lines(out)[-1]
    assert process.returncode == 130
    assert report["frames"] >= first["frames"] >= 1
    with FileSource(tmp_path / "me.mp4") as made:
        assert len(list(made)) == report["frames"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "me.mp4"]


def test_what_is_not_here(artefact, tmp_path, capsys):
    for words, code, match in (
        (["--camera", "99"], 4, "the camera 99 cannot be opened"),
        (["--camera", tmp_path / "none"], 4, "cannot be opened"),
        (["--background", "red", "--blur"], 2, "two things"), (["--size", "64x64"], 2, "has its own"),
        (["--background", "mauv"], 2, "neither a colour nor a picture"),
    ):  # fmt: skip
        assert main(["live", str(artefact), *map(str, words)]) == code
        assert match in capsys.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec("pyvirtualcam") is not None, reason="pyvirtualcam is here")
def test_a_virtual_camera_needs_what_the_user_installs(artefact, tmp_path, capsys):
    clip = write_clip(tmp_path / "clip.mp4")
    assert main(["live", str(artefact), "--camera", str(clip), "--virtual-camera"]) == 4
    told = capsys.readouterr().err
    assert "pip install pyvirtualcam" in told
    assert "GPL" in told


def test_a_recording_that_cannot_be_written_leaves_nothing(artefact, tmp_path, capsys):
    clip = write_clip(tmp_path / "clip.mp4")
    for name, code, match in (("me.avi", 2, "no kind of video"), ("none/me.mp4", 1, "cannot be written")):
        assert main(["live", str(artefact), "--camera", str(clip), "--record", str(tmp_path / name)]) == code
        assert match in capsys.readouterr().err
    assert [path.name for path in Path(tmp_path).iterdir()] == ["clip.mp4"]
