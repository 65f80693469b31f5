"""``p3m-edge run`` on many pictures: folders, patterns, lists, watched folders; a real process where it matters."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from p3m_edge import imageio
from p3m_edge.cli import main
from p3m_edge.runtimes import Matting, compose
from tests import icc
from tests.artefacts import picture

POSIX = pytest.mark.skipif(os.name == "nt", reason="signals and file names are others on Windows")


def run(capsys, *arguments) -> tuple[int, dict[str, Any]]:
    code = main(["run", *map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "p3m_edge", "run", *map(str, arguments)]


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def read(path: Path) -> np.ndarray:
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    return pixels


def mixed(folder: Path) -> list[Path]:
    """Pictures of many kinds in sub-folders, every fourth of which is damaged."""
    profile = icc.rgb_profile(icc.P3)
    turned = Image.Exif()
    turned[0x0112] = 6
    for index in range(24):
        pixels = picture(40 + index, 60, index)
        path = folder / f"{'abc'[index % 3]}/{index:02}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if index % 4 == 3:
            path.with_suffix(".jpg").write_bytes(b"\xff\xd8\xff" + b"x" * index)
        elif index % 4 == 2:
            imageio.write_png(path.with_suffix(".png"), pixels.astype(np.uint16) * 257, icc_profile=profile)
        elif index % 8 == 0:
            Image.fromarray(pixels).save(path.with_suffix(".jpg"), exif=turned, icc_profile=profile)
        else:
            Image.fromarray(pixels).save(path.with_suffix((".webp", ".tif")[index % 2]))
    return [path for name in "abc" for path in sorted((folder / name).iterdir())]


def test_a_folder_gives_what_each_picture_alone_gives_in_the_order_of_names(artefact, tmp_path, capsys):
    paths = mixed(tmp_path / "in")
    out = tmp_path / "out"
    code, report = run(capsys, artefact, tmp_path / "in", "--recursive", "--out", out)
    assert code == 1
    assert [Path(item["input"]) for item in report["pictures"]] == paths
    assert (report["done"], report["failed"]) == (18, 6)
    with Matting(artefact) as matting:
        for path, outcome in zip(paths, report["pictures"], strict=True):
            if outcome["status"] == "failed":
                assert int(path.stem) % 4 == 3
                continue
            source, (alpha, cutout) = imageio.read_image(path), map(Path, outcome["outputs"])
            assert alpha == out / path.parent.name / f"{path.stem}.alpha.png"
            expected = matting(source.rgb)
            assert np.array_equal(read(alpha), compose.quantized(expected, source.own.dtype))
            made = imageio.read_image(cutout)
            assert (made.own.dtype, made.icc_profile) == (source.own.dtype, source.icc_profile)
            opaque = expected == 1
            assert np.array_equal(made.own[opaque], source.own[opaque])
            if int(path.stem) % 8 == 0:
                assert source.orientation == 6


def test_with_little_memory_pictures_wait_for_each_other(artefact, photo, tmp_path, capsys):
    for index in range(12):
        photo(tmp_path / f"in/{index:02}.png", 100, 100, index)
    words = (artefact, tmp_path / "in", "--out", tmp_path / "out", "--alpha", "--max-memory", 150_000 / 1e9)
    code, report = run(capsys, *words)
    assert (code, report["done"]) == (0, 12)


def test_resume_is_what_pictures_do_anyway(artefact, photo, tmp_path, capsys):
    for name in ("a.png", "b.png"):
        photo(tmp_path / "in" / name)
    words = (artefact, tmp_path / "in", "--out", tmp_path / "out", "--resume")
    assert run(capsys, *words)[1]["done"] == 2
    (tmp_path / "out/b.cutout.png").unlink()
    code, report = run(capsys, *words)
    assert (code, [item["status"] for item in report["pictures"]]) == (0, ["skipped", "done"])
    code, report = run(capsys, *words, "--force")
    assert (code, "--force replaces them" in report["error"]["message"]) == (2, True)


def test_patterns(artefact, photo, tmp_path, capsys, monkeypatch):
    for name in ("x/a.png", "x/y/b.png", "x/[1].png", "x/c.jpg"):
        photo(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for pattern, found in (("x/*.png", ["[1].png", "a.png"]), ("x/**/*.png", None), ("x/[1].png", ["[1].png"])):
        _, report = run(capsys, artefact, pattern, "--out", "out", "--alpha")
        assert [Path(item["input"]).name for item in report["pictures"]] == (found or ["[1].png", "a.png", "b.png"])
    code, report = run(capsys, artefact, "x/*.gif", "x/a.png", "--out", "out")
    assert (code, report["pictures"][0]["reason"]) == (1, "does not exist")


@pytest.mark.parametrize("form", ["lines", "CRLF and a mark", "NUL", "UTF-16"])
def test_lists(form, artefact, photo, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["in/a b.png", "in/é.png", str(tmp_path / "in/c.png"), "in/absent.png", f"in/{'long' * 80}.png"]
    for name in names[:3]:
        photo(Path(name))
    (tmp_path / "list").write_bytes(
        {
            "lines": "\n".join(names).encode(),
            "CRLF and a mark": b"\xef\xbb\xbf" + "\r\n".join(["", *names, "", ""]).encode(),
            "NUL": "\0".join([*names, ""]).encode(),
            "UTF-16": "\r\n".join(names).encode("utf-16"),
        }[form]
    )
    code, report = run(capsys, artefact, "--files-from", "list", "--out", "out", "--alpha")
    assert code == 1
    status = {item["input"]: item["status"] for item in report["pictures"]}
    assert status == dict.fromkeys(names[:3], "done") | dict.fromkeys(names[3:], "failed")
    assert files(tmp_path / "out") == ["a b.alpha.png", "c.alpha.png", "é.alpha.png"]


@POSIX
def test_standard_input_has_names_of_any_bytes(artefact, photo, tmp_path):
    photo(tmp_path / "a.png").rename(tmp_path / os.fsdecode(b"\xff\n.png"))
    photo(tmp_path / "b.png")
    words = command(artefact, tmp_path / "b.png", "--files-from", "-", "--out", tmp_path / "out", "--json", "--alpha")
    done = subprocess.run(words, input=os.fsencode(tmp_path) + b"/\xff\n.png\0", capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["done"] == 2
    assert (tmp_path / "out" / os.fsdecode(b"\xff\n.alpha.png")).exists()


def test_lists_that_are_none(artefact, photo, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").write_text("\n \n")
    for words, code, told in (
        (["--files-from", "absent"], 1, "the list absent cannot be read: No such file"),
        (["--files-from", "."], 1, "it is a folder"),
        (["--files-from", "empty"], 1, "holds no names"),
        ([], 2, "no pictures were named"),
        (["-"], 2, "- is no input"),
    ):
        assert main(["run", str(artefact), *words, "--out", "out"]) == code
        assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_lines_of_json_come_in_order_and_the_counts_last(artefact, photo, tmp_path, command_line):
    for index in range(6):
        photo(tmp_path / f"in/{index}.png")
    (tmp_path / "in/3.png").write_bytes(b"no picture")
    words = ("run", artefact, tmp_path / "in", "--out", tmp_path / "out", "--json-lines")
    done = command_line(*words)
    assert done.returncode == 1
    *lines, last = map(json.loads, done.stdout.splitlines())
    assert [Path(line["input"]).name for line in lines] == [f"{index}.png" for index in range(6)]
    assert [line["status"] for line in lines] == ["done"] * 3 + ["failed"] + ["done"] * 2
    assert (last["done"], last["failed"], last["pictures"]) == (5, 1, [])
    assert last["error"]["message"] == "1 of 6 inputs failed"
    wrong = command_line(*words, "--background", "greeen")
    (line,) = wrong.stdout.splitlines()
    assert json.loads(line)["error"]["exit_code"] == wrong.returncode == 2


@POSIX
def test_a_watched_folder(artefact, photo, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    words = command(artefact, folder, "--out", out, "--watch", "--json-lines")
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")
    assert process.stdout is not None
    whole = photo(tmp_path / "a.jpg").read_bytes()
    for name, data, status in (("a.jpg", whole, "done"), ("b.jpg", whole[:-99], "failed"), ("b.jpg", whole, "done")):
        (tmp_path / "moved").write_bytes(data)
        (tmp_path / "moved").rename(folder / name)
        line = json.loads(process.stdout.readline())
        assert (Path(line["input"]).name, line["status"]) == (name, status)
    process.send_signal(signal.SIGINT)
    rest, told = process.communicate(timeout=300)
    assert process.returncode == 130, told
    (last,) = map(json.loads, rest.splitlines())
    assert (last["done"], last["failed"]) == (2, 1)
    assert files(out) == ["a.alpha.png", "a.cutout.png", "b.alpha.png", "b.cutout.png"]


def test_what_cannot_be_watched(artefact, photo, tmp_path, capsys):
    code, report = run(capsys, artefact, photo(tmp_path / "a.png"), "--out", tmp_path / "out", "--watch")
    assert (code, "only folders can be watched" in report["error"]["message"]) == (1, True)


@POSIX
def test_a_run_that_was_killed_leaves_whole_files_and_goes_on(artefact, photo, tmp_path, capsys):
    data = photo(tmp_path / "in/00.png", 300, 400).read_bytes()
    for index in range(1, 40):
        (tmp_path / f"in/{index:02}.png").write_bytes(data)
    words = (artefact, tmp_path / "in", "--out", tmp_path / "out", "--alpha")
    process = subprocess.Popen(command(*words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (tmp_path / "out/03.alpha.png").exists():
        time.sleep(0.01)
    process.kill()
    process.wait(60)
    made = [path for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")]
    assert 0 < len(made) < 40
    for path in made:
        assert imageio.read_image(path).rgb.shape == (300, 400, 3)
    code, report = run(capsys, *words, "--resume")
    assert (code, report["skipped"], report["done"]) == (0, len(made), 40 - len(made))
