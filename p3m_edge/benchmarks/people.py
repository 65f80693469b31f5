"""Whether the one person of two who was meant is what is left of the alpha, and how often people who touch are told.

    python -m p3m_edge.benchmarks.people ARTEFACT [ARTEFACT ...] [--data SET] [--backgrounds DIR] [--count N] [--json]

Composites of two people side by side, 1280x720, from the portraits of a set with mattes, or drawn ones. The person who
is meant is the larger one, named by a point, by the box of the head, or as the largest. ``others`` counts the
composites in which the mean alpha of the other, where the true one is at least one half, is at most 2 %; ``kept`` those
in which the one who was meant keeps at least 98 % of what the network saw. ``told`` counts what is taken for people who
touch: all that overlap by a tenth of the smaller one's width should be, none of those apart and of single people.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge.benchmarks import quality
from p3m_edge.benchmarks.quality import Predict
from p3m_edge.data import sets
from p3m_edge.data.pixels import box_around, random_part
from p3m_edge.data.sample import Image
from p3m_edge.data.synth.portraits import portrait
from p3m_edge.errors import InputError
from p3m_edge.imageio import list_images, read_image
from p3m_edge.runtimes.compose import composite, cutout
from p3m_edge.runtimes.people import Who, select
from p3m_edge.table import Table

SIZE = 1280, 720
GAP = 0.03
"""Least space between people apart, as a share of the frame's width."""
OVERLAP = 0.1
"""Of people who touch, as a share of the smaller one's width."""
GONE, STAYS = 0.02, 0.98
_SEED, _DRAWN, _TRIES = 30, 40, 50
_NOISE = 13  # alphas below (5 %) at a portrait's border do not cut its person off


@dataclass(frozen=True, eq=False)
class Pair:
    """A composite: uint8 ``[H, W, 3]``, and the true alphas ``[H, W]``, 0..1, of the larger person and the other."""

    frame: Image
    meant: NDArray[np.float32]
    other: NDArray[np.float32]


@dataclass(frozen=True)
class Count:
    """How many composites of one kind, or single people, came out right; None: that cannot be asked of this kind."""

    method: str
    kind: str
    named: str
    pictures: int
    others: int | None
    kept: int | None
    told: int


def figures(data: Path | None, wanted: int) -> Iterator[Image]:
    """People with an alpha, ``[h, w, 4]``, whom neither side nor the top of their portraits cuts off.

    Of a set, or drawn ones; an :class:`InputError` is raised where the set cannot be read, or has fewer than two.
    """
    if data is None:
        samples = (portrait(seed, 512, 512) for seed in range(_DRAWN))
    else:
        items = list(sets.open_set(data).items)
        np.random.default_rng(_SEED).shuffle(items)
        samples = (sets.read(item) for item in items)
    found = 0
    for sample in samples:
        if _whole(sample.alpha):
            found += 1
            yield cutout(sample.image, sample.alpha)
        if found == wanted:
            return
    if found < 2:
        raise InputError(f"{data} has fewer than two people whom neither side nor the top of their picture cuts off")


def _whole(alpha: Image) -> bool:
    return bool(alpha.any()) and max(alpha[:, 0].max(), alpha[:, -1].max(), alpha[0].max()) < _NOISE


def pairs(people: Sequence[Image], backgrounds: Sequence[Path], count: int, *, apart: bool) -> Iterator[Pair]:
    """Two people side by side at the frame's lower border."""
    rng = np.random.default_rng(_SEED)
    width, height = SIZE
    made = tries = 0
    while made < count:
        tries += 1
        if tries > _TRIES * count:
            raise InputError("these people are too wide to stand side by side")
        first, second = (people[index] for index in rng.choice(len(people), 2, replace=False))
        share = rng.uniform(0.55, 0.95)
        one = _scaled(first, share * height)
        two = _scaled(second, share * height * rng.uniform(0.4, 1))
        mass = one[..., 3].sum(dtype=np.int64), two[..., 3].sum(dtype=np.int64)
        if mass[1] > mass[0]:
            one, two = two, one
        gap = GAP * width * rng.uniform(1, 4) if apart else 0
        spare = width - one.shape[1] - two.shape[1] - round(gap)
        if spare < 0:
            continue
        made += 1
        left, right = (one, two) if rng.random() < 0.5 else (two, one)
        start = round(spare * rng.uniform())
        step = left.shape[1] + round(gap) if apart else _contact(left, right)
        behind = _background(backgrounds, rng)
        layers = [(_placed(each, at)) for each, at in ((left, start), (right, start + step))]
        frame = behind
        for layer in layers:
            frame = composite(np.ascontiguousarray(layer[..., :3]), layer[..., 3], frame, foreground=layer[..., :3])
        alphas = [(layer[..., 3] / np.float32(255)).astype(np.float32) for layer in layers]
        yield Pair(frame, *(alphas if left is one else alphas[::-1]))


def _scaled(person: Image, height: float) -> Image:
    """A cut-out's box at another height."""
    x, y, wide, high = box_around(person[..., 3] >= _NOISE)
    part = person[y : y + high, x : x + wide]
    size = max(1, round(wide * height / high)), max(1, round(height))
    return np.asarray(
        cv2.resize(part, size, interpolation=cv2.INTER_AREA if high > height else cv2.INTER_LINEAR), np.uint8
    )


