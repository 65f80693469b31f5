"""What a quantised network's mattes are worth: against the truth, and beside those of the same network in float32.

Shape legend: N, the batch; H and W, a picture's size; height and width, the network's input.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from p3m_edge import metrics, preprocess
from p3m_edge.data.recipe import numbered
from p3m_edge.data.sample import Image
from p3m_edge.data.synth.clip import draw_clip
from p3m_edge.errors import InputError
from p3m_edge.export.calibration import SEEDS, PictureSet
from p3m_edge.export.graph.reference import Run
from p3m_edge.export.quantize import UnfitError
from p3m_edge.manifest_schema import AccuracyRecord
from p3m_edge.runtimes.contract import Images, Outputs

Criterion = Literal["error", "flips"]
"""What the parts of a network are ranked by: how far alpha is off from float32, or pixels that change class."""

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


class _Matte(NamedTuple):
    """Of a measuring picture: alpha and classes ``[height, width]``, and errors against the truth, as far as there."""

    alpha: NDArray[np.float32]
    classes: NDArray[np.uint8]
    errors: tuple[float, ...]


class AccuracyEvaluator:
    """The measuring pictures and the clips, with what the float32 network says of them.

    Parameters
    ----------
    pictures, run
        To measure with; the float32 network.
    size, batch
        Height and width of the network's input, and its batch; a picture fills all of it.
    folder
        Gets the network's results, so that they need no memory; must outlive this object.
    clips
        How many clips are measured on.

    Raises
    ------
    InputError
        The float32 network's results are not finite.
    """

    def __init__(
        self, pictures: PictureSet, size: tuple[int, int], batch: int, run: Run, folder: Path, clips: int = CLIPS
    ) -> None:
        self._pictures, self._size, self._batch, self._folder = pictures, size, batch, folder
        self._clips = numbered(5 * SEEDS, clips)  # beyond those of calibration and measuring
        self._float_errors = []
        try:
            for number, matte in enumerate(self._mattes(run)):
                for name in ("alpha", "classes"):
                    np.save(folder / f"{name}-{number}.npy", getattr(matte, name))
                self._float_errors.append(matte.errors)
            self._float_clips = self._over_clips(run)
        except UnfitError as error:
            raise InputError(
                "the float32 network's results are not finite on a measuring picture",
                hint="it overflows or divides by zero: check the checkpoint",
            ) from error

    def measure(self, run: Run) -> AccuracyRecord:
        """Compare another form of the network with the float32 one.

        Raises
        ------
        UnfitError
            Its results are not finite.
        """
        errors, differences, flips = [], [], []
        for number, matte in enumerate(self._mattes(run)):
            wanted = np.load(self._folder / f"alpha-{number}.npy")
            differences.append(float(np.abs(matte.alpha - wanted).mean(dtype=np.float64)))
            errors.append(matte.errors)
            if matte.classes.size:
                flips.append(flipped(np.load(self._folder / f"classes-{number}.npy"), matte.classes))
        (dtssd, grad), (float_dtssd, float_grad) = self._over_clips(run), self._float_clips
        flip, unknown = map(float, np.mean(flips, axis=0)) if flips else (None, None)
        record = AccuracyRecord(
            None, None, None, float(np.mean(differences)), flip, unknown,
            grad_rise=_rise(grad, float_grad, _LEAST_GRAD), dtssd=dtssd, float_dtssd=float_dtssd,
            dtssd_rise=_rise(dtssd, float_dtssd, _LEAST_DTSSD),
        )  # fmt: skip
        if not self._pictures.has_truth:
            return record
        (sad, mse, grad), before = np.mean(errors, axis=0), np.mean(self._float_errors, axis=0)
        return replace(
            record, sad=float(sad), float_sad=float(before[0]), rise=_rise(sad, before[0], _LEAST_SAD),
            mse_rise=_rise(mse, before[1], _LEAST_MSE), grad_rise=_rise(grad, before[2], _LEAST_GRAD),
        )  # fmt: skip

    def _mattes(self, run: Run) -> Iterator[_Matte]:
        """The network's results for all measuring pictures; :class:`UnfitError` if one is not finite."""
        for _, frame, truth in self._pictures.samples():
            image, geometry = self._input(frame)
            outputs = _finite(run(image))
            alpha = outputs["alpha"][0, 0]
            errors = () if truth is None else _errors(preprocess.from_network(alpha, geometry), truth)
            yield _Matte(alpha, np.array([], np.uint8) if (found := classes_of(outputs)) is None else found, errors)

    def _over_clips(self, run: Run) -> tuple[float, float]:
        """The dtSSD of the clips, and the GRAD of their frames (in tens, the mean), against their exact alphas."""
        instability, edges = list[float](), list[float]()
        for number in self._clips:
            clip, mattes = draw_clip(number, FRAMES), []
            for frame in clip.frames:
                image, geometry = self._input(frame)
                matte = preprocess.from_network(_finite(run(image))["alpha"][0, 0], geometry)
                mattes.append(np.clip(matte, 0, 1))
            instability.append(metrics.dtssd(mattes, clip.alphas))
            edges += map(metrics.gradient_error, mattes, clip.alphas)
        return float(np.mean(instability)), float(np.mean(edges))

    def _input(self, frame: Image) -> tuple[Images, preprocess.Geometry]:
        image, geometry = preprocess.to_network(frame, *self._size)
        return np.repeat(image[None], self._batch, axis=0), geometry


@dataclass(frozen=True)
class Figure:
    """A figure that the gate judges: it is met by a value of at most the limit; NaN is no such value.

    ``text`` is said where it is not met, with places for the two. By the ``criterion`` parts are ranked where this is
    the worst figure: those that move alpha most are taken to cause most of the errors and of the flicker too.
    """

    name: str
    value: float
    limit: float
    text: str
    criterion: Criterion = "error"

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
    :meth:`figures`. SAD may rise by the share ``max_drop``. With ``edges``, MSE and GRAD may rise by no more than that;
    otherwise GRAD may rise by ``MAX_RISE``, and MSE at will.
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


def _errors(matte: NDArray[np.float32], truth: NDArray[np.float32]) -> tuple[float, float, float]:
    """SAD in thousands, MSE in millionths and GRAD in tens, at the picture's size."""
    difference = matte - truth
    sad, mse = np.abs(difference).sum(dtype=np.float64) / 1000, np.square(difference).mean(dtype=np.float64) * 1e6
    return float(sad), float(mse), metrics.gradient_error(matte, truth)


def _finite(outputs: Outputs) -> Outputs:
    """The same; :class:`UnfitError` if a result is not finite."""
    if not all(bool(np.isfinite(values).all()) for values in outputs.values()):
        raise UnfitError("its results are not finite on a measuring picture")
    return outputs


def _rise(now: float, before: float, least: float) -> float:
    """By which share a figure has risen; below ``least``, both count as that."""
    return float(np.maximum(now, least) / np.maximum(before, least) - 1)
