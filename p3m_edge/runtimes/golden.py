"""Golden vectors: a few network inputs with their reference outputs, and the test of an artefact by them.

``golden.npz`` holds for each picture ``i`` the array ``image_<i>`` (uint8 ``[N, H, W, 3]``) and for each output of
the model ``alpha_<i>``, ``local_alpha_<i>``, ``global_logits_<i>`` (float32 ``[N, C, H, W]``): the reference values
of the eager module in float32. Any runtime in any language can test itself with it. An artefact for several sizes holds
pictures of each of them, one size after the other.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from p3m_edge import metrics
from p3m_edge.arrays import Array
from p3m_edge.atomic import reason
from p3m_edge.errors import ArtefactError
from p3m_edge.manifest import GOLDEN, Manifest
from p3m_edge.manifest_schema import MAX_INPUT_PIXELS
from p3m_edge.runtimes.contract import Images, Outputs
from p3m_edge.runtimes.engine import Engine
from p3m_edge.smallfile import open_regular
from p3m_edge.targets import TARGETS, Limits

Arrays = Mapping[str, NDArray[np.float32]]
Opening = Callable[[Manifest], AbstractContextManager[Engine]]
_npy: Any = npy_format  # whose functions have no types
_MAX_VALUES = 3 * MAX_INPUT_PIXELS
_MOST = 64
"""Pictures; an export writes two of each size."""
_Number = TypeVar("_Number", np.uint8, np.float32)


@dataclass(frozen=True)
class Difference:
    """The errors of the outputs for one picture. None: the artefact lacks that output.

    Attributes
    ----------
    image
        The picture's name.
    logits_mean
        Mean absolute error of the global logits, as a share of the reference's range.
    local_mean
        Mean absolute error of the local alpha.
    local_share
        Share of the pixels whose local alpha is off by more than ``Limits.pixel_tolerance``.
    flips
        Share of the pixels whose class differs.
    alpha_mean, alpha_max
        Mean and largest absolute error of alpha.
    alpha_share
        Share of the pixels whose alpha is off by more than ``Limits.pixel_tolerance``.
    mse
        Mean squared error of alpha.
    grad_mean
        Mean squared error of alpha's gradient, ten times GRAD (:func:`p3m_edge.metrics.gradient_error`) for each pixel.
    """

    image: str
    logits_mean: float | None
    local_mean: float | None
    local_share: float | None
    flips: float | None
    alpha_mean: float
    alpha_max: float
    alpha_share: float
    mse: float
    grad_mean: float


@dataclass(frozen=True)
class Check:
    """One figure and its limit: the output it is about, what it measures, and both numbers."""

    output: str
    what: str
    value: float
    limit: float

    @property
    def passed(self) -> bool:
        """Whether the figure is within the limit; a NaN is not."""
        return self.value <= self.limit


@dataclass(frozen=True)
class SelfTest:
    """The verdict of the golden vectors about an artefact on this machine.

    Attributes
    ----------
    passed
        Whether every picture is within the limits.
    limits
        Those of the artefact's parity gate.
    items
        One for each picture.
    failures
        A sentence for each limit that was exceeded.
    """

    passed: bool
    limits: Limits
    items: tuple[Difference, ...]
    failures: tuple[str, ...]


def limits_of(manifest: Manifest) -> Limits:
    """The limits that an artefact has to keep: those of its parity gate, or else of its target."""
    return TARGETS[manifest.target].limits if manifest.parity is None else manifest.parity.limits


def selftest(manifest: Manifest, folder: Path, opened: Opening) -> SelfTest:
    """Run the golden vectors of every size, all outputs, and hold them against the limits.

    ``opened`` opens an engine for the artefact at one size, for a sequence where it smooths mattes. Golden vectors that
    cannot be read are an ``ArtefactError``.
    """
    limits = limits_of(manifest)
    items: list[Difference] = []
    for sized in manifest.by_size():
        with opened(sized) as engine:
            vectors = [(f"golden {index}", *vector) for index, vector in enumerate(read(folder, sized))]
            items += (compare(*each, limits.pixel_tolerance) for each in inferences(sized, vectors, engine))
    return judge(tuple(items), limits)


def inferences(
    manifest: Manifest, pictures: Sequence[tuple[str, Images, Arrays]], engine: Engine
) -> Iterator[tuple[str, Arrays, Outputs]]:
    """Every picture by itself; where mattes are smoothed, then all of them as frames of a sequence.

    Such a sequence has the first picture once more at its end, and runs again after a reset.

    Parameters
    ----------
    manifest, engine
        Of the artefact at the pictures' size; opened for a sequence, where mattes are smoothed.
    pictures
        Names, images and reference outputs, each of the picture by itself.

    Yields
    ------
    name, reference, outputs
        The name includes the size, where an artefact takes several.
    """
    at = f" at {manifest.input.width}x{manifest.input.height}" if manifest.functions else ""
    for name, image, reference in pictures:
        yield name + at, reference, engine.infer_alone(image, engine.outputs)
    if manifest.smoothing is None:
        return
    frames = [*pictures, pictures[0]]
    for sequence in (1, 2):
        engine.reset()
        alphas = smoothed((reference["alpha"] for _, _, reference in frames), manifest.smoothing)
        for index, ((_, image, _), alpha) in enumerate(zip(frames, alphas, strict=True)):
            yield f"sequence {sequence}, frame {index + 1}{at}", {"alpha": alpha}, engine.infer(image)


def smoothed(alphas: Iterable[NDArray[np.float32]], weight: float) -> Iterator[NDArray[np.float32]]:
    """Consecutive mattes, each mixed with the one before, as by an artefact that keeps alpha + 1 in half precision."""
    before: NDArray[np.float32] | None = None
    for alpha in alphas:
        with np.errstate(all="ignore"):
            smooth = alpha if before is None else alpha + np.float32(weight) * (before - alpha)
            before = (smooth + 1).astype(np.float16).astype(np.float32) - 1
        yield smooth


@np.errstate(all="ignore")  # of the app, and of a broken artefact's infinities: they become NaN or stay
def compare(image: str, reference: Arrays, found: Arrays, tolerance: float) -> Difference:
    """Compare outputs ``[N, C, H, W]`` with their reference; without the two others, ``alpha`` alone is compared.

    A NaN anywhere makes the figures NaN, which is within no limit.
    """

    def off(name: str) -> NDArray[np.float32]:
        distance: NDArray[np.float32] = np.abs(reference[name] - found[name])
        return distance

    def mean(values: Array) -> float:
        return float(np.mean(values, dtype=np.float64))

    def share(distance: NDArray[np.float32]) -> float:
        return mean(~(distance <= tolerance))  # a NaN is not within it

    logits_mean = local_mean = local_share = flips = None
    if "global_logits" in reference:
        wanted, got = reference["global_logits"], found["global_logits"]
        spread = float(wanted.max()) - float(wanted.min())
        logits_mean = mean(off("global_logits")) / (spread or 1.0)
        flips = mean(wanted.argmax(axis=1) != got.argmax(axis=1))
    if "local_alpha" in reference:
        local_mean, local_share = mean(off("local_alpha")), share(off("local_alpha"))
    alpha = off("alpha")
    pairs = zip(found["alpha"][:, 0], reference["alpha"][:, 0], strict=True)
    gradient = 10 * sum(metrics.gradient_error(got, wanted) for got, wanted in pairs) / alpha.size
    return Difference(
        image, logits_mean, local_mean, local_share, flips, mean(alpha), float(alpha.max()), share(alpha),
        mean(np.square(alpha)), gradient,
    )  # fmt: skip


def checks(item: Difference, limits: Limits) -> tuple[Check, ...]:
    """Every figure of a picture that has a limit.

    Alpha has limits that follow from the others: where no class flips it is the local alpha or a constant, and a
    flipped pixel is off by 1 at most. So as many pixels may be off as of the local alpha and by flips together, and the
    mean error may be that of the local alpha, plus 1 for each pixel that is off. That catches a broken fusion, and an
    artefact without the two other outputs that is broken.
    """
    off = f"off by > {limits.pixel_tolerance:g}"
    mean = limits.local_mean + item.alpha_share
    if limits.alpha_mean is not None:
        mean = min(mean, limits.alpha_mean)
    figures = (
        ("global_logits", "mean error of the global logits, of their range,", item.logits_mean, limits.logits_mean),
        ("global_logits", "share of flipped classes", item.flips, limits.flips),
        ("local_alpha", "mean error of the local alpha", item.local_mean, limits.local_mean),
        ("local_alpha", f"share of local alpha {off}", item.local_share, limits.pixel_share),
        ("alpha", "mean error of alpha", item.alpha_mean, mean),
        ("alpha", f"share of alpha {off}", item.alpha_share, limits.pixel_share + limits.flips),
        ("alpha", "MSE of alpha", item.mse, limits.mse),
        ("alpha", "mean GRAD of alpha", item.grad_mean, limits.grad_mean),
    )
    return tuple(
        Check(output, what, value, limit)
        for output, what, value, limit in figures
        if value is not None and limit is not None
    )


def judge(items: tuple[Difference, ...], limits: Limits) -> SelfTest:
    """Hold the figures against the limits."""
    failures = tuple(
        f"{item.image}: {check.what} is {check.value:.3g}, limit {check.limit:.3g}"
        for item in items
        for check in checks(item, limits)
        if not check.passed
    )
    return SelfTest(not failures, limits, items, failures)


def worst(items: tuple[Difference, ...]) -> dict[str, float]:
    """The largest value of each error over the pictures; what is not finite does not count."""
    found: dict[str, float] = {}
    for name, value in (each for item in items for each in vars(item).items()):
        if isinstance(value, float) and math.isfinite(value):
            found[name] = max(value, found.get(name, 0.0))
    return found


class GoldenVector(NamedTuple):
    """One picture, ``[N, H, W, 3]`` uint8, and its reference outputs, ``[N, C, H, W]`` float32 by name."""

    image: Images
    outputs: Outputs


def read(folder: Path, manifest: Manifest) -> tuple[GoldenVector, ...]:
    """Read and check ``folder/golden.npz``; where an artefact takes several sizes, the pictures of the manifest's.

    Raises
    ------
    ArtefactError
        The file is missing, unreadable, empty, or does not match the manifest.
    """
    path = folder / GOLDEN
    try:
        with open_regular(path) as stream, zipfile.ZipFile(stream) as archive:
            vectors = tuple(_vectors(archive, manifest))
    except Exception as error:  # what a crafted file makes ZIP, its compressions and NumPy raise has no common base
        told = reason(error) if isinstance(error, OSError) else str(error)
        raise ArtefactError(f"{path} cannot be read: {' '.join(told.split()) or type(error).__name__}") from error
    if not manifest.functions:
        return vectors
    size = (manifest.input.height, manifest.input.width)
    fitting = tuple(vector for vector in vectors if vector.image.shape[1:3] == size)
    if not fitting:
        raise ArtefactError(f"{path} holds no picture of {size[1]}x{size[0]}")
    return fitting


def _vectors(archive: zipfile.ZipFile, manifest: Manifest) -> Iterator[GoldenVector]:
    """Every picture with its outputs. What does not say to be of the manifest's input is not unpacked."""
    count = sum(name.startswith("image_") for name in archive.namelist())
    if not 1 <= count <= _MOST:
        raise ValueError(f"it holds {count or 'no'} pictures")
    inputs = [(each.input.batch, each.input.height, each.input.width, 3) for each in manifest.by_size()]
    for index in range(count):
        image = _array(archive, f"image_{index}", np.uint8, inputs, "the manifest's input")
        batch, height, width, _ = image.shape
        outputs: Outputs = {}
        for output in manifest.outputs:
            shape = (batch, output.channels, height, width)
            outputs[output.name] = _array(archive, f"{output.name}_{index}", np.float32, [shape], f"image_{index}")
        yield GoldenVector(image, outputs)


