"""A set of composites as files; what is there already is kept. See :mod:`p3m_edge.data.compose.composite`."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np

from p3m_edge.atomic import atomic_write
from p3m_edge.data import foreground, sets
from p3m_edge.data.cache import Cache
from p3m_edge.data.compose.composite import Variation, composite, drawn_background, empty, framed, plain_background
from p3m_edge.data.compose.stock import Pick, Recipe, Stock, picks
from p3m_edge.data.parallel import Progress, no_progress, parallel_map
from p3m_edge.data.pixels import encode_jpeg
from p3m_edge.data.recipe import MOST, check_apart, claim, make_folder, numbered
from p3m_edge.data.sample import Item, Sample
from p3m_edge.errors import InputError, UsageError
from p3m_edge.imageio import read_image, write_png

_RECORD = "compose.json"
FOREGROUNDS = "foregrounds"  # where estimated ones go, if nothing else is said
_COLUMNS = ("name", "kind", "set", "portrait", "background", "seed")
_MEMORY = 300_000_000  # bytes of decoded portraits that a process keeps


@dataclass(frozen=True)
class Skipped:
    """Why pictures were left out."""

    reason: str
    pictures: int


@dataclass(frozen=True)
class Composed:
    """What a run did: pictures made now, complete ones that were there, and what could not be used."""

    out: Path
    recipe: Recipe
    made: int
    kept: int
    skipped: tuple[Skipped, ...]

    @property
    def missing(self) -> int:
        """How many pictures are not there."""
        return sum(one.pictures for one in self.skipped)


def write_set(
    out: Path, stock: Stock, recipe: Recipe, count: int, *,
    foregrounds: Path | None = None, workers: int | None = None, progress: Progress = no_progress,
) -> Composed:  # fmt: skip
    """Write the first ``count`` composites of a recipe, and the list of what they were made of.

    The folder gets ``image/``, ``alpha/`` and ``facemask/``, perhaps ``fg/`` and ``bg/``, and the list. The image is
    written last: one that is there is complete, whenever the run before ended. A picture that needs a file that cannot
    be used is left out, and made by a further run when that is put right. Estimated foregrounds are kept in
    ``foregrounds`` (None: in ``out``).

    Raises
    ------
    UsageError
        The folder holds composites of another recipe, or there are too many.
    InputError
        The record is damaged.
    OutputError
        Something cannot be written.
    MissingError
        Foregrounds must be estimated, and PyMatting is not installed.
    """
    numbers = numbered(recipe.seed, count)
    claim(out / _RECORD, recipe, ("image", "alpha", "facemask", *(("fg", "bg") if recipe.colours else ())))
    colours = out / FOREGROUNDS if foregrounds is None else foregrounds
    make_folder(colours)
    there = _there(out, recipe)
    listed = max([count, *(int(name) - numbers.start + 1 for name in there)])
    all_picks = list(picks(stock, recipe, listed))
    left = [pick for pick in all_picks[:count] if pick.name not in there]
    try:
        reasons = parallel_map(partial(_write, out, recipe, colours), left, workers=workers, progress=progress)
    finally:
        _write_list(out, recipe, all_picks)
    counted = Counter(reason for reason in reasons if reason is not None)
    skipped = tuple(Skipped(*one) for one in sorted(counted.items()))
    return Composed(out, recipe, len(left) - counted.total(), count - len(left), skipped)


def check_folders(out: Path, portraits: Iterable[Path], backgrounds: Sequence[Path], foregrounds: Path | None) -> None:
    """Raise a :class:`UsageError` for folders that would mix what goes in with what comes out."""
    for source in (*portraits, *backgrounds):
        check_apart(out, source)
    if foregrounds is not None and foregrounds.resolve() in [folder.resolve() for folder in backgrounds]:
        raise UsageError(f"{foregrounds} holds the backgrounds", hint="choose another folder for --foregrounds")


def draw(recipe: Recipe, colours: Path, pick: Pick) -> Sample:
    """One picture; estimated foregrounds are kept in the folder ``colours``.

    Raises an :class:`InputError` if a file cannot be used, and as :func:`p3m_edge.data.foreground.estimate`.
    """
    size = (recipe.width, recipe.height)
    person_rng, behind_rng, variation_rng = (np.random.default_rng([part, pick.number]) for part in (3, 4, 5))
    if pick.kind == "whole":
        assert pick.item is not None
        return framed(_reader(colours if recipe.colours else None).read(pick.item), size, person_rng)
    if pick.background is None:
        behind = plain_background(size, behind_rng)
    else:
        behind = drawn_background(read_image(pick.background).visible, size, behind_rng)
    if pick.item is None:
        return empty(pick.name, behind)
    portrait = _reader(colours).read(pick.item)
    variation = None if pick.texture is None else Variation(read_image(pick.texture).visible, variation_rng)
    return composite(portrait, behind, person_rng, variation)


@cache
def _reader(colours: Path | None) -> Cache:
    """The portraits of this process, with the foreground that their set lacks from a folder, if there is one."""

    def read(item: Item) -> Sample:
        return sets.read(item) if colours is None or item.foreground is not None else foreground.cached(item, colours)

    return Cache(_MEMORY, read)


def _write(out: Path, recipe: Recipe, colours: Path, pick: Pick) -> str | None:
    """Write a picture's files; the reason, where that is not possible."""
    try:
        sample = draw(recipe, colours, pick)
    except InputError as error:
        return sets.told(error)
    except MemoryError:
        return f"{pick.name} does not fit into memory"
    parts = {"alpha": sample.alpha, "facemask": sample.face_mask}
    if recipe.colours:
        parts |= {"fg": sample.foreground, "bg": sample.background}
    for folder, picture in parts.items():
        if picture is None:
            assert pick.item is not None
            return f"{pick.item.image} has no {folder}/"
        write_png(out / folder / f"{pick.name}.png", picture)
    image = out / "image" / f"{pick.name}{_suffix(recipe)}"
    if recipe.quality:
        atomic_write(image, encode_jpeg(sample.image, recipe.quality))
    else:
        write_png(image, sample.image)
    return None


def _suffix(recipe: Recipe) -> str:
    return ".jpg" if recipe.quality else ".png"


def _there(out: Path, recipe: Recipe) -> set[str]:
    """The names of the complete pictures of this seed."""
    names = (path.stem for path in (out / "image").glob(f"[0-9]*{_suffix(recipe)}"))
    return {name for name in names if name.isdecimal() and int(name) // MOST == recipe.seed}


def _write_list(out: Path, recipe: Recipe, all_picks: Sequence[Pick]) -> None:
    there = _there(out, recipe)
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(_COLUMNS)
    for pick in all_picks:
        if pick.name in there:
            names = ("" if file is None else file.name for file in (pick.item, pick.background))
            rows.writerow((pick.name, pick.kind, pick.set, *names, recipe.seed))
    atomic_write(out / sets.COMPOSED, text.getvalue().encode("utf-8", "backslashreplace"))
