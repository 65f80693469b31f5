"""Error on real photographs, picture by picture, with other networks for comparison.

    python -m p3m_edge.benchmarks.photographs ARTEFACT [ARTEFACT ...] --data DATA [--isnet FILE] [--json]

Everything goes through :class:`~p3m_edge.runtimes.Matting`, as in an app. DATA holds ``portraits/`` (with
``manifest.csv`` beside it, which says what kind of matte each has), ``people-held/``, or both. Where MediaPipe 0.10.21
is installed (it needs NumPy 1, so an environment of its own), its Selfie Segmentation is measured too; IS-Net where
its ONNX file is named.

MAD is the mean absolute difference, 0..1; GRAD as :func:`p3m_edge.metrics.gradient_error` gives it, which grows with a
picture's size; ``unknown`` is MAD in the band around the true matte's edge (a trimap with a kernel of 7 pixels), and
``bias`` the mean difference there: above 0, the matte is too solid. All at the picture's own size. The mattes of
``people-held`` were made by IS-Net: they rank nobody. ``p3m-edge eval --out`` draws the worst pictures.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from p3m_edge.benchmarks import quality
from p3m_edge.benchmarks.quality import Predict
from p3m_edge.data import sets
from p3m_edge.data.tables import read_table
from p3m_edge.data.trimap import make_trimap
from p3m_edge.errors import InputError
from p3m_edge.imageio import list_images, read_image, read_mask
from p3m_edge.metrics import UNKNOWN, evaluate
from p3m_edge.table import Table

BAND = 7
"""Kernel of the trimap that says where a matte's edge is, in pixels."""
OVER = (0.03, 0.10)
"""MADs above which a matte is counted as bad, and as broken."""
EMPTY = 0.01
"""The mean alpha below which a picture without people is taken for one."""


@dataclass(frozen=True)
class Photograph:
    """A picture with a matte; ``group`` is its tier or source."""

    name: str
    set: str
    group: str
    image: Path
    alpha: Path


@dataclass(frozen=True)
class PhotographError:
    """What one method did on one picture; MAD and ``unknown`` 0..1, ``bias`` -1..1."""

    method: str
    set: str
    group: str
    name: str
    mad: float
    unknown: float
    bias: float
    grad: float

    @property
    def kinds(self) -> Iterator[str]:
        """What it is summed up in: its set, its group of it, and the portraits without those of tier C."""
        yield from (self.set, f"{self.set}: {self.group}")
        if self.set == "portraits" and self.group != "C":
            yield "portraits without tier C"


@dataclass(frozen=True)
class ErrorTotal:
    """Means of one method on pictures of one kind; ``over`` counts those with MAD above each of :data:`OVER`."""

    method: str
    kind: str
    pictures: int
    mad: float
    median: float
    unknown: float
    bias: float
    grad: float
    over: tuple[int, ...]


def photographs(data: Path) -> list[Photograph]:
    """What is to be measured; raises :class:`InputError` where there is nothing, or it cannot be read."""
    found: list[Photograph] = []
    if (data / "portraits").is_dir():
        tiers = {row["id"]: row["tier"] for _, row in read_table(data / "manifest.csv", ("id", "tier"))}
        for alpha in sorted((data / "portraits").glob("*/alpha.png")):
            tier, folder = tiers.get(alpha.parent.name, ""), alpha.parent
            group = "A/B" if tier in {"A", "B"} else tier
            found.append(Photograph(folder.name, "portraits", group, folder / "image.jpg", alpha))
    if (data / "people-held").is_dir():
        for item in sets.open_set(data / "people-held").items:
            assert item.alpha is not None  # open_set refuses others
            found.append(Photograph(item.name, "people-held", item.name.partition("_")[0], item.image, item.alpha))
    if not found:
        raise InputError(f"{data} has neither portraits/ nor people-held/ with pictures")
    return found


def measure(method: str, predict: Predict, pictures: Iterable[Photograph]) -> Iterator[PhotographError]:
    """The error on each picture."""
    for picture in pictures:
        truth, alpha = read_mask(picture.alpha), predict(read_image(picture.image).rgb)
        measures = evaluate(alpha, truth)
        difference = (alpha - truth / np.float32(255))[make_trimap(truth, BAND) == UNKNOWN]
        unknown, bias = (float(np.abs(difference).mean()), float(difference.mean())) if difference.size else (0.0, 0.0)
        whose = (method, picture.set, picture.group, picture.name)
        yield PhotographError(*whose, measures["MAD"], unknown, bias, measures["GRAD"])


def totals(rows: Iterable[PhotographError]) -> Iterator[ErrorTotal]:
    """The sums of each method."""
    found: dict[str, dict[str, list[PhotographError]]] = {}
    for row in rows:
        for kind in row.kinds:
            found.setdefault(row.method, {}).setdefault(kind, []).append(row)
    for method, kinds in found.items():
        for kind, own in sorted(kinds.items()):
            figures = np.array([(row.mad, row.unknown, row.bias, row.grad) for row in own])
            mad, unknown, bias, grad = figures.mean(axis=0).tolist()
            over = tuple(int((figures[:, 0] > limit).sum()) for limit in OVER)
            yield ErrorTotal(method, kind, len(own), mad, float(np.median(figures[:, 0])), unknown, bias, grad, over)


def report(arguments: argparse.Namespace) -> tuple[object, Iterable[Table]]:
    """The document and the tables."""
    methods = {str(folder): quality.artefact(folder, arguments.threads) for folder in arguments.artefacts}
    methods |= quality.selfie()
    methods |= {} if arguments.isnet is None else {"IS-Net": quality.isnet(arguments.isnet)}
    pictures = [] if arguments.data is None else photographs(arguments.data)
    rows = [row for name, predict in methods.items() for row in measure(name, predict, pictures)]
    empty = [] if arguments.empty is None else list_images(arguments.empty)
    means = {
        name: {path.name: float(predict(read_image(path).rgb).mean()) for path in empty}
        for name, predict in methods.items()
    }
    below = tuple(
        (name, str(len(of)), str(sum(mean < EMPTY for mean in of.values())), f"{max(of.values()):.4f}")
        for name, of in means.items()
        if of
    )
    sums = list(totals(rows))
    figures = {"mad": ".4f", "unknown": ".3f", "bias": "+.3f", "grad": ".1f", "median": ".4f"}
    every = "method kind pictures median over mad unknown bias grad"
    return {"totals": list(map(asdict, sums)), "pictures": list(map(asdict, rows)), "empty": means}, (
        quality.table("", rows, "method set group name mad unknown bias grad", **figures),
        quality.table(f"Over: MAD above {OVER}", sums, every, **figures),
        Table("Pictures without people", ("method", "pictures", f"mean alpha below {EMPTY}", "largest"), below),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = quality.parser(__doc__)
    parser.add_argument("artefacts", nargs="+", type=Path, metavar="ARTEFACT")
    parser.add_argument("--data", type=Path, metavar="DIR", help="portraits/ and people-held/")
    parser.add_argument("--empty", type=Path, metavar="DIR", help="pictures without people: the mean alpha of each")
    parser.add_argument("--isnet", type=Path, metavar="FILE", help="IS-Net as ONNX, to measure beside")
    return quality.run(parser, report, arguments)


if __name__ == "__main__":
    sys.exit(main())
