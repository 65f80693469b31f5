"""A set of composites as files; what is there already is kept. See :mod:`p3m_edge.data.compose`."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import cv2
import msgspec
import numpy as np

from p3m_edge.data import foreground, sets
from p3m_edge.data.compose import composite, empty
from p3m_edge.data.parallel import Progress, parallel_map
from p3m_edge.data.recipe import claim
from p3m_edge.data.sample import Image, Item, Sample
from p3m_edge.errors import InputError, UsageError
from p3m_edge.imageio import atomic_write, list_images, read_image, write_png

LIST = "composed.csv"
"""Which portrait and which background each picture was made of."""

_RECORD = "compose.json"
_COLOURS = ".colours"  # estimated foregrounds; the sets stay as they are
_FOLDERS = ("alpha", "facemask", "image")
_EMPTY = 0.04  # share of pictures without a person
_QUALITY = 95
_KEPT = 24  # decoded portraits that a process keeps


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a folder of composites was made with; stored there, so that a later run can continue it."""

    seed: int
    width: int
    height: int
    portraits: tuple[str, ...]
    backgrounds: str


class Draw(NamedTuple):
    """What a picture is made of; ``portrait`` is None where nobody is in it."""

    portrait: Item | None
    background: Path
    rng: np.random.Generator


@dataclass(frozen=True)
class Composed:
    """What a run did.

    Attributes
    ----------
    made, kept
        Pictures of this run, and complete ones that were there.
    portraits, backgrounds
        How many there are to draw from.
    """

    out: Path
    recipe: Recipe
    made: int
    kept: int
    portraits: int
    backgrounds: int


@dataclass(frozen=True)
class Stock:
    """What pictures are drawn from: the items of each set, and the background files."""

    recipe: Recipe
    sets: tuple[tuple[Item, ...], ...]
    backgrounds: tuple[Path, ...]

    def draw(self, index: int) -> Draw:
        """The portrait and background of a picture; each set equally often, and within it each portrait."""
        rng = np.random.default_rng([self.recipe.seed, index])
        background = self.backgrounds[int(rng.integers(len(self.backgrounds)))]
        items = self.sets[int(rng.integers(len(self.sets)))]
        item = items[int(rng.integers(len(items)))]
        return Draw(None if rng.random() < _EMPTY else item, background, rng)


def open_stock(recipe: Recipe) -> Stock:
    """List what there is.

    Raises
    ------
    InputError
        A set or the folder of backgrounds cannot be read, or is empty.
    UsageError
        The seed is negative.
    """
    if recipe.seed < 0:
        raise UsageError(f"a seed is 0 or more, not {recipe.seed}")
    items = tuple(sets.open_set(root).items for root in recipe.portraits)
    backgrounds = tuple(list_images(recipe.backgrounds))
    if not backgrounds:
        raise InputError(f"{recipe.backgrounds} holds no pictures to use as backgrounds")
    return Stock(recipe, items, backgrounds)


def write_set(
    out: Path,
    stock: Stock,
    count: int,
    *,
    workers: int | None = None,
    progress: Progress = lambda _done, _total: None,
) -> Composed:
    """Write the composites 0 to ``count`` - 1; ``out`` gets image/ (JPEG), alpha/, facemask/ and the list.

    The image is written last: one that is there is complete, whenever the run before ended.

    Raises
    ------
    UsageError
        The folder holds composites of another recipe, or lies in what it is made from.
    InputError
        A portrait or background cannot be read.
    OutputError
        Something cannot be written.
    """
    _check_apart(out, stock.recipe)
    claim(out / _RECORD, stock.recipe, _FOLDERS)
    left = [index for index in range(count) if not (out / "image" / f"{_name(index)}.jpg").exists()]
    parallel_map(partial(_write, out, stock), left, workers=workers, progress=progress)
    _write_list(out, stock, count)
    listed = sum(len(items) for items in stock.sets)
    return Composed(out, stock.recipe, len(left), count - len(left), listed, len(stock.backgrounds))


def draw(stock: Stock, colours: Path, index: int) -> Sample:
    """One composite; estimated foregrounds are kept in the folder ``colours``."""
    drawn = stock.draw(index)
    size = (stock.recipe.width, stock.recipe.height)
    behind = read_image(drawn.background).rgb
    if drawn.portrait is None:
        return empty(behind, size, drawn.rng)
    return composite(_portrait(drawn.portrait, colours), behind, size, drawn.rng)


@lru_cache(_KEPT)
def _portrait(item: Item, colours: Path) -> Sample:
    return foreground.cached(item, colours)


def _write(out: Path, stock: Stock, index: int) -> None:
    sample = draw(stock, out / _COLOURS, index)
    name = _name(index)
    write_png(out / "alpha" / f"{name}.png", sample.alpha)
    assert sample.face_mask is not None
    write_png(out / "facemask" / f"{name}.png", sample.face_mask)
    atomic_write(out / "image" / f"{name}.jpg", jpeg(sample.image, _QUALITY))


def jpeg(image: Image, quality: int) -> bytes:
    """``[H, W, 3]``, RGB, as a JPEG file."""
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return data.tobytes()


def _write_list(out: Path, stock: Stock, count: int) -> None:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("name", "portrait", "background"))
    for index in range(count):
        drawn = stock.draw(index)
        rows.writerow((_name(index), "" if drawn.portrait is None else drawn.portrait.name, drawn.background.name))
    atomic_write(out / LIST, text.getvalue().encode("utf-8", "surrogateescape"))


def _check_apart(out: Path, recipe: Recipe) -> None:
    for source in (*recipe.portraits, recipe.backgrounds):
        if out.resolve().is_relative_to(Path(source).resolve()):
            raise UsageError(f"{out} lies in {source}, which it is made from", hint="choose a folder elsewhere")


def _name(index: int) -> str:
    return f"{index:07d}"


def describe(sources: Sequence[str]) -> str:
    """The names of folders, for a line of text."""
    return ", ".join(Path(source).name for source in sources)
