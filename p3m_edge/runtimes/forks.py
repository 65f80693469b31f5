"""What belongs to the process that made it: an engine has threads, and ``fork`` takes none of them along.

Seen in children of a process in which an engine was at work: ONNX Runtime's inference waits for lost threads, and so
does the end of its session; a new session is sound. OpenVINO (2026.4) finds locks of its thread library taken for ever,
in a model that it compiles anew as in that library's destructors. CUDA cannot be used there at all, by NVIDIA's word.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Protocol
from weakref import WeakSet

from p3m_edge.errors import UsageError


class Forked(Protocol):
    """What must know that it is now in a child of the process that made it. It may be told twice."""

    def forked(self) -> None: ...


_bound: WeakSet[Forked] = WeakSet()
_c = ctypes.CDLL(None) if sys.platform == "linux" else None
_used: dict[str, int] = {}  # what does not survive a fork, and the process that used it first


def bind(thing: Forked) -> None:
    """Have ``thing.forked()`` called in each child that a fork makes, before anything else happens there."""
    _bound.add(thing)


def use_once(library: str) -> None:
    """Call this before a library is used that does not survive a fork: ``UsageError`` if it was used before one."""
    if _used.setdefault(library, os.getpid()) != os.getpid():
        raise UsageError(
            f"{library} was in use before this process was forked, and does not survive that",
            hint="use it after the fork alone, or start processes by 'spawn' or 'forkserver'",
        )


def keep(thing: object) -> None:
    """Never free it, not even when the interpreter ends: its end would wait for threads that are not here, or crash."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _tell() -> None:
    for thing in list(_bound):
        thing.forked()
    if _bound:
        _end_without_destructors()


def _end_without_destructors() -> None:
    """Let this process end when Python has: then come the destructors of libraries, which would wait for lost threads.

    Where the C library can be told so. Its last handlers are called first: the streams are flushed, then it is over.
    """
    if _c is not None and hasattr(_c, "on_exit"):  # of glibc
        for last in (_c._exit, _c.fcloseall):
            _c.on_exit(ctypes.cast(last, ctypes.c_void_p), None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_tell)
