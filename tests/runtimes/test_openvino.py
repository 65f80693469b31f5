"""What is OpenVINO's alone: what it keeps of many sizes, and the cores that it leaves to others."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from p3m_edge.runtimes import Matting
from p3m_edge.runtimes.engines import openvino
from tests.artefacts import make_artefact, picture

MAPS = Path("/proc/self/maps")
SIZES = [(height, width) for height in range(32, 480, 32) for width in range(32, 480, 32)]


def compiled_bytes() -> int:
    """The executable memory of this process that is no file's: what was compiled while it runs."""
    total = 0
    for line in MAPS.read_text(encoding="utf-8").splitlines():
        words = line.split()
        if "x" in words[1] and len(words) == 5:
            first, last = (int(address, 16) for address in words[0].split("-"))
            total += last - first
    return total


@pytest.mark.skipif(not MAPS.exists() or platform.machine() != "x86_64", reason="its compiler is one for x86-64")
@pytest.mark.parametrize("start", ["compiled", "from the cache"])
def test_many_sizes_are_not_all_kept(tmp_path: Path, start: str) -> None:
    pytest.importorskip("openvino")
    pytest.importorskip("onnx")
    folder = make_artefact(tmp_path / "artefact", "openvino", size=None)
    if start == "from the cache":
        Matting(folder, threads=1, cache_dir=tmp_path / "cache").close()
    with Matting(folder, threads=1, cache_dir=tmp_path / "cache") as matting:
        assert matting.info.engine.cache == ("hit" if start == "from the cache" else "miss")
        first = matting(picture(*SIZES[0]))
        kept = []
        for index, (height, width) in enumerate(SIZES, 1):
            matting(np.zeros((height, width, 3), np.uint8))
            if index % 65 == 0:
                kept.append(compiled_bytes())
        np.testing.assert_array_equal(matting(picture(*SIZES[0])), first)
    before, after = kept[1:]  # of 65 sizes more; each compiles 2 MB
    assert after - before < 10_000_000


# A process of its own: in this one other tests' engines have left threads of theirs, which may be bound.
WATCHED = """
import os, sys, threading
from contextlib import suppress
from pathlib import Path
import numpy as np
from p3m_edge.runtimes import Matting

threads = None if sys.argv[2] == "None" else int(sys.argv[2])
cores, seen, done = os.sched_getaffinity(0), set(), threading.Event()

def watch():
    while not done.wait(0.001):
        for task in Path("/proc/self/task").iterdir():
            with suppress(ProcessLookupError):  # it has just ended
                seen.add(frozenset(os.sched_getaffinity(int(task.name))))

with Matting(sys.argv[1], threads=threads) as matting:
    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(20):
        matting(np.zeros((256, 256, 3), np.uint8))
    done.set()
    watcher.join()
print(seen == {frozenset(cores)}, sorted(map(sorted, seen)))
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="threads cannot be bound to cores on this system")
@pytest.mark.parametrize("threads", [1, None])
def test_no_thread_is_bound_to_a_core(tmp_path: Path, threads: int | None) -> None:
    pytest.importorskip("openvino")
    pytest.importorskip("onnx")
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("there is but one core")
    artefact = make_artefact(tmp_path / "artefact", "openvino", size=(256, 256))
    command = [sys.executable, "-c", WATCHED, str(artefact), str(threads)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=300)
    assert done.stdout.startswith("True "), done.stdout + done.stderr


@pytest.mark.parametrize(
    ("machine", "limited"), [("x86_64", True), ("AMD64", True), ("aarch64", False), ("arm64", False)]
)
def test_kernels_are_kept_where_they_may_be_used_again(
    machine: str, limited: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On ARM they give wrong mattes: OpenVINO keeps none there, unless it is told how many."""
    told: list[object] = []
    core: Any = SimpleNamespace(set_property=lambda *given: told.append(given))
    monkeypatch.setattr(platform, "machine", lambda: machine)
    openvino._keep_few(core)
    assert bool(told) == limited
