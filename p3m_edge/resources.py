"""The cores and the memory that this process may use, within the limits of its container or service.

Linux keeps these limits in files (control groups), which are read below ``root``; other systems have none. Engines,
PyTorch and Python ignore the quota when they count cores; OpenCV reads that of a container by itself.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

ROOT = Path("/")


def usable_cores(root: Path = ROOT) -> int:
    """The cores that this process may use: the smallest of machine, affinity and quota, rounded down; at least 1."""
    quota = processor_quota(root)
    return max(1, _cores() if quota is None else min(_cores(), int(quota)))


def thread_limit(root: Path = ROOT) -> int | None:
    """The threads for an engine that is to choose by itself: as many as the quota has cores; None: its own choice."""
    cores = usable_cores(root)
    return cores if cores < _cores() else None


def limit_threads() -> None:
    """Have OpenMP (PyTorch, scikit-image) and OpenBLAS (NumPy) start no more threads than the quota has cores.

    For what this process imports from now on, and for its children; what the user has set stands.
    """
    limit = thread_limit()
    if limit is not None:
        os.environ.setdefault("OMP_NUM_THREADS", str(limit))


def processor_quota(root: Path = ROOT) -> float | None:
    """The processor time that the control groups allow, in cores; None: all of it."""
    quotas = []
    for folder in _groups("cpu", root):
        whole = _numbers(folder / "cpu.max") or _numbers(folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us")
        if len(whole) == 2 and min(whole) > 0:
            quotas.append(whole[0] / whole[1])
    return min(quotas, default=None)


def release_memory() -> None:
    """Give freed memory back to the system: glibc keeps what lies below something in use, and more of it each time."""
    if sys.platform == "linux":
        with suppress(AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


def memory_left(root: Path = ROOT) -> int | None:
    """The bytes that control groups and limits of this process (``ulimit``) leave it; None: they set no limit.

    What the kernel would drop for it (files that were read) counts as free.
    """
    left = [*_left_by_groups(root), *_left_by_process(root)]
    return max(0, min(left)) if left else None


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _left_by_groups(root: Path) -> Iterator[int]:
    versions = (("memory.max", "memory.current", ""), ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"))
    for folder in _groups("memory", root):
        for limit, used, prefix in versions:
            found = _numbers(folder / limit, folder / used)
            if len(found) == 2:
                files = (f"{prefix}inactive_file ", f"{prefix}active_file ")
                lines = _read(folder / "memory.stat").splitlines()
                yield found[0] - found[1] + sum(int(line.split()[1]) for line in lines if line.startswith(files))


def _left_by_process(root: Path) -> Iterator[int]:
    with suppress(ImportError):  # Windows
        import resource

        used = _numbers(root / "proc/self/statm")  # in pages: all of it first, data and stack at place 5
        for limit, place in ((resource.RLIMIT_AS, 0), (resource.RLIMIT_DATA, 5)):
            allowed = resource.getrlimit(limit)[0]
            if len(used) > place and allowed != resource.RLIM_INFINITY:
                yield allowed - used[place] * resource.getpagesize()


def _groups(controller: str, root: Path) -> Iterator[Path]:
    """The folders of the control groups that this process is in, and of those above them: each may set a limit.

    Version 2 has one tree for all controllers, version 1 one for each. A container sees its own group as the top one,
    though version 1 names it as the machine does.
    """
    base = root / "sys/fs/cgroup"
    for line in ("0::/", f"1:{controller}:/", *_read(root / "proc/self/cgroup").splitlines()):
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if not controllers:
            trees = {base, base / "unified"}
        elif controller in controllers.split(","):
            trees = {base / controllers, base / controller}
        else:
            continue
        parts = [part for part in PurePosixPath(path).parts if part not in ("/", "..")]
        for tree in trees:
            yield from (tree.joinpath(*parts[:depth]) for depth in range(len(parts) + 1))


def _numbers(*paths: Path) -> list[int]:
    """The whole numbers that the files hold, one after the other; none where anything else is there, as ``max``."""
    words = " ".join(_read(path) or "none" for path in paths).split()
    return [int(word) for word in words] if all(word.isdecimal() for word in words) else []


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
