"""Folders that are watched: which pictures in them are new, and complete."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from p3m_edge.errors import InputError
from p3m_edge.pictures.sources import Source, Sources, listed, without_own

EVERY = 0.5  # seconds between two looks

_State = tuple[int, int, int]  # of a file: inode, size, time of its last change


def watch(folders: Sequence[Path], *, recursive: bool = False, every: float = EVERY) -> Iterator[Sources]:
    """Look into folders again and again: each time the pictures that are complete, and were not given before.

    A picture is complete when it is not empty and two looks have found the same file, of one size and one time of its
    last change. One that changes later is given again. What cannot be listed is among the failures once, and looked at
    all the same. It ends when it is closed; an :class:`InputError` says that something is no folder now.
    """
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder} is no folder, and only folders can be watched")
    return _looks(folders, recursive, every)


def _looks(folders: Sequence[Path], recursive: bool, every: float) -> Iterator[Sources]:
    before: dict[Source, _State] = {}
    given: dict[Source, _State] = {}
    told: set[Path] = set()
    while True:
        failures = {folder: "is gone, and waited for" for folder in folders if not folder.is_dir()}
        found: dict[Source, Path | None] = {}
        if not failures:  # the sub-folders that results go to depend on all folders
            found = dict(listed(folders, failures, recursive=recursive))
        now = {source: state for source in found if (state := _state(source.path)) is not None}
        ready = [source for source, state in now.items() if before.get(source) == state != given.get(source)]
        given = {source: state for source, state in given.items() if source in now} | {s: now[s] for s in ready}
        before = now
        new = {path: why for path, why in failures.items() if path not in told}
        told = set(failures)
        yield without_own([(source, found[source]) for source in ready], new)
        time.sleep(every)


def _state(path: Path) -> _State | None:
    """None: it is empty, or not there."""
    with suppress(OSError):
        status = path.stat()
        if status.st_size:
            return status.st_ino, status.st_size, status.st_mtime_ns
    return None