def _contact(left: Image, right: Image) -> int:
    """How far to the right of the left person's the other one's box begins, so that they overlap."""
    rows = min(left.shape[0], right.shape[0])
    first, second = left[-rows:, :, 3] > 127, right[-rows:, :, 3] > 127
    ends = np.where(first.any(axis=1), left.shape[1] - first[:, ::-1].argmax(axis=1), -left.shape[1])
    starts = np.where(second.any(axis=1), second.argmax(axis=1), 2 * right.shape[1])
    touch = int((ends - starts).max())
    return touch - int(OVERLAP * min(left.shape[1], right.shape[1]))


def _placed(person: Image, left: int) -> Image:
    """A cut-out in a frame that is transparent elsewhere, at the lower border."""
    width, height = SIZE
    frame = np.zeros((height, width, 4), np.uint8)
    first, last = max(left, 0), min(left + person.shape[1], width)
    frame[height - person.shape[0] :, first:last] = person[:, first - left : last - left]
    return frame


def _background(backgrounds: Sequence[Path], rng: np.random.Generator) -> Image:
    """A part of a picture, or colours that change slowly."""
    width, height = SIZE
    if not backgrounds:
        coarse = rng.integers(40, 216, (3, 4, 3), dtype=np.uint8)
        return np.asarray(cv2.resize(coarse, SIZE, interpolation=cv2.INTER_CUBIC), np.uint8)
    picture = read_image(backgrounds[int(rng.integers(len(backgrounds)))]).rgb
    scale = max(width / picture.shape[1], height / picture.shape[0])
    size = max(width, round(picture.shape[1] * scale)), max(height, round(picture.shape[0] * scale))
    return random_part(np.asarray(cv2.resize(picture, size), np.uint8), SIZE, rng)


def ways(pair: Pair) -> Iterator[tuple[str, Who]]:
    """How the larger person is named: a point in the middle of the body, the box of the head, the largest."""
    body = (pair.meant >= 0.5).astype(np.uint8)
    deepest = int(cv2.distanceTransform(body, cv2.DIST_L2, 5).argmax())
    y, x = divmod(deepest, SIZE[0])
    yield "point", (x, y)
    _, top, _, high = box_around(body)
    rows = body[top : top + max(1, high // 4)]  # the head, or what is highest
    first, _, across, _ = box_around(rows)
    yield "box", (first, top, across, rows.shape[0])
    yield "largest", "largest"


def measure(method: str, predict: Predict, pictures: Iterable[Pair], kind: str) -> Iterator[Count]:
    """What is left, for each way to name the person."""
    found: dict[str, list[tuple[bool, bool, bool]]] = {}
    for pair in pictures:
        alpha = predict(pair.frame)
        meant, other = pair.meant >= 0.5, pair.other >= 0.5
        for name, who in ways(pair):
            chosen = select(alpha, who)
            gone = float(chosen.alpha[other & ~meant].mean()) <= GONE
            stays = float(chosen.alpha[meant].sum()) >= STAYS * float(alpha[meant].sum())
            found.setdefault(name, []).append((gone, stays, chosen.touching))
    for name, marks in found.items():
        others, kept, told = (sum(mark) for mark in zip(*marks, strict=True))
        yield Count(method, kind, name, len(marks), others if kind == "apart" else None, kept, told)


def singles(method: str, predict: Predict, people: Iterable[Image]) -> Count:
    """How many single people are taken for several."""
    rng, marks = np.random.default_rng(_SEED), []
    for person in people:
        layer = _placed(scaled := _scaled(person, 0.75 * SIZE[1]), (SIZE[0] - scaled.shape[1]) // 2)
        behind = _background((), rng)
        frame = composite(np.ascontiguousarray(layer[..., :3]), layer[..., 3], behind, foreground=layer[..., :3])
        marks.append(select(predict(frame)).touching)
    return Count(method, "single", "largest", len(marks), None, None, sum(marks))


def report(arguments: argparse.Namespace) -> tuple[object, Iterable[Table]]:
    """The document and the table."""
    methods = {str(folder): quality.artefact(folder, arguments.threads) for folder in arguments.artefacts}
    people = list(figures(arguments.data, 2 * arguments.count))
    backgrounds = [] if arguments.backgrounds is None else list_images(arguments.backgrounds)
    rows: list[Count] = []
    for name, predict in methods.items():
        for kind in ("apart", "touching"):
            made = pairs(people, backgrounds, arguments.count, apart=kind == "apart")
            rows += measure(name, predict, made, kind)
        rows.append(singles(name, predict, people))
    title = f"others: at most {GONE:.0%} of their alpha; kept: at least {STAYS:.0%} of whom was meant"
    return list(map(asdict, rows)), (quality.table(title, rows, "method kind named pictures others kept told"),)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = quality.parser(__doc__)
    parser.add_argument("artefacts", nargs="+", type=Path, metavar="ARTEFACT")
    parser.add_argument("--data", type=Path, metavar="SET", help="portraits with mattes (default: drawn ones)")
    parser.add_argument("--backgrounds", type=Path, metavar="DIR", help="pictures without people (default: drawn)")
    parser.add_argument("--count", type=int, default=100, metavar="N", help="composites of each kind (default: 100)")
    return quality.run(parser, report, arguments)


if __name__ == "__main__":
    sys.exit(main())
