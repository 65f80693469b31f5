"""What a quantised network's mattes are worth: against the truth, and beside those of the same network in float32.

Shape legend: N, the batch; H and W, a picture's size; height and width, the network's input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from p3m_edge import metrics, preprocess
from p3m_edge.data.recipe import numbered
from p3m_edge.data.sample import Image
from p3m_edge.data.synth.clip import draw_clip
from p3m_edge.errors import InputError, P3MEdgeError
from p3m_edge.export.calibration import SEEDS, PictureSet
from p3m_edge.records import AccuracyRecord
from p3m_edge.runtimes.contract import Images, Outputs

Run = Callable[[Images], Outputs]
"""An inference: uint8 ``[N, height, width, 3]`` in, all outputs of the model by name."""
Order = Literal["error", "flips"]
"""What the parts of a network are compared by: how far alpha is off from float32, or pixels that change class."""

CLIPS, FRAMES = 4, 4
"""How many clips dtSSD is measured on, and of how many frames each: 16 inferences see 12 changes, of four people."""
MAX_DIFFERENCE = 0.005
"""Largest mean absolute difference from the float32 alpha, where there is no truth."""
MAX_FLIPS = 1e-4
"""Largest share of pixels that change between background and foreground."""
MAX_RISE = 0.1
"""By which share GRAD and dtSSD may rise at least; as much as SAD, where that may rise by more."""

# Below these a float32 network counts as perfect, and its error is taken to be so large: zero cannot rise by a share.
_LEAST_SAD = _LEAST_MSE = 1e-6  # thousands, millionths
_LEAST_GRAD = 0.001  # tens: every pixel of 512 x 512 is off by up to a grey level, at random
_LEAST_DTSSD = 0.1  # by up to half a grey level, another one in each frame


class UnfitError(P3MEdgeError):
    """An attempt to quantise did not give a network that works; others may."""


class Yardstick:
    """The measuring pictures and the clips, with what the float32 network says of them.

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
        try:
            for number, (image, geometry, truth) in enumerate(self._inputs()):
                outputs = _finite(run(image))
                alpha, classes = outputs["alpha"][0, 0], classes_of(outputs)
                np.save(folder / f"alpha-{number}.npy", alpha)
                if classes is not None:
                    np.save(folder / f"classes-{number}.npy", classes)
                errors += _errors(alpha, geometry, truth)
            self._float_clips = self._over_clips(run)
        except UnfitError as error:
            raise InputError(
                "the float32 network's results are not finite on a measuring picture",
                hint="it overflows or divides by zero: check the checkpoint",
            ) from error
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
            outputs = _finite(run(image))
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
        (dtssd, grad), (float_dtssd, float_grad) = self._over_clips(run), self._float_clips
        record = AccuracyRecord(
            None, None, None, difference, _mean(flips), _mean(unknown),
            grad_rise=_rise(grad, float_grad, _LEAST_GRAD), dtssd=dtssd, float_dtssd=float_dtssd,
            dtssd_rise=_rise(dtssd, float_dtssd, _LEAST_DTSSD),
        )  # fmt: skip
        if not errors:
            return record
        (sad, mse, grad), before = np.mean(errors, axis=0), np.mean(self._float_errors, axis=0)
        return replace(
            record, sad=float(sad), float_sad=float(before[0]), rise=_rise(sad, before[0], _LEAST_SAD),
            mse_rise=_rise(mse, before[1], _LEAST_MSE), grad_rise=_rise(grad, before[2], _LEAST_GRAD),
        )  # fmt: skip

    def _over_clips(self, run: Run) -> tuple[float, float]:
        """The dtSSD of the clips, and the GRAD of their frames (in tens, the mean), against their exact alphas."""
        instability, edges = list[float](), list[float]()
        for number in numbered(5 * SEEDS, CLIPS):  # beyond those of calibration and measuring
            clip, mattes = draw_clip(number, FRAMES), []
            for frame in clip.frames:
                image, geometry = self._input(frame)
                matte = preprocess.from_network(_finite(run(image))["alpha"][0, 0], geometry)
                mattes.append(np.clip(matte, 0, 1))
            instability.append(metrics.dtssd(mattes, clip.alphas))
            edges += map(metrics.gradient_error, mattes, clip.alphas)
        return float(np.mean(instability)), float(np.mean(edges))

    def _inputs(self) -> Iterator[tuple[Images, preprocess.Geometry, NDArray[np.float32] | None]]:
        return ((*self._input(frame), truth) for _, frame, truth in self._pictures.samples())

    def _input(self, frame: Image) -> tuple[Images, preprocess.Geometry]:
        image, geometry = preprocess.to_network(frame, *self._size)
        return np.repeat(image[None], self._batch, axis=0), geometry


