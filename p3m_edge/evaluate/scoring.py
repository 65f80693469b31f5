"""One picture's figures, by either of the two published routes, and the trimap they refer to."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from p3m_edge.data.sample import Sample
from p3m_edge.data.sets import DataSet
from p3m_edge.data.trimap import make_trimap
from p3m_edge.errors import InputError
from p3m_edge.evaluate.results import TRIMAP_BASED, Route
from p3m_edge.metrics import evaluate

TrimapSource = Literal["auto", "set", "alpha"]
TRIMAP_SOURCES: tuple[TrimapSource, ...] = get_args(TrimapSource)
KERNEL = 25
"""Of trimaps made from the alpha where nothing else is said: within the range of the published training."""


def score(
    pred: NDArray[Any], sample: Sample, trimap: NDArray[np.uint8], route: Route, *, trimap_based: bool
) -> dict[str, float]:
    """Compare a prediction with a sample's alpha.

    Parameters
    ----------
    pred
        ``[H, W]``, float, 0..1 (what rounding left outside is clipped).
    sample
        The truth.
    trimap
        ``[H, W]``, uint8.
    route
        ``float``, or ``8bit``: ``pred`` is truncated to uint8 first.
    trimap_based
        Give :data:`~p3m_edge.evaluate.results.TRIMAP_BASED` alone.
    """
    pred = np.clip(pred, 0, 1)
    if route == "8bit":
        pred = (pred * 255).astype(np.uint8)
    face = sample.face_mask if sample.face_mask is not None and sample.face_mask.any() else None
    found = evaluate(pred, sample.alpha, trimap, face)
    return {name: found[name] for name in TRIMAP_BASED if name in found} if trimap_based else found


class Trimaps:
    """The trimaps of one set: all the set's own, or all made from the alphas.

    Parameters
    ----------
    dataset
        The set.
    source
        ``auto``: the set's where every picture has one.
    kernel
        Of those made, in pixels.

    Raises
    ------
    InputError
        ``source`` is ``set``, and a picture has none.
    """

    def __init__(self, dataset: DataSet, source: TrimapSource = "auto", kernel: int = KERNEL) -> None:
        without = [item for item in dataset.items if item.trimap is None]
        if source == "set" and without:
            raise InputError(
                f"{len(without)} of the {len(dataset.items)} pictures of {dataset.name} have no trimap, "
                f"the first is {without[0].name}",
                hint="make them from the alphas: --trimap alpha",
            )
        self._own = source != "alpha" and not without
        self._kernel = kernel

    @property
    def words(self) -> str:
        """For the protocol."""
        return "the set's" if self._own else f"made from the alpha, kernel {self._kernel}"

    def of(self, sample: Sample) -> NDArray[np.uint8]:
        """uint8 ``[H, W]``: 0, 128, 255 (and what else the set's files hold)."""
        return sample.trimap if self._own and sample.trimap is not None else make_trimap(sample.alpha, self._kernel)
