"""``p3m-edge run`` on videos: the input decides, files and folders, what is skipped, refused and gone on with."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from p3m_edge.cli import main
from p3m_edge.video import FileSource
from p3m_edge.video.draft import SEGMENT
from tests.video.clips import sound_of, write_clip

pytest.importorskip("onnxruntime")


def run(capsys, *arguments) -> tuple[int, dict[str, Any]]:
    code = main(["run", *map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_one_file(artefact, tmp_path, capsys):
    clip = write_clip(tmp_path / "clip.mp4", sound=True)
    out = tmp_path / "green.mp4"
    code, report = run(capsys, artefact, clip, "--out", out, "--background", "#00ff00")
    assert (code, report["done"], report["videos"][0]["frames"]) == (0, 1, 10)
    assert report["videos"][0]["outputs"] == [str(out)]
    assert sound_of(out) == sound_of(clip)
    with FileSource(out) as made:
        assert len(list(made)) == 10
    before = out.stat().st_mtime_ns
    code, report = run(capsys, artefact, clip, "--out", out, "--background", "#00ff00")
    assert (code, report["skipped"], out.stat().st_mtime_ns) == (0, 1, before)
    code, report = run(capsys, artefact, clip, "--out", out, "--background", "red", "--force")
    assert (code, report["done"]) == (0, 1)
    assert out.stat().st_mtime_ns > before


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], ["clip.alpha.mp4", "clip.cutout.mov"]), (["--layers"], ["clip.base.mp4", "clip.cutout.mov"]),
        (["--alpha", "--blur", "--codec", "hevc"], ["clip.alpha.mp4", "clip.blur.mp4"]),
        (["--cutout", "--codec", "png"], ["clip.cutout"]), (["--cutout", "--codec", "vp9"], ["clip.cutout.webm"]),
    ],
)  # fmt: skip
def test_a_folder(options, expected, artefact, tmp_path, capsys):
    clip = write_clip(tmp_path / "clip.mp4")
    code, _ = run(capsys, artefact, clip, "--out", tmp_path / "out", *options)
    assert code == 0
    assert names(tmp_path / "out") == expected


def test_several_videos_keep_their_names_apart(artefact, tmp_path, capsys):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    clips = [write_clip(tmp_path / folder / "clip.mp4", stamps=(0, 40)) for folder in ("a", "b")]
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    code, report = run(capsys, artefact, *clips, tmp_path / "bad.mp4", "--out", tmp_path / "out", "--alpha")
    assert (code, report["done"], report["failed"]) == (1, 2, 1)
    assert "cannot be read as a video" in report["videos"][2]["reason"]
    made = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.mp4"))
    assert made == ["a/clip.mp4.alpha.mp4", "b/clip.mp4.alpha.mp4"]


def test_a_video_behind_the_subject(artefact, tmp_path, capsys):
    clip = write_clip(tmp_path / "clip.mp4")
    behind = write_clip(tmp_path / "behind.mp4", stamps=(0, 40, 80))
    code, report = run(capsys, artefact, clip, "--out", tmp_path / "out.mp4", "--background", behind)
    assert (code, report["done"], report["videos"][0]["frames"]) == (0, 1, 10)
    assert report["videos"][0]["remarks"] == []
    with FileSource(tmp_path / "out.mp4") as made:
        assert len(list(made)) == 10


def test_a_folder_of_numbered_pictures(artefact, photo, tmp_path, capsys):
    for number in (1, 2, 10):
        photo(tmp_path / "frames" / f"{number}.png", seed=number)
    code, report = run(capsys, artefact, tmp_path / "frames", "--rate", "25", "--out", tmp_path / "out.mp4", "--blur")
    assert (code, report["videos"][0]["frames"]) == (0, 3)
    with FileSource(tmp_path / "out.mp4") as made:
        assert [round(frame.time * 25) for frame in made] == [0, 1, 2]


def test_what_is_refused(artefact, photo, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clip, picture = write_clip(tmp_path / "clip.mp4", sound=True), photo(tmp_path / "a.png")
    write_clip(tmp_path / "b.mp4")
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    before = names(tmp_path)
    for words, code, match in (
        ([clip, picture, "--out", "out"], 2, "a run of its own"),
        ([picture, "--out", "out", "--codec", "vp9"], 2, "--codec is for videos"),
        ([picture, "--out", "out.mp4"], 2, "named as a video"),
        ([clip, "--out", "out.mp4", "--alpha", "--blur"], 2, "is one file"),
        ([clip, clip.with_name("other.mp4"), "--out", "out.mp4"], 2, "is one file"),
        ([clip, "--out", "out.mp4", "--cutout"], 2, "keeps no alpha"),
        ([clip, "--out", "out.webm", "--blur"], 2, "--mute"),
        ([clip, "--out", clip, "--blur", "--force"], 1, "is the input"),
        ([tmp_path / "none.mp4", "--out", "out.mp4"], 1, "No such file"),
        ([clip, "--out", "out.mov", "--codec", "png"], 2, "makes folders"),
        ([clip, "--out", "out.avi"], 2, "no kind of video that can be written"),
        ([clip, "--out", "out.mp4", "--rate", "25"], 2, "--rate is for a folder of pictures"),
        ([tmp_path, picture, "--out", "out.mp4", "--rate", "25"], 2, "is no video"),
        ([tmp_path, "--out", "out.mp4"], 2, "named as a video"),
        ([picture, "--out", "out", "--background", clip], 2, "is a video, which pictures cannot have"),
        ([clip, "--out", "out.mp4", "--background", "none.mp4"], 1, "none.mp4 cannot be read as a video"),
        ([clip, "--out", "out.mp4", "--background", "bad.mp4"], 1, "bad.mp4 cannot be read as a video"),
        ([clip, "--out", "b.mp4", "--background", "b.mp4", "--force"], 1, "b.mp4 is the background"),
    ):
        assert main(["run", str(artefact), *map(str, words)]) == code
        assert match in capsys.readouterr().err
        assert names(tmp_path) == before


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_ctrl_c_leaves_whole_segments_and_says_so(artefact, tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", stamps=range(0, 40 * (SEGMENT + 200), 40), size=(32, 32))
    command = [sys.executable, "-m", "p3m_edge", "run", artefact, clip, "--out", tmp_path / "out.mp4", "--no-stabilise"]
    process = subprocess.Popen([*map(str, command), "--blur"], stderr=subprocess.PIPE, text=True)
    parts = tmp_path / ".out.mp4.parts"
    deadline = time.monotonic() + 100
    while not (parts / f"{0:09}.mp4").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130
    assert "--resume" in said
    assert names(tmp_path) == [".out.mp4.parts", "clip.mp4"]
    assert main([*map(str, command[3:]), "--blur", "--resume"]) == 0
    with FileSource(tmp_path / "out.mp4") as made:
        assert sum(1 for _ in made) == SEGMENT + 200
