"""The marks of the privacy-preserving training tables: faces blurred (B) or normal (N), in training and in testing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from p3m_edge.data.sets import DataSet
from p3m_edge.errors import UsageError

Mark = Literal["B", "N"]


@dataclass(frozen=True)
class Marked:
    """A model or a set as the command line names it, with its mark; None without the matrix."""

    text: str
    mark: Mark | None = None


def marked(text: str) -> Marked:
    """Parse ``B=...`` or ``N=...``.

    Raises
    ------
    UsageError
        There is no such mark.
    """
    mark, separator, rest = text.partition("=")
    if separator and rest and mark in ("B", "N"):
        return Marked(rest, "B" if mark == "B" else "N")
    raise UsageError(
        f"with --ppt, {text!r} needs a mark", hint=f"B={text} for blurred faces, N={text} for normal ones"
    )  # fmt: skip


def check(mark: Mark | None, dataset: DataSet) -> None:
    """Refuse a mark that the set's layout contradicts.

    Raises
    ------
    UsageError
        It does.
    """
    if mark is not None and dataset.blurred is not None and dataset.blurred != (mark == "B"):
        faces = "blurred" if dataset.blurred else "not blurred"
        raise UsageError(f"{dataset.root} is marked {mark}, but its faces are {faces}", hint="turn the mark round")


def pair(model: Mark | None, dataset: Mark | None) -> str | None:
    """``B:N`` for a model trained on blurred faces and tested on normal ones; None without marks."""
    return None if model is None or dataset is None else f"{model}:{dataset}"
