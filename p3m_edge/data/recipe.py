"""What a generated folder was made with, kept in it, so that a later run can continue it and none can mix two."""

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
    make_folder(out)
    try:
        earlier = read_small(record) if record.exists() else None
        foreign = next((path for path in out.iterdir() if not path.name.startswith(".")), None)
    except OSError as error:
        raise OutputError(f"{out} cannot be used: {error.strerror}") from error
    if earlier is not None:
        try:
            before = parse_json(earlier, type(recipe))
        except msgspec.MsgspecError as error:
            raise InputError(f"{record} is damaged: {error}", hint="use another folder") from error
        other = [name for name in recipe.__struct_fields__ if getattr(before, name) != getattr(recipe, name)]
        if other:
            hint = f"see {record}, or use another folder"
            raise UsageError(f"{out} holds pictures of other settings: {', '.join(other)}", hint=hint)
    elif foreign is not None:
        raise OutputError(f"{out} cannot be used: it holds {foreign.name}", hint="choose an empty folder")
    else:  # before anything else, so that a folder that is not empty always has it
        atomic_write(record, msgspec.json.format(msgspec.json.encode(recipe), indent=2) + b"\n")
    for name in folders:
        make_folder(out / name)


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
