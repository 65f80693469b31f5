"""Put a new artefact in the place of an old one, and be interrupted at every step of it, one after the other.

    python interrupted.py FOLDER (kill|raise) (exchange|rename)

Each step has a process of its own, whose n-th change of the disc kills it or raises; afterwards the artefact is read,
and another one is put in its place. What came of each step is a line of JSON.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path

from p3m_edge import folder as folders
from p3m_edge import manifest as manifests
from tests.core.test_targets_manifest import example

NAME = "onnx-fp16"
CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree", "ctypes.dlsym"}
"""What Python tells of: each removal and renaming, and that a function of the C library is asked for."""


def fill(folder: Path, version: str) -> None:
    (folder / "model.onnx").write_text(version)
    (folder / "golden.npz").write_bytes(b"golden")
    manifests.write(example(files=manifests.record_files(folder), p3m_edge=version), folder)


def export(out: Path, version: str) -> None:
    with folders.workspace(out, NAME, force=True) as partial:
        fill(partial, version)
        folders.settle(partial, out / NAME, passed=True)


def version_in(out: Path) -> str:
    found = manifests.read(out / NAME)
    manifests.check_files(found, out / NAME)
    return found.p3m_edge


def interrupted(out: Path, number: int, how: str) -> bool:
    """Whether the export had that many steps."""
    left = number

    def step(event: str, _: tuple[object, ...]) -> None:
        nonlocal left
        if event not in CHANGES:
            return
        left -= 1
        if left == 0 and how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if left == 0:
            raise KeyboardInterrupt

    child = os.fork()
    if child == 0:
        code = 2
        sys.addaudithook(step)
        try:
            export(out, "new")
            code = 0
        except KeyboardInterrupt:
            code = 1
        finally:
            os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 1 if how == "raise" else -signal.SIGKILL), status
    return status != 0


def main() -> None:
    home, how, form = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    if form == "rename":

        def nothing(*_: object) -> None:
            raise OSError("no library here")

        ctypes.CDLL = nothing  # type: ignore[assignment, misc]  # in the place of a class
    number, more = 1, True
    while more:
        out = home / str(number)
        export(out, "old")
        (out / f"{NAME}.rejected").mkdir()
        more = interrupted(out, number, how)
        found = {"step": number, "interrupted": more, "read": version_in(out)}
        export(out, "next")
        print(json.dumps({**found, "then": version_in(out), "left": sorted(path.name for path in out.iterdir())}))
        number += 1


if __name__ == "__main__":
    main()
