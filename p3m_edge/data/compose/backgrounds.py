"""What is beside and behind the people of portraits, as pictures: real backgrounds to compose with.

Shape legend: H and W, the portrait's size.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from p3m_edge.data import sets
from p3m_edge.data.parallel import Progress, no_progress, parallel_map
from p3m_edge.data.pixels import box_around
from p3m_edge.data.recipe import check_apart, make_folder
from p3m_edge.data.sample import PLAIN, Image, Item, MatteForm
from p3m_edge.errors import InputError
from p3m_edge.imageio import write_png

LEAST = 128
"""Least side of a strip, in pixels, if nothing else is said."""
_VISIBLE = 3  # alphas below (1 %) are noise of the matte
_MARGIN = 0.01  # of the longer side, between the person and a strip
_FILLED_MARGIN = 0.015  # of the longer side: strands that the matte has missed, and shadows
_SURROUNDINGS = 0.15  # least share of the picture to fill the rest from
_COARSE = 128  # longer side at which the person is filled in: details would be invented
_PLAIN = 22.0  # spread of CIE L*a*b*, of 255; composites have enough plain walls without these
_GRAIN = 2.5  # standard deviation, of 255: what is filled in is not to be told by its smoothness alone


@dataclass(frozen=True)
class Cut:
    """What a run did: pictures written, portraits without any, and why others could not be used."""

    out: Path
    parts: int
    without: tuple[str, ...]
    skipped: tuple[str, ...]


def strips(alpha: Image, least: int = LEAST) -> dict[str, tuple[slice, slice]]:
    """Rows and columns of what is left and right of, above and below the person's box, over the whole height or width.

    ``alpha`` is uint8 ``[H, W]``; strips narrower than ``least`` pixels are left out. Without anybody, there is one
    that is the whole picture.
    """
    height, width = alpha.shape
    x, y, wide, high = box_around(alpha >= _VISIBLE)
    margin = max(2, round(_MARGIN * max(height, width)))
    rows, columns = slice(0, height), slice(0, width)
    found = {
        "left": (rows, slice(0, x - margin)), "right": (rows, slice(x + wide + margin, width)),
        "top": (slice(0, y - margin), columns), "bottom": (slice(y + high + margin, height), columns),
    }  # fmt: skip
    found = found if wide else {"whole": (rows, columns)}
    return {side: strip for side, strip in found.items() if min(one.stop - one.start for one in strip) >= least}


def behind(image: Image, alpha: Image) -> Image | None:
    """The picture without the person, who is filled in smoothly from all around: uint8 ``[H, W, 3]``, RGB.

    None where hardly anything surrounds the person, or all of it is plain. The alpha is uint8 ``[H, W]``.
    """
    height, width = alpha.shape
    side = max(height, width)
    radius = max(3, round(_FILLED_MARGIN * side))
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    person = (alpha >= _VISIBLE).astype(np.uint8)
    hidden = cv2.dilate(person, ellipse)
    known = (hidden == 0).astype(np.float32)
    if known.mean() < _SURROUNDINGS:
        return None
    size = (max(8, round(width * _COARSE / side)), max(8, round(height * _COARSE / side)))
    weight = cv2.resize(known, size, interpolation=cv2.INTER_AREA)
    total = cv2.resize(image * known[..., None], size, interpolation=cv2.INTER_AREA)
    sure = weight > 0.3
    mean = np.where(sure[..., None], total / np.maximum(weight, 0.3)[..., None], 0)
    filled = cv2.inpaint(mean.clip(0, 255).astype(np.uint8), (~sure).astype(np.uint8), 3, cv2.INPAINT_TELEA)
    smooth = cv2.resize(filled, (width, height), interpolation=cv2.INTER_CUBIC)
    grain = _GRAIN * np.random.default_rng(0).standard_normal(image.shape, np.float32)
    share = np.maximum(cv2.GaussianBlur(hidden.astype(np.float32), (0, 0), 1.5), person)[..., None]
    result = (image * (1 - share) + (smooth + grain) * share).clip(0, 255).astype(np.uint8)
    colours = cv2.cvtColor(cv2.GaussianBlur(result, (0, 0), 1), cv2.COLOR_RGB2LAB)
    plain = float(colours.reshape(-1, 3).std(axis=0).max()) <= _PLAIN
    return None if plain else np.asarray(result)


def write_places(
    folder: Path, out: Path, least: int = LEAST, *, filled: bool = False, stored: MatteForm = PLAIN,
    workers: int | None = None, progress: Progress = no_progress,
) -> Cut:  # fmt: skip
    """Cut the strips of a set's portraits out, ``<portrait>_<side>.png`` each; earlier ones are written again.

    With ``filled``, no strips are cut: ``<portrait>_behind.png`` is what :func:`behind` makes of each. Portraits that
    are narrower than ``least`` are left out. ``stored`` says how the mattes are stored. An :class:`InputError` says
    that the folder is no set with mattes, a :class:`UsageError` that one folder lies in the other, or the set is a test
    set of the papers.
    """
    check_apart(out, folder)
    sets.refuse_test_set(folder)
    items = sets.open_set(folder, stored=stored).items
    make_folder(out)
    done = parallel_map(partial(_write, out, least, filled), items, workers=workers, progress=progress)
    without = tuple(item.name for item, count in zip(items, done, strict=True) if count == 0)
    written = sum(count for count in done if isinstance(count, int))
    return Cut(out, written, without, tuple(reason for reason in done if isinstance(reason, str)))


def _write(out: Path, least: int, filled: bool, item: Item) -> int | str:
    """How many pictures were written, or why none."""
    try:
        sample = sets.read(item)
    except InputError as error:
        return sets.told(error)
    if filled:
        picture = behind(sample.image, sample.alpha) if min(sample.alpha.shape) >= least else None
        found = {} if picture is None else {"behind": picture}
    else:
        found = {side: sample.image[strip] for side, strip in strips(sample.alpha, least).items()}
    for side, picture in found.items():
        write_png(out / f"{item.name}_{side}.png", picture)
    return len(found)
