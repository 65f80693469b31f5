"""What is to be done, and what has been: a marker in the output for each, written when its results are there.

A marker's name says all of it, so that one listing of the output shows what is done: the name of the results; the
addresses of the inputs with what their store says of their content (ETag) or its SHA-256; artefact and settings.
Before results are replaced, their marker goes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from p3m_edge.bulk.store import Store, tag
from p3m_edge.errors import InputError, OutputError, UsageError

CLAIM = ".p3m-edge/bulk"
DONE = ".p3m-edge/done/"
_READERS = 16


@dataclass(frozen=True)
class Item:
    """One picture.

    Attributes
    ----------
    name
        Of its results below the output; no other item has it.
    inputs
        The addresses of its files.
    tags
        What their store said of their content; None: their content is hashed.
    outputs
        Which files make it complete: all of one of these groups.
    payload
        What the work needs to know besides.
    known
        As text, what of that decides what comes out.
    stale
        Files to remove before its results are written.
    """

    name: str
    inputs: tuple[str, ...]
    tags: tuple[str | None, ...]
    outputs: tuple[tuple[str, ...], ...]
    payload: object = None
    known: str = ""
    stale: tuple[str, ...] = ()

    def marker(self, settings: str) -> str:
        """The name of its marker. :class:`InputError`: an input cannot be read."""
        tags = (said or tag(where) for where, said in zip(self.inputs, self.tags, strict=True))
        content = self.known + "\0".join(part for pair in zip(self.inputs, tags, strict=True) for part in pair)
        return f"{DONE}{digest(self.name)}-{digest(content)}-{settings}"


def digest(text: str | bytes) -> str:
    """32 hexadecimal digits."""
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
    return hashlib.sha256(data).hexdigest()[:32]


@dataclass(frozen=True)
class Plan:
    """What is left to do, what is done, and how many results in the output belong to none of the inputs now."""

    left: tuple[Item, ...]
    done: tuple[Item, ...]
    gone: int


def make_plan(store: Store, items: Sequence[Item], settings: str, *, force: bool) -> Plan:
    """Compare what is wanted with the markers, and claim the output.

    Raises
    ------
    UsageError
        The output holds results of another artefact or other settings, and they may not be replaced (``force``).
    OutputError
        It holds results without markers, of who knows what; or it cannot be read or written.
    """
    there = store.names()
    marks: dict[str, list[str]] = {}
    for name in there:
        if name.startswith(DONE):
            marks.setdefault(name.removeprefix(DONE).partition("-")[0], []).append(name)
    mine = [marks.pop(digest(item.name), []) for item in items]
    if not force:
        if any(not mark.endswith(f"-{settings}") for found in mine for mark in found):
            text = f"{store.where} holds results of another artefact or of other settings"
            raise UsageError(text, hint="choose another --out; --force replaces them")
        foreign = (file for item in items for group in item.outputs for file in group if file in there)
        if CLAIM not in there and (file := next(foreign, None)) is not None:
            text = f"{store.where} holds results without done-markers, such as {file}"
            raise OutputError(text, hint="choose another --out; --force replaces them")
    store.write(CLAIM, b"This folder says what p3m-edge has done: a later run goes on there.\n")

    def is_done(item: Item, found: list[str]) -> bool:
        try:
            # What has no marker is not read; what has one is hashed, unless its store says what is in it.
            marked = bool(found) and item.marker(settings) in found
        except InputError:  # its turn will say why
            return False
        return marked and any(there.issuperset(group) for group in item.outputs)

    with ThreadPoolExecutor(_READERS) as pool:
        done = [False] * len(items) if force else list(pool.map(is_done, items, mine))
    left = []
    for item, found, so in zip(items, mine, done, strict=True):
        if not so:
            old = sorted({file for group in item.outputs for file in group} & there)
            left.append(replace(item, stale=(*found, *old)))
    finished = tuple(item for item, so in zip(items, done, strict=True) if so)
    return Plan(tuple(left), finished, len(marks))
