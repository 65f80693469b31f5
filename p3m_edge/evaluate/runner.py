"""One method on one set: every picture is read, matted and scored; those that cannot be are named."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p3m_edge.data.sample import PLAIN, Item, MatteForm, Sample
from p3m_edge.data.sets import DataSet, open_set, read, splits, told
from p3m_edge.data.sheet import sheet
from p3m_edge.errors import InputError
from p3m_edge.evaluate import journal as journals
from p3m_edge.evaluate.journal import Journal
from p3m_edge.evaluate.method import Method, Predict, what_is_at
from p3m_edge.evaluate.results import Failure, PictureScore, Protocol, Result, Route, means
from p3m_edge.evaluate.scoring import Trimaps, score
from p3m_edge.metrics import UNKNOWN

Step = Callable[[str], None]
"""Called before each picture with its name."""


def find_set(text: str | Path, stored: MatteForm = PLAIN) -> DataSet:
    """A set by its folder. A split's name may follow the set's folder, wherever the split lies below it.

    Parameters
    ----------
    text
        The folder.
    stored
        How its mattes are stored.

    Raises
    ------
    InputError, UsageError
        As :func:`p3m_edge.data.sets.open_set`.
    """
    path = Path(text).expanduser()
    if what_is_at(path) is None and what_is_at(path.parent) == "folder" and splits(path.parent):
        return open_set(path.parent, path.name, stored=stored)
    return open_set(path, stored=stored)


def run(
    method: Method,
    dataset: DataSet,
    trimaps: Trimaps,
    routes: tuple[Route, ...],
    *,
    limit: int | None = None,
    journal: Journal | None = None,
    step: Step = lambda _name: None,
) -> Result:
    """Evaluate.

    Parameters
    ----------
    method, dataset, trimaps
        What is measured, on what.
    routes
        How it is scored.
    limit
        Take the first pictures alone, by name.
    journal
        Where finished pictures are kept and found.
    step
        See :data:`Step`.
    """
    items = dataset.items[:limit]
    strategy, predict = method.prepare(dataset.name)
    protocol = Protocol(
        dataset.name,
        str(dataset.root),
        dataset.blurred,
        len(dataset.items),
        len(items),
        strategy,
        routes,
        trimaps.words,
    )
    kept = journal if journal is not None else Journal(None)
    scores: list[PictureScore] = []
    failures: list[Failure] = []
    for item in items:
        step(item.name)
        key = journals.key(method.info, protocol, item)
        found = kept.find(key, protocol)
        if found is None:
            try:
                found = _score(method, predict, item, trimaps, routes)
            except (InputError, MemoryError) as error:
                failures.append(Failure(item.name, _reason(error)))
                continue
            kept.add(key, found)
        scores.append(found)
    return Result(method.info, protocol, None, means(scores, routes), tuple(scores), tuple(failures))


def worst_sheet(
    result: Result, method: Method, dataset: DataSet, trimaps: Trimaps, count: int
) -> NDArray[np.uint8] | None:
    """The pictures with the largest headline measure, worst first: picture, truth, prediction, difference.

    They are matted once more, so that a long evaluation need not keep its mattes. None where there is nothing to show.
    """
    measure, route = result.headline, result.protocol.routes[0]
    ranked = sorted(result.pictures, key=lambda p: p.scores[route][measure], reverse=True)[:count]
    items = {item.name: item for item in dataset.items}
    _, predict = method.prepare(dataset.name)
    rows: list[list[tuple[str, NDArray[Any]]]] = []
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


def _score(method: Method, predict: Predict, item: Item, trimaps: Trimaps, routes: tuple[Route, ...]) -> PictureScore:
    sample, trimap, alpha, seconds = _matte(predict, item, trimaps)
    based = method.info.trimap_based
    scores = {route: score(alpha, sample, trimap, route, trimap_based=based) for route in routes}
    height, width = sample.alpha.shape
    return PictureScore(item.name, width, height, round(seconds, 3), not alpha.any(), scores)


def _matte(predict: Predict, item: Item, trimaps: Trimaps) -> tuple[Sample, NDArray[np.uint8], NDArray[Any], float]:
    sample = read(item)
    trimap = trimaps.of(sample)
    start = time.perf_counter()
    alpha = predict(sample.image, trimap)
    return sample, trimap, alpha, time.perf_counter() - start


def _reason(error: InputError | MemoryError) -> str:
    if isinstance(error, MemoryError):
        return "does not fit into memory"
    return told(error)
