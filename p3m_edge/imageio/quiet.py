"""No warnings in one thread, while others keep theirs."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import cast


class _Reading(threading.local):
    """Whether this thread reads a file."""

    now = False


_THREAD = _Reading()


class _OfReaders(type):
    def __subclasscheck__(cls, category: type) -> bool:
        return _THREAD.now


class _ReadersWarning(Warning, metaclass=_OfReaders):
    """Every category of warnings belongs to this one in a thread that reads a file, and none in any other."""


_IGNORED = ("ignore", None, _ReadersWarning, None, 0)


@contextmanager
def no_warnings() -> Iterator[None]:
    """No warnings in this thread: Pillow reports oddities so.

    Python's filters belong to the process, and other threads use and replace them meanwhile: this adds one that
    concerns no other thread, and takes it out of the list that it was added to. Readers do not wait for each other.
    """
    filters = cast("list[object]", warnings.filters)
    before, _THREAD.now = _THREAD.now, True
    filters.insert(0, _IGNORED)
    try:
        yield
    finally:
        _THREAD.now = before
        with suppress(ValueError):  # somebody emptied the list
            filters.remove(_IGNORED)
