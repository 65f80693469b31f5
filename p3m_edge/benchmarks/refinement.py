"""What the refinement gains at a frame's own size over interpolation alone, and what it costs.

    python -m p3m_edge.benchmarks.refinement ARTEFACT [--heights 720 1080 ...] [--count N] [--data DATA] [--json]

Drawn portraits of 16:9, whose alpha is exact at any size, and with DATA the photographs of its ``portraits/``: SAD
(thousands) and GRAD of the same inference, brought to the frame's size by interpolation and by :mod:`p3m_edge.refine`,
as means. ``ms`` and ``refined_ms`` is what either takes after the inference, in 8 bits, and ``guide_ms`` what the
refinement takes of a frame before it: medians over the pictures.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import TypeVar

from p3m_edge.benchmarks import quality
from p3m_edge.benchmarks.fingerprint import fingerprint
from p3m_edge.benchmarks.photographs import photographs
from p3m_edge.data.sample import Image
from p3m_edge.data.synth.portraits import portrait
from p3m_edge.errors import UsageError
from p3m_edge.imageio import read_image, read_mask
from p3m_edge.metrics import evaluate
from p3m_edge.runtimes import Matting
from p3m_edge.table import Table

T = TypeVar("T")
HEIGHTS = (720, 1080, 2160, 4320)
_REPEATS = 3


@dataclass(frozen=True)
class Gain:
    """Of one picture, or the means and medians of those of one kind."""

    kind: str
    pictures: int
    sad: float
    refined_sad: float
    grad: float
    refined_grad: float
    ms: float
    refined_ms: float
    guide_ms: float


def gain(kind: str, image: Image, truth: Image, plain: Matting, refining: Matting) -> Gain:
    """What both make of one inference."""
    without, (network, place) = _timed(partial(plain.prepare, image))
    together, (_, guided) = _timed(partial(refining.prepare, image))
    alpha = plain.engine.collect(plain.begin(network))["alpha"][0, 0]
    ms, made = _timed(partial(plain.finish, alpha, place))
    refined_ms, refined = _timed(partial(refining.finish, alpha, guided))
    before, after = evaluate(made, truth), evaluate(refined, truth)
    figures = (before["SAD"], after["SAD"], before["GRAD"], after["GRAD"], ms, refined_ms, together - without)
    return Gain(kind, 1, *figures)


def summed(rows: Iterable[Gain]) -> Iterator[Gain]:
    """One for each kind."""
    kinds: dict[str, list[Gain]] = {}
    for row in rows:
        kinds.setdefault(row.kind, []).append(row)
    for kind, own in kinds.items():
        means = (fmean(getattr(row, name) for row in own) for name in ("sad", "refined_sad", "grad", "refined_grad"))
        medians = (median(getattr(row, name) for row in own) for name in ("ms", "refined_ms", "guide_ms"))
        yield Gain(kind, len(own), *means, *medians)


def pictures(heights: Sequence[int], count: int, data: Path | None) -> Iterator[tuple[str, Image, Image]]:
    """What is measured: its kind, the picture and its alpha."""
    for height in heights:
        width = height * 16 // 9
        for seed in range(count):
            drawn = portrait(seed, width, height)
            yield f"drawn, {width}x{height}", drawn.image, drawn.alpha
    for picture in () if data is None else photographs(data):
        if picture.set == "portraits":
            yield "portraits", read_image(picture.image).rgb, read_mask(picture.alpha)


def _timed(call: Callable[[], T]) -> tuple[float, T]:
    """Milliseconds, the median of some calls, and the last one's result."""
    taken = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        result = call()
        taken.append(1e3 * (time.perf_counter() - start))
    return median(taken), result


def report(arguments: argparse.Namespace) -> tuple[object, Iterable[Table]]:
    """The document and the table."""
    if arguments.count < 1 or min(arguments.heights) < 64:
        raise UsageError("it takes a portrait of each height, and heights of at least 64 pixels")
    with ExitStack() as stack, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain, refining = (
            stack.enter_context(Matting(arguments.artefact, threads=arguments.threads, dtype="uint8", refine=refine))
            for refine in (False, True)
        )
        found = pictures(arguments.heights, arguments.count, arguments.data)
        rows = list(summed(gain(*picture, plain, refining) for picture in found))
    machine = fingerprint()
    columns = " ".join(field.name for field in fields(Gain))
    figures = dict.fromkeys(columns.split()[2:], ".2f")
    title = f"{machine.cpu}, {machine.usable_cores} cores"
    return {"machine": asdict(machine), "rows": list(map(asdict, rows))}, (
        quality.table(title, rows, columns, **figures),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = quality.parser(__doc__)
    parser.add_argument("artefact", type=Path, metavar="ARTEFACT")
    parser.add_argument("--heights", type=int, nargs="+", default=HEIGHTS, metavar="N", help="(default: 720 to 4320)")
    parser.add_argument("--count", type=int, default=6, metavar="N", help="portraits of each height (default: 6)")
    parser.add_argument("--data", type=Path, metavar="DIR", help="portraits/ with mattes")
    return quality.run(parser, report, arguments)


if __name__ == "__main__":
    sys.exit(main())
