"""Engines in forked processes: ``fork`` copies an engine without the threads that it needs.

Observed in children of a process that had used an engine: an inference of ONNX Runtime, and the end of its session,
wait for the lost threads; a new session works. OpenVINO (2026.4) deadlocks on its thread library's locks, even in a
model that it compiles there and in the library's destructors. NVIDIA rules CUDA out.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Protocol
from weakref import WeakSet

from p3m_edge.errors import UsageError


class Forked(Protocol):
    """What is told that it is now in a child of the process that made it; it may be told twice."""

    def forked(self) -> None: ...


_bound: WeakSet[Forked] = WeakSet()
_c = ctypes.CDLL(None) if sys.platform == "linux" else None
_used: dict[str, int] = {}  # what does not survive a fork, and the process that used it first


def bind(thing: Forked) -> None:
    """Call ``thing.forked()`` in each child that a fork makes, before anything else happens there."""
    _bound.add(thing)


def use_once(library: str) -> None:
    """Call this before a library is used that does not survive a fork: ``UsageError`` if it was used before one."""
    if _used.setdefault(library, os.getpid()) != os.getpid():
        raise UsageError(
            f"{library} was in use before this process was forked, and does not survive that",
            hint="use it after the fork alone, or start processes by 'spawn' or 'forkserver'",
        )


def keep(thing: object) -> None:
    """Never free it, not even when the interpreter ends: that would wait for threads that are not here, or crash."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _tell() -> None:
    for thing in list(_bound):
        thing.forked()
    if _bound:
        _end_without_destructors()


def _end_without_destructors() -> None:
    """End this process without the libraries' destructors, which would wait for lost threads.

    glibc can be told so; it calls its last handlers first, which flush the streams and exit.
    """
    if _c is not None and hasattr(_c, "on_exit"):
        for last in (_c._exit, _c.fcloseall):
            _c.on_exit(ctypes.cast(last, ctypes.c_void_p), None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_tell)
