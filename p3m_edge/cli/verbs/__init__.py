"""The verbs of ``p3m-edge``, a module each (:mod:`p3m_edge.cli` says what is in them), and what several of them do."""

from __future__ import annotations

from p3m_edge.errors import PartialError


def unfinished(failed: int, of: int, what: str) -> PartialError | None:
    """The error of a batch, to raise when the results have been shown, if some of it failed."""
    hint = "run it again when this is put right: what is done is skipped"
    return PartialError(f"{failed} of {of} {what}", hint=hint) if failed else None
