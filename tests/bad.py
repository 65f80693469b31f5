"""What is given in place of files, folders and arrays, and how a test sees that nothing was changed by it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import cv2
import numpy as np
import pytest

from tests.artefacts import make_artefact, picture

PATIENCE = 300
"""Seconds for one call, also on a busy machine: nothing waits for a pipe."""
MEMORY = 3 << 30
"""Bytes that a call may take beside what the tests have: nothing reads a device to its end."""


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
NAMES: dict[str, Bad] = {
    "long name": Bad("n" * 300),
    "long path": Bad("d/" * 3000 + "f"),
    "null": Bad("a\0b.png"),
    "surrogate": Bad("\ud800.png"),
}
"""Names that no file can have; the command line refuses them as it reads its options (test_names.py)."""
NO_NAME = {"loop", "tilde", *NAMES}
"""What is a matter of usage."""


def make_world(folder: Path) -> Path:
    """Fill a folder with an artefact, a picture, a set, and all that is bad."""
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
