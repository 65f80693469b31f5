"""Sample portraits through every artefact that was measured: mattes to look at, and their errors.

It runs after the measuring, in processes of its own. Errors are taken at the pictures' full size; what is kept of the
pictures and mattes is small enough for a page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from itertools import count
from pathlib import Path
from statistics import fmean

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge import imageio
from p3m_edge.benchmarks.measure import Progress, no_progress
from p3m_edge.benchmarks.report.schema import Accuracy, BenchmarkReport
from p3m_edge.benchmarks.rows import ArtefactRow, load_arguments, redact
from p3m_edge.data import sets
from p3m_edge.data.sample import Image, Item
from p3m_edge.errors import UsageError
from p3m_edge.temporary import temporary_folder
from p3m_edge.workers.parent import Worker, WorkerError

PAGE_SIDE = 768
"""The longer side of a picture as it is kept, in pixels."""

MOST = 12
"""Pictures that a page holds: more would make it too large to be opened, let alone looked at."""

VISIBLE = 0.01
"""A difference of an alpha that counts as seen, in the share of pixels."""

_PORTRAIT = "astronaut.jpg"
_DETAIL = 0.25  # side of the window of detail, as a share of the picture's shorter side

Alpha = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Matte:
    """What a row made of a picture.

    Attributes
    ----------
    alpha
        ``[h, w]``, uint8, at the portrait's size on the page.
    sad
        Against the truth, in thousands, at full size; None without a truth.
    difference, largest, visible
        From the reference's alpha, at full size: the mean absolute difference times 1000, the largest one (0..1), and
        the share of pixels that differ by more than ``VISIBLE``.
    """

    alpha: Image
    sad: float | None
    difference: float
    largest: float
    visible: float


@dataclass(frozen=True, eq=False)
class Portrait:
    """A sample portrait with all its mattes, by label.

    Attributes
    ----------
    width, height
        Of the picture, in pixels.
    photo, truth
        ``[h, w, 3]`` and ``[h, w]``, uint8, at most ``PAGE_SIDE`` on the longer side.
    detail
        The square with the most detailed edge: left, top and side, in pixels of ``photo``.
    """

    name: str
    width: int
    height: int
    photo: Image
    truth: Image | None
    detail: tuple[int, int, int]
    mattes: dict[str, Matte]


def find(paths: Sequence[Path]) -> tuple[Item, ...]:
    """The pictures of files, folders and sets, each once, by the names to show; those of a set have their true mattes.

    :class:`UsageError`: there are more than ``MOST``, or a folder holds several splits; :class:`InputError`: a folder
    cannot be listed, or holds no pictures.
    """
    if not paths:
        return (Item(_PORTRAIT, Path(str(resources.files("p3m_edge") / "assets" / _PORTRAIT))),)
    found: dict[Path, Item] = {}
    for item in (item for path in paths for item in _items(path)):
        found.setdefault(item.image.absolute(), item)
    if len(found) > MOST:
        raise UsageError(f"{len(found)} samples are too many: a page holds {MOST}", hint="name some of the files")
    count = Counter(picture.name for picture in found)
    return tuple(
        replace(item, name="/".join(picture.parts[-3:]) if count[picture.name] > 1 else picture.name)
        for picture, item in found.items()
    )


def _items(path: Path) -> Sequence[Item]:
    """The pictures of a folder or a set; of a file, the picture with the matte that its set has."""
    if not path.is_dir():
        home = path.absolute().parent.parent
        within = sets.find_items(home) if sets.find_layout(home) is not None else ()
        return [item for item in within if item.image == path.absolute()] or [Item(path.name, path)]
    if sets.find_layout(path) is None and (splits := sets.splits(path)):
        raise UsageError(f"{path} has splits: name one", hint=f"--samples {' '.join(map(str, splits.values()))}")
    return sets.find_items(path)


def check(samples: Iterable[Item]) -> None:
    """Decode every picture and true matte, before anything is measured.

    :class:`InputError` if one cannot be read, or a matte is not of its picture's size.
    """
    for sample in samples:
        _read(sample)


def matte(
    rows: Sequence[ArtefactRow], report: BenchmarkReport, samples: Sequence[Item], *,
    reference: str | None = None, progress: Progress = no_progress,
) -> tuple[tuple[Portrait, ...], Accuracy]:  # fmt: skip
    """Matte every sample with every artefact that is ok in the report; with what follows from it for the report.

    A row that cannot matte a picture (a crash, no memory) has no mattes at all, and its reason among the failures.

    Parameters
    ----------
    rows, report
        The artefacts; the report says which of them are ok, and with which device and threads they were measured.
    samples
        The pictures; :class:`InputError` if one cannot be read.
    reference
        The label of the row to compare with. None, or a row without mattes (eager, failed): the first in float32,
        else the first.
    progress
        Called at every step.
    """
    ok = {row.label: row for row in report.rows if row.status == "ok"}
    usable = [row for row in rows if row.label in ok]
    options = replace(report.options, frame_width=1, frame_height=1)  # that frame is not matted
    steps, failures = count(), dict[str, str]()
    with temporary_folder() as folder:
        for row in usable:
            alphas = folder / str(usable.index(row))
            alphas.mkdir()
            try:
                with Worker(row.module, timeout=options.timeout, scratch=folder) as worker:
                    worker.call("load", **load_arguments(row, options))
                    for number, sample in enumerate(samples):
                        progress(f"{row.label}: {sample.name}", next(steps), len(usable) * len(samples))
                        picture, out = sample.image.absolute(), alphas / f"{number}.npy"
                        worker.call("matte", picture=str(picture), out=str(out))
            except WorkerError as error:
                failures[row.label] = redact(str(error), row.paths())
        made = {row.label: folder / str(n) for n, row in enumerate(usable) if row.label not in failures}
        order = sorted(made, key=lambda label: (label != reference, ok[label].precision != "fp32"))
        base = next(iter(order), None)
        portraits = tuple(
            _portrait(sample, {label: np.load(home / f"{number}.npy") for label, home in made.items()}, base)
            for number, sample in enumerate(samples)
        )
    return portraits, _accuracy(portraits, base, failures)


def _read(sample: Item) -> tuple[Image, Image | None]:
    picture = imageio.read_image(sample.image)
    return picture.rgb, None if sample.alpha is None else sets.read_partner(sample.alpha, "alpha", picture, sample)


def _portrait(sample: Item, alphas: Mapping[str, Alpha], reference: str | None) -> Portrait:
    picture, truth = _read(sample)
    base = None if reference is None else alphas[reference]
    mattes = {label: _compared(alpha, base, truth) for label, alpha in alphas.items()}
    photo, small_truth = _small(picture), None if truth is None else _small(truth)
    edge = mattes[reference].alpha if small_truth is None and reference is not None else small_truth
    if edge is None:
        edge = np.asarray(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
    height, width = picture.shape[:2]
    return Portrait(sample.name, width, height, photo, small_truth, most_detailed(edge), mattes)


def _compared(alpha: Alpha, reference: Alpha | None, truth: Image | None) -> Matte:
    difference = np.abs(alpha - (alpha if reference is None else reference))
    sad = None if truth is None else _mean(np.abs(alpha - truth.astype(np.float32) / 255)) * alpha.size / 1000
    small = _small(np.rint(np.clip(alpha, 0, 1) * 255).astype(np.uint8))
    return Matte(small, sad, 1000 * _mean(difference), float(difference.max()), _mean(difference > VISIBLE))


def _mean(values: NDArray[np.float32 | np.bool_]) -> float:
    return float(values.mean(dtype=np.float64))


def _small(picture: Image) -> Image:
    height, width = picture.shape[:2]
    scale = PAGE_SIDE / max(height, width)
    if scale >= 1:
        return picture
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def most_detailed(edge: Image) -> tuple[int, int, int]:
    """Left, top and side of the square window with the most hair, by an alpha ``[h, w]``.

    That is where values between the extremes change from pixel to pixel; the upper parts of the subject count more.
    """
    height, width = edge.shape
    side = max(1, min(height, width, max(32, round(_DETAIL * min(height, width)))))
    values = edge.astype(np.float32) / 255
    change = np.abs(np.diff(values, axis=1, prepend=values[:, :1])) + np.abs(
        np.diff(values, axis=0, prepend=values[:1])
    )
    mass = np.cumsum(values.sum(axis=1, dtype=np.float64))
    first, last = np.searchsorted(mass, [0.02 * mass[-1], 0.98 * mass[-1]])
    down = np.clip((np.arange(height) - first) / max(1, last - first), 0, 1)
    detail = change * 4 * values * (1 - values) * np.square(1 - down[:, None]).astype(np.float32)
    sums = cv2.boxFilter(detail, -1, (side, side), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
    inside = sums[: height - side + 1, : width - side + 1]
    top, left = np.unravel_index(int(np.argmax(inside)), inside.shape)
    return int(left), int(top), side


def _accuracy(portraits: Sequence[Portrait], reference: str | None, failures: dict[str, str]) -> Accuracy:
    labels = list(portraits[0].mattes) if portraits else []
    sads = {label: [m.sad for p in portraits if (m := p.mattes[label]).sad is not None] for label in labels}
    return Accuracy(
        pictures=len(portraits),
        true_mattes=sum(portrait.truth is not None for portrait in portraits),
        reference=reference,
        sad={label: fmean(values) for label, values in sads.items() if values},
        difference={label: fmean(p.mattes[label].difference for p in portraits) for label in labels},
        failures=failures,
    )
