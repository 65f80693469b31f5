"""The verbs of ``p3m-edge``, a module each (:mod:`p3m_edge.cli` says what is in them), and what several of them do."""

from __future__ import annotations

from pathlib import Path

from p3m_edge.errors import OutputError, PartialError


def make_folder(folder: Path) -> None:
    """Make a folder for results, before there are any; an :class:`OutputError` if it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made a folder: {error.strerror}", hint="choose another --out") from error


def unfinished(failed: int, of: int, what: str) -> PartialError | None:
    """The error of a batch, to raise when the results have been shown, if some of it failed."""
    hint = "run it again when this is put right: what is done is skipped"
    return PartialError(f"{failed} of {of} {what}", hint=hint) if failed else None
