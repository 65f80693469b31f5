"""What composites are made from, and which portrait and background each of them gets."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from p3m_edge.data import sets
from p3m_edge.data.recipe import numbered
from p3m_edge.data.sample import PLAIN, Item, MatteForm
from p3m_edge.errors import InputError, UsageError
from p3m_edge.imageio import list_images

Kind = Literal["composed", "whole", "empty"]
T = TypeVar("T", Item, Path)
_PLAIN = 0.08


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A folder of portraits or backgrounds as it was found: another digest is another list of files, or other sizes."""

    name: str
    pictures: int
    digest: str
    weight: float = 1.0


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a folder of composites was made with; stored there, so that a later run can continue it.

    The quality is that of the pictures as JPEG, 1 to 100 (0: PNG); ``colours`` says whether ``fg/`` and ``bg/`` are
    written, ``stored`` how the portraits' mattes are. ``whole`` and ``empty`` are the shares of pictures that are a
    portrait as it is, and that show nobody; ``vary`` is that of the composed ones whose person is varied
    (:mod:`p3m_edge.data.compose.vary`).
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
class Pool(Generic[T]):
    """A folder that is drawn from: a set's items, or files of backgrounds."""

    source: Source
    entries: tuple[T, ...]


@dataclass(frozen=True)
class Stock:
    """All that pictures are drawn from."""

    portraits: tuple[Pool[Item], ...]
    backgrounds: tuple[Pool[Path], ...]


@dataclass(frozen=True)
class Pick:
    """What one picture is made of; all that is random in it comes from its number.

    Its kind is ``composed``; ``whole``, a portrait as it is; or ``empty``, a background without anybody and without
    ``item``. The background is None where the portrait keeps its own, or it is a plain colour; the texture, a file of
    the backgrounds, where the person is not varied.
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

    Folders come with their weights: sets of portraits, whose mattes are stored in some form and of which the split
    ``train`` is taken if there is one, and pictures.

    Raises
    ------
    InputError
        A folder cannot be read, is no set, or is empty; a picture has no alpha.
    UsageError
        A folder is there twice, the split must be named, or a folder belongs to a test set.
    """
    roots = [path if sets.find_layout(path) else sets.splits(path).get("train", path) for path, _ in portraits]
    behind = [path for path, _ in backgrounds]
    for folders in (roots, behind):
        double = next((path for path, count in Counter(one.resolve() for one in folders).items() if count > 1), None)
        if double is not None:
            raise UsageError(f"{double} is given twice", hint="DIR:2 gives a folder twice the share")
    for folder in (*roots, *behind):
        sets.refuse_test_set(folder)
    items = [sets.open_set(root, stored=stored).items for root in roots]
    files = [tuple(list_images(folder)) for folder in behind]
    for folder, found in zip(behind, files, strict=True):
        if not found:
            raise InputError(f"{folder} holds no pictures", hint="its sub-folders are not looked into")
    people = zip(_names(roots), items, (weight for _, weight in portraits), strict=True)
    places = zip(_names(behind), files, (weight for _, weight in backgrounds), strict=True)
    return Stock(tuple(_pool(*one) for one in people), tuple(_pool(*one) for one in places))


def picks(stock: Stock, recipe: Recipe, count: int) -> Iterator[Pick]:
    """What the first ``count`` pictures of a recipe are made of; a larger count begins with the same ones.

    The sets take turns by their weights, and within a set every portrait is used once, in an order drawn anew, before
    any is used again. Raises as :func:`p3m_edge.data.recipe.numbered`.
    """
    used = [0] * len(stock.portraits)
    orders: dict[int, list[int]] = {}
    weights = _weights(stock.portraits)
    for number in numbered(recipe.seed, count):
        rng = np.random.default_rng([1, number])
        draw = rng.random()
        kind: Kind = "empty" if draw < recipe.empty else "whole" if draw < recipe.empty + recipe.whole else "composed"
        plain = rng.random() < _PLAIN
        background = _background(stock, rng)
        behind = None if plain or kind == "whole" else background
        texture = _background(stock, rng) if rng.random() < recipe.vary and kind == "composed" else None
        if kind == "empty":
            yield Pick(number, kind, background=behind)
            continue
        which = int(np.argmax(weights * (sum(used) + 1) - used))
        pool = stock.portraits[which]
        turn, place = divmod(used[which], len(pool.entries))
        if place == 0:
            order = np.random.default_rng([2, recipe.seed, which, turn]).permutation(len(pool.entries))
            orders[which] = order.tolist()
        used[which] += 1
        yield Pick(number, kind, pool.source.name, pool.entries[orders[which][place]], behind, texture)


def _weights(pools: Sequence[Pool[T]]) -> NDArray[np.float64]:
    weights = np.array([pool.source.weight for pool in pools], float)
    return np.asarray(weights / weights.sum())


def _background(stock: Stock, rng: np.random.Generator) -> Path:
    which = int(np.searchsorted(np.cumsum(_weights(stock.backgrounds))[:-1], rng.random(), side="right"))
    files = stock.backgrounds[which].entries
    return files[int(rng.integers(len(files)))]


def _names(roots: Sequence[Path]) -> list[str]:
    """The folders' names, with as many of the folders above as tell them apart."""
    parts = [root.resolve().parts for root in roots]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            break
    return names


def _pool(name: str, entries: tuple[T, ...], weight: float) -> Pool[T]:
    content = hashlib.blake2b(digest_size=16)
    for entry in entries:
        for path in entry.files if isinstance(entry, Item) else (entry,):
            try:
                size = path.stat().st_size
            except OSError:  # a dead link: the picture that needs it says so
                size = -1
            content.update(f"{path.parent.name}/{path.name}\n{size}\n".encode("utf-8", "surrogateescape"))
    shown = name.encode("utf-8", "backslashreplace").decode()
    return Pool(Source(shown, len(entries), content.hexdigest(), weight), entries)
