"""What a generated folder was made with, kept in it, so that a later run can continue it and none can mix two."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from p3m_edge.errors import InputError, OutputError, UsageError
from p3m_edge.imageio import atomic_write


def claim(record: Path, recipe: msgspec.Struct, folders: Sequence[str]) -> None:
    """Make the record's folder and its sub-folders, or take what an earlier run with the same recipe left.

    Raises
    ------
    UsageError
        The folder holds pictures of another recipe.
    InputError
        The record is damaged.
    OutputError
        Something cannot be written.
    """
    out = record.parent
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in folders:
            (out / name).mkdir(exist_ok=True)
        earlier = record.read_bytes() if record.exists() else None
    except OSError as error:
        raise OutputError(f"{out} cannot be used: {error.strerror}") from error
    if earlier is None:
        atomic_write(record, msgspec.json.format(msgspec.json.encode(recipe), indent=2) + b"\n")
        return
    try:
        before = msgspec.json.decode(earlier, type=type(recipe))
    except msgspec.MsgspecError as error:
        raise InputError(f"{record} is damaged: {error}", hint="use another folder") from error
    if before != recipe:
        raise UsageError(
            f"{out} holds portraits of another seed, size or kind", hint=f"see {record}, or use another folder"
        )
