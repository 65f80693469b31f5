"""What is beside the people of portraits, as pictures: real backgrounds to compose with.

Shape legend: H and W, the portrait's size.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from p3m_edge.data import sets
from p3m_edge.data.parallel import Progress, parallel_map
from p3m_edge.data.recipe import check_apart
from p3m_edge.data.sample import Image, Item, Sample
from p3m_edge.errors import InputError, OutputError
from p3m_edge.imageio import write_png

LEAST = 128
"""Least side of a part, in pixels, if nothing else is said."""
_VISIBLE = 3  # alphas below (1 %) are noise of the matte
_MARGIN = 0.01  # of the longer side, between the person and a part


@dataclass(frozen=True)
class Part:
    """A rectangle without anybody, in pixels."""

    side: str
    left: int
    top: int
    width: int
    height: int

    def of(self, picture: Image) -> Image:
        """What a picture ``[H, W, 3]`` shows there."""
        return picture[self.top : self.top + self.height, self.left : self.left + self.width]


@dataclass(frozen=True)
class Cut:
    """What a run did: parts written, portraits without any, and why others could not be used."""

    out: Path
    parts: int
    without: tuple[str, ...]
    skipped: tuple[str, ...]


def parts(alpha: Image, least: int = LEAST) -> list[Part]:
    """The strips left and right of, above and below the person's box, over the whole height or width.

    Parameters
    ----------
    alpha
        uint8 ``[H, W]``.
    least
        Strips that are narrower, in pixels, are left out.
    """
    height, width = alpha.shape
    x, y, wide, high = cv2.boundingRect((alpha >= _VISIBLE).astype(np.uint8))
    if not wide:
        found = [Part("whole", 0, 0, width, height)]
    else:
        margin = max(2, round(_MARGIN * max(height, width)))
        right, below = x + wide + margin, y + high + margin
        found = [
            Part("left", 0, 0, x - margin, height), Part("right", right, 0, width - right, height),
            Part("top", 0, 0, width, y - margin), Part("bottom", 0, below, width, height - below),
        ]  # fmt: skip
    return [part for part in found if min(part.width, part.height) >= least]


def write_parts(
    folder: Path,
    out: Path,
    least: int = LEAST,
    *,
    workers: int | None = None,
    progress: Progress = lambda _done, _total: None,
) -> Cut:
    """Cut the parts of a set's portraits out, ``<portrait>_<side>.png`` each; earlier ones are written again.

    Raises
    ------
    InputError
        The folder is no set with mattes.
    OutputError
        Something cannot be written.
    UsageError
        One folder lies in the other, or the set is a test set of the papers.
    """
    check_apart(out, folder)
    sets.refuse_test_set(folder)
    items = sets.open_set(folder).items
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out} cannot be used: {error.strerror}") from error
    done = parallel_map(partial(_write, out, least), items, workers=workers, progress=progress)
    counts = {item.name: count for item, count in zip(items, done, strict=True) if isinstance(count, int)}
    without = tuple(name for name, count in counts.items() if count == 0)
    return Cut(out, sum(counts.values()), without, tuple(reason for reason in done if isinstance(reason, str)))


def _write(out: Path, least: int, item: Item) -> int | str:
    """How many parts were written, or why none."""
    try:
        sample: Sample = sets.read(item)
    except InputError as error:
        return str(error)
    found = parts(sample.alpha, least)
    for part in found:
        write_png(out / f"{item.name}_{part.side}.png", part.of(sample.image))
    return len(found)
