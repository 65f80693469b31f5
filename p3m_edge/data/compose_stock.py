"""What composites are made from, and which portrait and background each of them gets."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from p3m_edge.data import sets
from p3m_edge.data.recipe import numbered
from p3m_edge.data.sample import PLAIN, Item, MatteForm
from p3m_edge.errors import InputError, UsageError
from p3m_edge.imageio import list_images

Kind = Literal["composed", "whole", "empty"]
_PLAIN = 0.08
_TRAIN = "train"


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A folder of portraits or backgrounds as it was found: another digest is another list of files, or other sizes."""

    name: str
    pictures: int
    digest: str
    weight: float = 1.0


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a folder of composites was made with; stored there, so that a later run can continue it.

    Attributes
    ----------
    quality
        Of the pictures as JPEG, 1 to 100; 0: PNG.
    colours
        Whether ``fg/`` and ``bg/`` are written.
    whole, empty
        Shares of pictures that are a portrait as it is, and that show nobody.
    vary
        Share of the composed ones whose person is varied (:mod:`p3m_edge.data.compose_vary`).
    stored
        How the portraits' mattes are stored.
    """

    seed: int
    width: int
    height: int
    quality: int
    colours: bool
    whole: float
    empty: float
    portraits: tuple[Source, ...]
    backgrounds: tuple[Source, ...]
    vary: float = 0.0
    stored: MatteForm = PLAIN


@dataclass(frozen=True)
class Portraits:
    """A set that people are cut out of."""

    source: Source
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Backgrounds:
    """A folder of pictures to stand before."""

    source: Source
    files: tuple[Path, ...]


@dataclass(frozen=True)
class Stock:
    """All that pictures are drawn from."""

    portraits: tuple[Portraits, ...]
    backgrounds: tuple[Backgrounds, ...]


@dataclass(frozen=True)
class Pick:
    """What one picture is made of.

    Attributes
    ----------
    number
        Of the picture; all that is random in it comes from here.
    kind
        ``composed``; ``whole``, a portrait as it is; or ``empty``, a background without anybody.
    set, item
        The portrait; None where there is none.
    background
        A file; None where the portrait keeps its own, or it is a plain colour.
    texture
        A file of the backgrounds, where the person is varied; None where not.
    """

    number: int
    kind: Kind
    set: str = ""
    item: Item | None = None
    background: Path | None = None
    texture: Path | None = None

    @property
    def name(self) -> str:
        """Of the picture's files."""
        return f"{self.number:08d}"


def open_stock(
    portraits: Sequence[tuple[Path, float]], backgrounds: Sequence[tuple[Path, float]], stored: MatteForm = PLAIN
) -> Stock:
    """List what there is, without decoding anything.

    Parameters
    ----------
    portraits
        Folders of sets with their weights; of a set with a split ``train``, that one is taken.
    backgrounds
        Folders of pictures with their weights.
    stored
        How the portraits' mattes are stored.

    Raises
    ------
    InputError
        A folder cannot be read, is no set, or is empty; a picture has no alpha.
    UsageError
        A folder is there twice, there is none, the split must be named, or a folder belongs to a test set.
    """
    if not portraits:
        raise UsageError("there are no portraits to cut people out of")
    roots, behind = [_root(path) for path, _ in portraits], [path for path, _ in backgrounds]
    for folders in (roots, behind):
        double = next((path for path, count in Counter(one.resolve() for one in folders).items() if count > 1), None)
        if double is not None:
            raise UsageError(f"{double} is given twice", hint="DIR:2 gives a folder twice the share")
    for folder in (*roots, *behind):
        sets.refuse_test_set(folder)
    found = [sets.open_set(root, stored=stored) for root in roots]
    opened = tuple(
        Portraits(_source(name, [_files(item) for item in one.items], weight), one.items)
        for name, one, (_, weight) in zip(_names(roots), found, portraits, strict=True)
    )
    places = tuple(
        _backgrounds(name, folder, weight)
        for name, (folder, weight) in zip(_names(behind), backgrounds, strict=True)
    )  # fmt: skip
    return Stock(opened, places)


def picks(stock: Stock, recipe: Recipe, count: int) -> Iterator[Pick]:
    """What the first ``count`` pictures of a recipe are made of; a larger count begins with the same ones.

    The sets take turns by their weights, and within a set every portrait is used once, in an order drawn anew, before
    any is used again.

    Raises
    ------
    InputError, UsageError
        As :func:`p3m_edge.data.recipe.numbered`.
    """
    used = [0] * len(stock.portraits)
    orders: dict[int, list[int]] = {}
    weights = np.array([one.source.weight for one in stock.portraits], float)
    weights /= weights.sum()
    for number in numbered(recipe.seed, count):
        rng = np.random.default_rng([1, number])
        kind = _kind(recipe, rng.random())
        plain = rng.random() < _PLAIN
        background = _background(stock, rng)
        behind = None if plain or kind == "whole" else background
        texture = _background(stock, rng) if rng.random() < recipe.vary and kind == "composed" else None
        if kind == "empty":
            yield Pick(number, kind, background=behind)
            continue
        which = int(np.argmax(weights * (sum(used) + 1) - used))
        items = stock.portraits[which].items
        turn, place = divmod(used[which], len(items))
        if place == 0:
            orders[which] = np.random.default_rng([2, recipe.seed, which, turn]).permutation(len(items)).tolist()
        used[which] += 1
        yield Pick(number, kind, stock.portraits[which].source.name, items[orders[which][place]], behind, texture)


def _background(stock: Stock, rng: np.random.Generator) -> Path:
    weights = np.array([one.source.weight for one in stock.backgrounds], float)
    which = int(np.searchsorted(np.cumsum(weights / weights.sum())[:-1], rng.random(), side="right"))
    files = stock.backgrounds[which].files
    return files[int(rng.integers(len(files)))]


def _backgrounds(name: str, folder: Path, weight: float) -> Backgrounds:
    files = tuple(list_images(folder))
    if not files:
        raise InputError(f"{folder} holds no pictures", hint="its sub-folders are not looked into")
    return Backgrounds(_source(name, [[path] for path in files], weight), files)


def _kind(recipe: Recipe, draw: float) -> Kind:
    if draw < recipe.empty:
        return "empty"
    return "whole" if draw < recipe.empty + recipe.whole else "composed"


def _root(path: Path) -> Path:
    """The folder of a set's pictures, where the set has several splits."""
    return path if sets.find_layout(path) is not None else sets.splits(path).get(_TRAIN, path)


def _names(roots: Sequence[Path]) -> list[str]:
    """The folders' names, with as many of the folders above as tell them apart."""
    parts = [root.resolve().parts for root in roots]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            break
    return names


def _files(item: Item) -> list[Path]:
    return [path for path in vars(item).values() if isinstance(path, Path)]


def _source(name: str, entries: Iterable[Sequence[Path]], weight: float) -> Source:
    content, count = hashlib.blake2b(digest_size=16), 0
    for paths in entries:
        count += 1
        for path in paths:
            try:
                size = path.stat().st_size
            except OSError:  # a dead link: the picture that needs it says so
                size = -1
            content.update(f"{path.parent.name}/{path.name}\n{size}\n".encode("utf-8", "surrogateescape"))
    return Source(name.encode("utf-8", "backslashreplace").decode(), count, content.hexdigest(), weight)
