"""How well a subject's colours are estimated in the mixtures at its edges, on drawn portraits, where they are exact.

    python -m p3m_edge.benchmarks.colours [--count N] [--width W] [--height H] [--json]

``error`` is the mean difference of the colours, 0..1, in pixels that are neither all subject nor all background, each
weighted with its alpha, which is how much of it will be seen. ``frame`` takes the frame's own colours; ``fast`` and
``estimate`` are those of :class:`p3m_edge.runtimes.compose.Effect`; PyMatting's multi-level estimation is measured
where it is installed. Milliseconds are the median over the portraits, on the alpha in 8 bits.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median

import numpy as np

from p3m_edge.benchmarks import quality
from p3m_edge.data.foreground import estimate
from p3m_edge.data.sample import Image, Sample
from p3m_edge.data.synth.portraits import portrait
from p3m_edge.errors import UsageError
from p3m_edge.runtimes.compose import foreground
from p3m_edge.runtimes.fusion import estimate_fast
from p3m_edge.table import Table

Estimate = Callable[[Image, Image], Image]
"""From a picture and its alpha to the subject's colours."""


@dataclass(frozen=True)
class ColourError:
    """The mean of one method on all portraits."""

    method: str
    pictures: int
    error: float
    milliseconds: float


def methods() -> dict[str, Estimate]:
    """What is to be measured, by name."""
    found: dict[str, Estimate] = {
        "frame": lambda image, _: image,
        "fast": estimate_fast,
        "estimate": foreground,
    }
    if importlib.util.find_spec("pymatting") is not None:
        found["PyMatting"] = lambda image, alpha: estimate(image, alpha)[0]
    return found


def error(colours: Image, sample: Sample) -> float:
    """The error of one estimate, of a sample with a foreground; 0 where nothing is a mixture."""
    assert sample.foreground is not None
    mixed = (sample.alpha > 0) & (sample.alpha < 255)
    weights = sample.alpha[mixed] / 255
    difference = np.abs(colours[mixed].astype(np.float64) - sample.foreground[mixed]).mean(axis=1) / 255
    return float((difference * weights).sum() / max(weights.sum(), 1e-9))


def measure(samples: Iterable[Sample]) -> Iterator[ColourError]:
    """The error and the time of each method."""
    found: dict[str, list[tuple[float, float]]] = {}
    for sample in samples:
        for name, colours in methods().items():
            if name not in found:  # once before it counts: PyMatting compiles itself
                colours(sample.image, sample.alpha)
            start = time.perf_counter()
            made = colours(sample.image, sample.alpha)
            taken = time.perf_counter() - start
            found.setdefault(name, []).append((error(made, sample), 1000 * taken))
    for name, values in found.items():
        errors, times = zip(*values, strict=True)
        yield ColourError(name, len(values), fmean(errors), median(times))


def report(arguments: argparse.Namespace) -> tuple[object, Iterable[Table]]:
    """The document and the table."""
    if arguments.count < 1:
        raise UsageError(f"at least one portrait is needed, not {arguments.count}")
    rows = list(measure(portrait(seed, arguments.width, arguments.height) for seed in range(arguments.count)))
    columns = "method pictures error milliseconds"
    return list(map(asdict, rows)), (quality.table("", rows, columns, error=".4f", milliseconds=".1f"),)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = quality.parser(__doc__)
    parser.add_argument("--count", type=int, default=20, metavar="N", help="portraits (default: 20)")
    parser.add_argument("--width", type=int, default=1920, metavar="W", help="in pixels (default: 1920)")
    parser.add_argument("--height", type=int, default=1080, metavar="H", help="in pixels (default: 1080)")
    return quality.run(parser, report, arguments)


if __name__ == "__main__":
    sys.exit(main())
