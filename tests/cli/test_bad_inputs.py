"""Every argument that names a file, given everything that is not one: one clear line, an exit code, nothing changed.

So on the command line, and in Python, where it is an error of the package.

A fault that is found elsewhere becomes a row of one of the two tables.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import cv2
import numpy as np
import pytest

from p3m_edge import imageio
from p3m_edge import manifest as manifests
from p3m_edge.cli import main
from p3m_edge.data.lists import read_list
from p3m_edge.data.sets import open_set
from p3m_edge.errors import P3MEdgeError
from p3m_edge.runtimes import Matting
from tests.artefacts import make_artefact, picture
from tests.tools import load_tool

pytest.importorskip("torch", reason="torch is not installed")

PATIENCE = 300
"""Seconds for one call, also on a busy machine: nothing waits for a pipe."""
MEMORY = 3 << 30
"""Bytes that a call may take beside what the tests have: nothing reads a device to its end."""

PICTURE, FOLDER, ARTEFACT, TEXT = {1}, {1, 2}, {1, 2, 5}, {1, 2, 5}

ARGUMENTS: dict[str, tuple[str, set[int]]] = {
    "run: picture": ("run art {} --out out", PICTURE),
    "run: background": ("run art ok.png --background {} --out out", FOLDER),
    "verify": ("verify {}", {5}),
    "inspect": ("inspect {}", {5}),
    "bench: artefact": ("bench {} --rounds 1 --iterations 1 --out out", ARTEFACT),
    "bench: frame": ("bench art --rounds 1 --iterations 1 --frame {} --out out", PICTURE),
    "bench: import": ("bench --import {} --out out", TEXT),
    "export: checkpoint": ("export --checkpoint {} --target onnx-fp32 --size 64x64 --out out", {5}),
    "export: parity pictures": (
        "export --arch mobile --target onnx-fp32 --size 64x64 --parity-images {} --out out", FOLDER,
    ),
    "export: calibration": ("export --arch mobile --target openvino-int8 --size 64x64 --calib {} --out out", FOLDER),
    "sensitivity: calibration": ("sensitivity --size 64x64 --calib {}", FOLDER),
    "build": ("build {}", {5}),
    "eval: set": ("eval {} --model background --out out", FOLDER),
    "eval: model": ("eval set --model {} --out out", ARTEFACT),
    "train: config": ("train --config {} --data set --out out", TEXT),
    "train: data": ("train --preset mobile --data {} --out out", FOLDER),
    "train: weights": ("train --preset mobile --data set --weights {} --out out", {5}),
    "train: encoder": ("train --preset mobile --data set --encoder-weights {} --out out", {5}),
    "train: faces": ("train --preset mobile --data set --cp icp --faces {} --out out", FOLDER),
    "train: resume": ("train --resume --out {}", TEXT),
    "ablate_cp: data": ("ablate_cp.py --data {} --test set --faces set --steps 1 --seeds 1 --out out", FOLDER),
    "anonymize: in": ("data anonymize {} out", FOLDER),
    "anonymize: boxes": ("data anonymize set out --boxes {}", TEXT),
    "check": ("data check {}", FOLDER),
    "list: set": ("data list {} --out out", FOLDER),
    "list: about": ("data list set --about {} --out out", TEXT),
    "list: apart": ("data list set --apart-from {} --out out", TEXT),
    "compose: portraits": ("data compose out --portraits {} --backgrounds set -n 1 --seed 1", FOLDER),
    "compose: backgrounds": ("data compose out --portraits set --backgrounds {} -n 1 --seed 1", FOLDER),
    "places": ("data places {} out", FOLDER),
}  # fmt: skip


class Bad(NamedTuple):
    """What is given in place of a file: its name, and how it is made (None: it is not there)."""

    name: str
    content: bytes | None = None


BAD: dict[str, Bad] = {
    "missing": Bad("missing.png"),
    "empty": Bad("empty.png", b""),
    "text": Bad("text.png", b"this is no picture, and no model\n"),
    "page": Bad("page.png", b"<!DOCTYPE html><html><body>404</body></html>"),
    "pointer": Bad(
        "pointer.png", b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n"
    ),
    "noise": Bad("noise.png", np.random.default_rng(0).bytes(4096)),
    "bomb": Bad("bomb.png", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x7f\xff\xff\xff\x7f\xff\xff\xff\x08\x02\x00\x00\x00"),
    "deep JSON": Bad("deep.json", b"[" * 100_000),
    "deep TOML": Bad("deep.toml", b"a = " + b"[" * 100_000),
    "long number": Bad("number.toml", b"run = " + b"9" * 5000),
    "wide CSV": Bad("wide.csv", b"name,kind,x,y,width,height\n" + b"a" * 200_000 + b",b,1,2,3,4\n"),
    "mark": Bad("mark.csv", b"\xef\xbb\xbf"),
    "zip": Bad("model.pth", b"PK\x05\x06" + bytes(18)),
    "header": Bad("header.safetensors", b"\xff" * 7 + b"\x7f{}"),
    "deep header": Bad("deep.safetensors", (50_000).to_bytes(8, "little") + b'{"a":' + b"[" * 49_995),
    "folder": Bad("folder"),
    "loop": Bad("loop"),
    "pipe": Bad("pipe.png"),
    "device": Bad("/dev/zero"),
    "escape": Bad("\x1b[31mred.png"),
    "dots": Bad("../../../../../../../../nowhere/none"),
    "tilde": Bad("~nobody-has-this-name/a.png"),
}
NO_NAME = {"loop", "tilde"}
"""Those that no file can have, which is a matter of usage; test_names.py has the others."""
NAMES = {
    "long name": Bad("n" * 300), "long path": Bad("d/" * 3000 + "f"), "null": Bad("a\0b.png"),
    "surrogate": Bad("\ud800.png"),
}  # fmt: skip
"""Names that the command line refuses as it reads its options."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an artefact, a picture, a set, and all that is bad."""
    folder = tmp_path_factory.mktemp("world")
    make_artefact(folder / "art")
    write(folder / "ok.png", picture(40, 60))
    for name in ("one", "two"):
        write(folder / "set" / "image" / f"{name}.png", picture(96, 80, len(name)))
        matte = np.zeros((96, 80), np.uint8)
        matte[20:, 10:70] = 255
        write(folder / "set" / "alpha" / f"{name}.png", matte)
    for bad in BAD.values():
        if bad.content is not None:
            (folder / bad.name).write_bytes(bad.content)
    (folder / "folder").mkdir()
    (folder / "loop").symlink_to("loop")
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.png")
    return folder


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    done, data = cv2.imencode(".png", pixels)
    assert done
    path.write_bytes(data.tobytes())


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        found[path.relative_to(folder).as_posix()] = (status.st_size, status.st_mtime_ns * path.is_file())
    return found


