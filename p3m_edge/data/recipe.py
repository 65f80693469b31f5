"""Folders that the data tools fill: what each was made with is kept in it, so that a later run can continue it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from p3m_edge.atomic import atomic_write
from p3m_edge.errors import InputError, OutputError, UsageError
from p3m_edge.smallfile import parse_json, read_small

MOST = 1_000_000
"""Pictures of one seed: the numbers of another seed's begin after them."""


def numbered(seed: int, count: int) -> range:
    """The numbers of the first ``count`` pictures of a seed; no two seeds share one.

    A negative seed is an :class:`InputError`, and a count of 0 or above ``MOST`` a :class:`UsageError`.
    """
    if seed < 0:
        raise InputError(f"a seed is >= 0, not {seed}")
    if not 1 <= count <= MOST:
        raise UsageError(f"one seed has 1 to {MOST} pictures, not {count}", hint="use another --seed for more")
    return range(seed * MOST, seed * MOST + count)


def claim(record: Path, recipe: msgspec.Struct, folders: Sequence[str]) -> None:
    """Make the record's folder and its sub-folders, or take what an earlier run with the same recipe left.

    Raises
    ------
    UsageError
        The folder holds pictures of another recipe.
    InputError
        The record is damaged.
    OutputError
        The folder holds something else, or something cannot be written.
    """
    out = record.parent
    if is_new(record):  # the record before anything else, so that a folder that is not empty always has it
        write_json(record, recipe, indent=2)
    try:
        before = parse_json(read_small(record), type(recipe))
    except OSError as error:
        raise OutputError(f"{out} cannot be used: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise InputError(f"{record} is damaged: {error}", hint="use another folder") from error
    other = [name for name in recipe.__struct_fields__ if getattr(before, name) != getattr(recipe, name)]
    if other:
        hint = f"see {record}, or use another folder"
        raise UsageError(f"{out} holds pictures of other settings: {', '.join(other)}", hint=hint)
    for name in folders:
        make_folder(out / name)


def is_new(record: Path) -> bool:
    """Make the folder of a record; whether it is an empty one, without the record of an earlier run.

    An :class:`OutputError` is raised if it holds something else (hidden files do not count), or cannot be used.
    """
    out = record.parent
    make_folder(out)
    try:
        known = record.exists()
        foreign = next((path.name for path in out.iterdir() if not path.name.startswith(".")), None)
    except OSError as error:
        raise OutputError(f"{out} cannot be used: {error.strerror}") from error
    if foreign is not None and not known:
        raise OutputError(f"{out} cannot be used: it holds {foreign}", hint="choose an empty folder")
    return not known


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it; raise an :class:`OutputError` where that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be used: {error.strerror}") from error


def check_apart(out: Path, source: Path) -> None:
    """Raise a :class:`UsageError` for an output folder that lies in an input, or an input in it."""
    mine, theirs = out.resolve(), source.resolve()
    if mine == theirs or mine in theirs.parents or theirs in mine.parents:
        raise UsageError(f"{out} and {source} lie in each other", hint="choose an output folder elsewhere")


def write_json(path: Path, document: object, *, indent: int) -> None:
    """Write a record or report as JSON to be read; raises an :class:`OutputError` where that is not possible."""
    encoded = msgspec.json.encode(document, enc_hook=str)
    atomic_write(path, msgspec.json.format(encoded, indent=indent) + b"\n")
