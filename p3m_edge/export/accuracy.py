"""What a quantised network's mattes are worth: against the truth, and beside those of the same network in float32.

Shape legend: N, the batch; H and W, a picture's size; height and width, the network's input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from p3m_edge import metrics, preprocess
from p3m_edge.errors import InputError, P3MEdgeError
from p3m_edge.export.calibration import PictureSet
from p3m_edge.records import AccuracyRecord
from p3m_edge.runtimes.contract import Images, Outputs

Run = Callable[[Images], Outputs]
"""An inference: uint8 ``[N, height, width, 3]`` in, all outputs of the model by name."""
Figure = Literal["error", "flips"]
"""What the gate looks at: how far alpha is off (SAD, or the difference from float32), and pixels that change class."""

MAX_DIFFERENCE = 0.005
"""Largest mean absolute difference from the float32 alpha, where there is no truth."""
MAX_FLIPS = 1e-4
"""Largest share of pixels that change between background and foreground."""
_LEAST = 1e-6  # thousands of SAD: below, a float32 matte counts as perfect, and its error cannot rise by a share


class UnfitError(P3MEdgeError):
    """An attempt to quantise did not give a network that works; others may."""


class Yardstick:
    """The measuring pictures with what the float32 network says of them.

    Parameters
    ----------
    pictures
        To measure with.
    size
        Height and width of the network's input.
    batch
        Of the network's input; a picture fills all of it.
    run
        The float32 network.
    folder
        Gets its results, so that they need no memory; must outlive this object.

    Raises
    ------
    InputError
        The float32 network's results are not finite.
    """

    def __init__(self, pictures: PictureSet, size: tuple[int, int], batch: int, run: Run, folder: Path) -> None:
        self._pictures, self._size, self._batch, self._folder = pictures, size, batch, folder
        errors = []
        for number, (image, geometry, truth) in enumerate(self._inputs()):
            outputs = run(image)
            if not _finite(outputs):
                raise InputError(
                    "the float32 network's results are not finite on a measuring picture",
                    hint="it overflows or divides by zero: check the checkpoint",
                )
            alpha, classes = outputs["alpha"][0, 0], classes_of(outputs)
            np.save(folder / f"alpha-{number}.npy", alpha)
            if classes is not None:
                np.save(folder / f"classes-{number}.npy", classes)
            errors += _errors(alpha, geometry, truth)
        self._float_errors = errors

    def measure(self, run: Run) -> AccuracyRecord:
        """Compare another form of the network with the float32 one.

        Raises
        ------
        UnfitError
            Its results are not finite.
        """
        errors, differences = [], []
        flips: list[float] = []
        unknown: list[float] = []
        for number, (image, geometry, truth) in enumerate(self._inputs()):
            outputs = run(image)
            if not _finite(outputs):
                raise UnfitError("its results are not finite on a measuring picture")
            alpha, classes = outputs["alpha"][0, 0], classes_of(outputs)
            wanted = np.load(self._folder / f"alpha-{number}.npy")
            differences.append(float(np.abs(alpha - wanted).mean(dtype=np.float64)))
            errors += _errors(alpha, geometry, truth)
            if classes is not None:
                before = np.load(self._folder / f"classes-{number}.npy")
                for share, shares in zip(flipped(before, classes), (flips, unknown), strict=True):
                    shares.append(share)
        difference = _mean(differences)
        assert difference is not None  # a picture set is never empty
        record = AccuracyRecord(None, None, None, difference, _mean(flips), _mean(unknown))
        if not errors:
            return record
        now, before = np.mean(errors, axis=0), np.mean(self._float_errors, axis=0)
        rise, mse_rise, grad_rise = map(float, (now - before) / np.maximum(before, _LEAST))
        return replace(
            record, sad=float(now[0]), float_sad=float(before[0]), rise=rise, mse_rise=mse_rise, grad_rise=grad_rise
        )

    def _inputs(self) -> Iterator[tuple[Images, preprocess.Geometry, NDArray[np.float32] | None]]:
        for _, frame, truth in self._pictures.samples():
            image, geometry = preprocess.to_network(frame, *self._size)
            yield np.repeat(image[None], self._batch, axis=0), geometry, truth


def failures(accuracy: AccuracyRecord, max_drop: float, *, edges: bool = False) -> tuple[str, ...]:
    """A sentence for each figure beyond the gate: SAD against the truth (without truth, the difference), and flips.

    ``edges``: MSE and GRAD may not rise by more than SAD either.
    """
    rises = [("SAD", accuracy.rise)]
    if edges:
        rises += [("MSE", accuracy.mse_rise), ("GRAD", accuracy.grad_rise)]
    found = [
        f"{name} rises by {rise:.1%}, allowed are {max_drop:.1%}"
        for name, rise in rises
        if rise is not None and not rise <= max_drop
    ]
    if accuracy.rise is None and not accuracy.mean_difference <= MAX_DIFFERENCE:
        found.append(f"alpha differs by {accuracy.mean_difference:.4f} on average, allowed are {MAX_DIFFERENCE:g}")
    if accuracy.flips is not None and not accuracy.flips <= MAX_FLIPS:
        found.append(
            f"{accuracy.flips:.3%} of the pixels flip between background and foreground, allowed are {MAX_FLIPS:.2%}"
        )
    return tuple(found)


def excess(accuracy: AccuracyRecord, max_drop: float) -> float:
    """The worst figure as a multiple of what is allowed, to tell the best of bad attempts."""
    return max(_multiples(accuracy, max_drop).values())


def worst_figure(accuracy: AccuracyRecord, max_drop: float) -> Figure:
    """The figure that is furthest beyond what is allowed."""
    multiples = _multiples(accuracy, max_drop)
    return max(multiples, key=lambda figure: multiples[figure])


def _multiples(accuracy: AccuracyRecord, max_drop: float) -> dict[Figure, float]:
    """Each figure as a multiple of what is allowed."""
    rise = accuracy.rise
    error = accuracy.mean_difference / MAX_DIFFERENCE if rise is None else rise / max(max_drop, 1e-9)
    return {"error": error, "flips": 0.0 if accuracy.flips is None else accuracy.flips / MAX_FLIPS}


def flipped(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> tuple[float, float]:
    """The shares of pixels that change between background and foreground, and to or from unknown."""
    changed, sure = before != after, (before != 1) & (after != 1)
    return float(np.mean(changed & sure)), float(np.mean(changed & ~sure))


def classes_of(outputs: Outputs) -> NDArray[np.uint8] | None:
    """Background, unknown or foreground, ``[height, width]``; None without logits."""
    logits = outputs.get("global_logits")
    return None if logits is None else logits[0].argmax(axis=0).astype(np.uint8)


def _errors(
    alpha: NDArray[np.float32], geometry: preprocess.Geometry, truth: NDArray[np.float32] | None
) -> list[tuple[float, float, float]]:
    """SAD in thousands, MSE in millionths and GRAD in tens, at the picture's size; nothing without truth."""
    if truth is None:
        return []
    matte = preprocess.from_network(alpha, geometry)
    difference = matte - truth
    sad, mse = np.abs(difference).sum(dtype=np.float64) / 1000, np.square(difference).mean(dtype=np.float64) * 1e6
    return [(float(sad), float(mse), metrics.gradient_error(matte, truth))]


def _finite(outputs: Outputs) -> bool:
    return all(bool(np.isfinite(values).all()) for values in outputs.values())


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None