@contextmanager
def guarded() -> Iterator[None]:
    """Time and memory are limited, where the system can do so."""
    if sys.platform != "linux":
        yield
        return
    import resource

    def late(_number: int, _frame: FrameType | None) -> None:
        pytest.fail(f"it did not end within {PATIENCE} s")

    before = signal.signal(signal.SIGALRM, late)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, hard))
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGALRM, before)


def check(code: int, stdout: str, stderr: str, expected: set[int], *, as_json: bool) -> None:
    errors = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, stderr
    assert code in expected, (code, stderr)
    assert "internal error" not in stderr, stderr
    assert "Traceback" not in stderr, stderr
    assert len(errors[0]) < 1000, stderr
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", stderr), ascii(stderr)
    if as_json:
        assert json.loads(stdout)["error"]["exit_code"] == code


CASES = [(argument, bad) for argument in ARGUMENTS for bad in BAD]
PROCESSES = {
    ("run: picture", "pipe"), ("inspect", "escape"), ("bench: import", "deep JSON"), ("check", "device"),
    ("list: about", "wide CSV"),
}  # fmt: skip
"""Those that are asked of a process of its own, without PyTorch; the others of this one, by the same function."""


@pytest.mark.skipif(os.name == "nt", reason="names and devices of POSIX systems")
@pytest.mark.parametrize(("argument", "bad"), CASES, ids=[f"{argument}, {bad}" for argument, bad in CASES])
def test_what_is_not_a_file_costs_one_line(
    argument: str, bad: str, world: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    line, expected = ARGUMENTS[argument]
    words = [word.replace("{}", BAD[bad].name) for word in line.split()]
    as_json = CASES.index((argument, bad)) % 3 == 0
    words += ["--json"] * as_json
    before = snapshot(world)
    if (argument, bad) in PROCESSES:
        command = [sys.executable, "-m", "p3m_edge", *words]
        done = subprocess.run(command, cwd=world, capture_output=True, encoding="utf-8", timeout=PATIENCE, check=False)
        code, stdout, stderr = done.returncode, done.stdout, done.stderr
    else:
        monkeypatch.chdir(world)
        with guarded():
            name, tool, rest = words[0].partition(".py")[0], words[0].endswith(".py"), words[1:]
            code = main(rest, tool=load_tool(name)) if tool else main(words)
        stdout, stderr = capfd.readouterr()
    check(code, stdout, stderr, expected | {2} if bad in NO_NAME else expected, as_json=as_json)
    out = world / "out"
    if out.is_dir() and not any(out.iterdir()):
        out.rmdir()
    assert snapshot(world) == before


def load(path: Path) -> object:
    from p3m_edge.model import load_checkpoint

    return load_checkpoint(path)


CALLS: dict[str, Callable[[Path], object]] = {
    "Matting": Matting, "manifest.read": manifests.read, "load_checkpoint": load, "read_image": imageio.read_image,
    "read_mask": imageio.read_mask, "count_frames": imageio.count_frames, "open_set": open_set, "read_list": read_list,
}  # fmt: skip


@pytest.mark.skipif(os.name == "nt", reason="names and devices of POSIX systems")
@pytest.mark.parametrize("bad", [*BAD, *NAMES])
@pytest.mark.parametrize("call", CALLS)
def test_in_python_it_is_an_error_of_the_package(
    call: str, bad: str, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshot(world)
    monkeypatch.chdir(world)
    with guarded(), pytest.raises(P3MEdgeError) as caught:
        CALLS[call](Path((BAD | NAMES)[bad].name))
    assert str(caught.value).strip()
    assert snapshot(world) == before