def _array(
    archive: zipfile.ZipFile, name: str, dtype: type[_Number], shapes: Sequence[tuple[int | None, ...]], what: str
) -> NDArray[_Number]:
    """An array of NumPy's format, unpacked if its header says the dtype and one of the shapes (None: any side)."""

    def fits(found: tuple[int, ...], shape: tuple[int | None, ...]) -> bool:
        if len(found) != len(shape) or math.prod(found) > _MAX_VALUES or min(found) < 1:
            return False
        return all(want is None or have == want for have, want in zip(found, shape, strict=True))

    with archive.open(f"{name}.npy") as member:
        version = _npy.read_magic(member)
        read_header = _npy.read_array_header_1_0 if version == (1, 0) else _npy.read_array_header_2_0
        found, fortran, kind = read_header(member)
        if kind != np.dtype(dtype):
            raise ValueError(f"{name} is {kind}, not {np.dtype(dtype)}")
        if not any(fits(found, shape) for shape in shapes):
            raise ValueError(f"{name} does not fit {what}: it is {list(found)}")
        wanted = math.prod(found) * kind.itemsize
        data = bytearray(member.read(wanted + 1))
    if len(data) != wanted:
        raise ValueError(f"{name} has not the bytes of {list(found)}")
    return np.frombuffer(data, kind).reshape(found, order="F" if fortran else "C")
