"""One method on one set: every picture is read, matted and scored; those that cannot be are named."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from p3m_edge.arrays import Array
from p3m_edge.data.sample import PLAIN, Item, MatteForm, Sample
from p3m_edge.data.sets import DataSet, open_set, read, splits, told
from p3m_edge.data.sheet import sheet
from p3m_edge.data.trimap import make_trimap
from p3m_edge.errors import InputError
from p3m_edge.evaluate import journal as journals
from p3m_edge.evaluate.journal import Journal
from p3m_edge.evaluate.method import Method, Predict, kind_of_path
from p3m_edge.evaluate.results import TRIMAP_BASED, Failure, PictureScore, Protocol, Route, SetResult, means
from p3m_edge.metrics import UNKNOWN, evaluate

TrimapSource = Literal["auto", "set", "alpha"]
KERNEL = 25
"""Of trimaps made from the alpha where nothing else is said: within the range of the published training."""

Step = Callable[[str], None]
"""Called before each picture with its name."""


def find_set(text: str | Path, stored: MatteForm = PLAIN) -> DataSet:
    """A set by its folder, as :func:`p3m_edge.data.sets.open_set`, with mattes that are ``stored`` in some form.

    A split's name may follow the set's folder, wherever the split lies below it.
    """
    path = Path(text).expanduser()
    if kind_of_path(path) is None and kind_of_path(path.parent) == "folder" and splits(path.parent):
        return open_set(path.parent, path.name, stored=stored)
    return open_set(path, stored=stored)


class Trimaps:
    """The trimaps of one set: all the set's own (``auto``: if every picture has one), or all made from the alphas.

    ``kernel`` is that of those made, in pixels. :class:`InputError` if ``source`` is ``set``, and a picture has none.
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

    def for_sample(self, sample: Sample) -> NDArray[np.uint8]:
        """uint8 ``[H, W]``: 0, 128, 255 (and what else the set's files hold)."""
        return sample.trimap if self._own and sample.trimap is not None else make_trimap(sample.alpha, self._kernel)


def run(
    method: Method, dataset: DataSet, trimaps: Trimaps, routes: tuple[Route, ...], *, limit: int | None = None,
    journal: Journal | None = None, step: Step = lambda _name: None,
) -> SetResult:  # fmt: skip
    """Evaluate a method on a set, or on its first pictures by name; finished ones are kept and found in the journal."""
    items, kept = dataset.items[:limit], journal or Journal(None)
    strategy, predict = method.prepare(dataset.name)
    counts, root = (len(dataset.items), len(items)), str(dataset.root)
    protocol = Protocol(dataset.name, root, dataset.blurred, *counts, strategy, routes, trimaps.words)
    scores: list[PictureScore] = []
    failures: list[Failure] = []
    for item in items:
        step(item.name)
        key = journals.key(method.info, protocol, item)
        found = kept.find(key, protocol)
        if found is None:
            try:
                sample, trimap, alpha, seconds = _matte(predict, item, trimaps)
                based = method.info.trimap_based
                values = {route: score(alpha, sample, trimap, route, trimap_based=based) for route in routes}
            except (InputError, MemoryError) as error:
                reason = "does not fit into memory" if isinstance(error, MemoryError) else told(error)
                failures.append(Failure(item.name, reason))
                continue
            height, width = sample.alpha.shape
            found = PictureScore(item.name, width, height, round(seconds, 3), not alpha.any(), values)
            kept.add(key, found)
        scores.append(found)
    return SetResult(method.info, protocol, None, means(scores, routes), tuple(scores), tuple(failures))


def worst_sheet(
    result: SetResult, method: Method, dataset: DataSet, trimaps: Trimaps, count: int
) -> NDArray[np.uint8] | None:
    """The pictures with the largest headline measure, worst first: picture, truth, prediction, difference.

    They are matted once more, so that a long evaluation need not keep its mattes. None where there is nothing to show.
    """
    measure, route = result.headline, result.protocol.routes[0]
    ranked = sorted(result.pictures, key=lambda p: p.scores[route][measure], reverse=True)[:count]
    items = {item.name: item for item in dataset.items}
    _, predict = method.prepare(dataset.name)
    rows: list[list[tuple[str, Array]]] = []
    for place in ranked:
        try:
            sample, trimap, alpha, _ = _matte(predict, items[place.picture], trimaps)
        except (InputError, MemoryError):  # it went a moment ago; the sheet is not worth the run
            continue
        truth = sample.alpha.astype(np.float32) / 255
        difference = np.abs(np.clip(alpha, 0, 1) - truth)
        if method.info.trimap_based:
            difference[trimap != UNKNOWN] = 0
        rows.append([
            (place.picture, sample.image), ("truth", truth), (f"{measure} {place.scores[route][measure]:.2f}", alpha),
            ("difference", difference),
        ])  # fmt: skip
    return sheet(rows) if rows else None


def score(
    pred: Array, sample: Sample, trimap: NDArray[np.uint8], route: Route, *, trimap_based: bool
) -> dict[str, float]:
    """Compare a prediction, float ``[H, W]``, 0..1 (what rounding left outside is clipped), with a sample's alpha.

    ``trimap`` is uint8 ``[H, W]``; ``8bit`` truncates the prediction to uint8 first; ``trimap_based`` gives
    :data:`~p3m_edge.evaluate.results.TRIMAP_BASED` alone.
    """
    pred = np.clip(pred, 0, 1)
    if route == "8bit":
        pred = (pred * 255).astype(np.uint8)
    face = sample.face_mask if sample.face_mask is not None and sample.face_mask.any() else None
    found = evaluate(pred, sample.alpha, trimap, face)
    return {name: found[name] for name in TRIMAP_BASED if name in found} if trimap_based else found


def _matte(predict: Predict, item: Item, trimaps: Trimaps) -> tuple[Sample, NDArray[np.uint8], Array, float]:
    sample = read(item)
    trimap = trimaps.for_sample(sample)
    start = time.perf_counter()
    alpha = predict(sample.image, trimap)
    return sample, trimap, alpha, time.perf_counter() - start