@dataclass(frozen=True)
class Figure:
    """A figure that the gate judges.

    Attributes
    ----------
    name
        What it is called in messages.
    value, limit
        It is met by a value of at most the limit; NaN is no such value.
    text
        What is said where it is not met, with places for the two.
    order
        What parts are compared by where this is the worst figure. Those that move alpha most are taken to cause most of
        the errors against the truth, and of the flicker, too.
    """

    name: str
    value: float
    limit: float
    text: str
    order: Order = "error"

    @property
    def met(self) -> bool:
        return self.value <= self.limit

    @property
    def multiple(self) -> float:
        """The value as a multiple of what is allowed; of NaN, infinity."""
        return np.inf if np.isnan(self.value) else self.value / max(self.limit, 1e-9)


@dataclass(frozen=True)
class Gate:
    """What the mattes of a quantised network must keep to.

    Whether an attempt passes, which of two is nearer to passing and what is to be mended all follow from one table,
    :meth:`figures`.

    Attributes
    ----------
    max_drop
        By which share the SAD may rise.
    edges
        Whether MSE and GRAD may not rise by more than SAD. Otherwise GRAD may rise by ``MAX_RISE``, and MSE at will.
    """

    max_drop: float
    edges: bool = False

    def figures(self, accuracy: AccuracyRecord) -> tuple[Figure, ...]:
        """All figures that are judged, as far as they were measured."""
        loose = max(self.max_drop, MAX_RISE)
        rises = {
            "SAD": (accuracy.rise, self.max_drop),
            "MSE": (accuracy.mse_rise if self.edges else None, self.max_drop),
            "GRAD": (accuracy.grad_rise, self.max_drop if self.edges else loose),
            "dtSSD": (accuracy.dtssd_rise, loose),
        }
        found = [
            Figure(name, rise, limit, f"{name} rises by {{:.1%}}, allowed are {{:.1%}}")
            for name, (rise, limit) in rises.items()
            if rise is not None
        ]
        if accuracy.rise is None:
            text = "alpha differs by {:.4f} on average, allowed are {:g}"
            found.append(Figure("difference", accuracy.mean_difference, MAX_DIFFERENCE, text))
        if accuracy.flips is not None:
            text = "{:.3%} of the pixels flip between background and foreground, allowed are {:.2%}"
            found.append(Figure("flips", accuracy.flips, MAX_FLIPS, text, "flips"))
        return tuple(found)

    def failures(self, accuracy: AccuracyRecord) -> tuple[str, ...]:
        """A sentence for each figure that is not met."""
        return tuple(
            figure.text.format(figure.value, figure.limit) for figure in self.figures(accuracy) if not figure.met
        )

    def worst(self, accuracy: AccuracyRecord) -> Figure:
        """The figure that is the largest multiple of what is allowed: by it, bad attempts are compared."""
        return max(self.figures(accuracy), key=lambda figure: figure.multiple)


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


def _finite(outputs: Outputs) -> Outputs:
    """The same; :class:`UnfitError` if a result is not finite."""
    if not all(bool(np.isfinite(values).all()) for values in outputs.values()):
        raise UnfitError("its results are not finite on a measuring picture")
    return outputs


def _rise(now: float, before: float, least: float) -> float:
    """By which share a figure has risen; below ``least``, both count as that."""
    return float(np.maximum(now, least) / np.maximum(before, least) - 1)


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None
