"""The marks of the privacy-preserving training tables: faces blurred (B) or normal (N), in training and in testing.

Where the same pictures were tested in both forms, the difference has an interval: the paired bootstrap over pictures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np

from p3m_edge.data.sets import DataSet
from p3m_edge.errors import UsageError
from p3m_edge.evaluate.results import PPT, PairedDifference, SetResult
from p3m_edge.metrics import bootstrap

Mark = Literal["B", "N"]


@dataclass(frozen=True)
class Marked:
    """A model or a set as the command line names it, with its mark; None without the matrix."""

    text: str
    mark: Mark | None = None


def marked(text: str) -> Marked:
    """Parse ``B=...`` or ``N=...``; raises :class:`UsageError` where there is no such mark."""
    mark, _, rest = text.partition("=")
    if rest and mark in ("B", "N"):
        return Marked(rest, "B" if mark == "B" else "N")
    hint = f"B={text} for blurred faces, N={text} for normal ones"
    raise UsageError(f"with --ppt, {text!r} needs a mark", hint=hint)


def check(mark: Mark | None, dataset: DataSet) -> None:
    """Refuse a mark that the set's layout contradicts, with a :class:`UsageError`."""
    if mark is not None and dataset.blurred is not None and dataset.blurred != (mark == "B"):
        faces = "blurred" if dataset.blurred else "not blurred"
        raise UsageError(f"{dataset.root} is marked {mark}, but its faces are {faces}", hint="turn the mark round")


def pair(model: Mark | None, dataset: Mark | None) -> str | None:
    """``B:N`` for a model trained on blurred faces and tested on normal ones; None without marks."""
    return None if model is None or dataset is None else f"{model}:{dataset}"


def differences(results: Sequence[SetResult]) -> tuple[PairedDifference, ...]:
    """What normal faces change, for each method that was tested on the same pictures in both forms.

    Pictures are the same if two sets have the same names of the same sizes; what failed in either form is left out.
    """
    return tuple(
        one
        for blurred, normal in product(results, repeat=2)
        if blurred.pair is not None and normal.pair == f"{blurred.pair[0]}:N" and blurred.pair[2] == "B"
        if blurred.method == normal.method and _names(blurred) == _names(normal)
        for one in _differences(blurred, normal)
    )


def _differences(blurred: SetResult, normal: SetResult) -> Iterator[PairedDifference]:
    after = {picture.picture: picture for picture in normal.pictures}
    both = [(one, after[one.picture]) for one in blurred.pictures if one.picture in after]
    if any((one.width, one.height) != (other.width, other.height) for one, other in both):
        return
    for route, measure in product(blurred.protocol.routes, PPT):
        pairs = [(one.scores[route].get(measure), other.scores[route].get(measure)) for one, other in both]
        values = np.array([pair for pair in pairs if None not in pair], np.float64)
        if not len(values):
            continue
        before, now = map(float, values.mean(axis=0))
        low, high = bootstrap(values[:, 1] - values[:, 0])
        relative, interval = ((now - before) / before, (low / before, high / before)) if before else (None, None)
        training = (blurred.pair or "")[0]
        yield PairedDifference(
            training, blurred.method.name, route, measure, len(values), before, now, relative, interval
        )


def _names(result: SetResult) -> list[str]:
    return sorted([*(one.picture for one in result.pictures), *(one.picture for one in result.failures)])
