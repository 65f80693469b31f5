"""``p3m-edge sensitivity``: which parts of a network lower precision hurts."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from p3m_edge.benchmarks.report import charts
from p3m_edge.cli.options import group, option
from p3m_edge.cli.options.shared import Weights
from p3m_edge.cli.options.values import SIZE, Size, natural
from p3m_edge.cli.ui import Console, counting, number
from p3m_edge.cli.verbs.export import load_exporter
from p3m_edge.data.recipe import make_folder
from p3m_edge.errors import UsageError
from p3m_edge.table import table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from p3m_edge.export.quantize.sensitivity import Sensitivity

EXAMPLES = """
p3m-edge sensitivity --out out/sensitivity                           # the weights of the package
p3m-edge sensitivity --checkpoint r34.pth --calib portraits/ --out out/r34
p3m-edge sensitivity --checkpoint r34.pth --precision fp16 --json
"""
FILE, PICTURE = "sensitivity.json", "sensitivity.svg"


@dataclass(frozen=True)
class Arguments:
    """Bring one part of the network after the other to INT8 (or half precision), alone, and compare alpha with
    float32. The parts that hurt most come first: they are what export keeps in float32 when nothing simpler meets the
    gate. OUT gets sensitivity.json and sensitivity.svg; after an interruption the same line goes on.
    """

    weights: Weights = group(Weights)
    size: Size = option("input size, multiples of 32", SIZE)
    precision: Literal["int8", "fp16"] = option("what a part is brought to", "int8")
    qdq: Literal["u8s8", "s8s8"] | None = option("form of INT8, as of export (default: u8s8)")
    calib: Path | None = option("portraits: a folder or a data set (default: synthetic ones)", metavar="DIR")
    calib_count: int = option("how many of them", 32)
    pictures: int = option("how many of these alpha is compared on", 8)
    seed: int = option("of the choice", 0, metavar="N", parse=natural)
    out: Path | None = option("a folder for the results", metavar="DIR")


def run(args: Arguments, console: Console) -> None:
    """Rank the parts, and show them."""
    weights = args.weights.request()
    _check(args)
    export = load_exporter()
    from p3m_edge.export.calibration import open_calibration
    from p3m_edge.export.graph.ranges import activation_ranges
    from p3m_edge.export.quantize.sensitivity import rank
    from p3m_edge.export.session import ExportSession

    width, height = args.size
    if args.weights.standin:
        console.warn("the weights are stand-ins and NOT TRAINED: the ranking says nothing about trained ones")
    calibration = open_calibration(args.calib, count=args.calib_count, seed=args.seed)
    session = ExportSession(export.ExportRequest(("onnx-fp32",), Path(), width=width, height=height, **weights))
    for remark in calibration.remarks:
        console.warn(remark)
    if args.out is not None:  # before the hours of work, and not for input that cannot be used
        charts.require()
        make_folder(args.out)
    model = session.graph
    images = list(itertools.islice(calibration.images(height, width), args.pictures))
    ranges = {}
    if args.precision == "int8":
        with counting(console, "ranges") as progress:
            ranges = activation_ranges(model, _counted(calibration.images(height, width), len(calibration), progress))
    with counting(console, "parts") as progress:
        found = rank(
            model, ranges, images, calibration.digest, precision=args.precision, form=args.qdq or "u8s8",
            cache=None if args.out is None else args.out / FILE, progress=progress,
        )  # fmt: skip
    if args.out is not None:
        console.write(args.out / PICTURE, picture(found))
    total = sum(part.error for part in found.parts) or 1.0
    rows = ((p.name, str(p.nodes), number(p.error), number(p.worst), f"{p.error / total:.0%}") for p in found.parts)
    columns = "part|nodes|mean error of alpha|worst picture|share"
    caption = f"{found.pictures} pictures, against float32"
    console.emit(found, [table(f"parts in {found.precision}, alone", columns, rows, caption)])


def _check(args: Arguments) -> None:
    if args.precision != "int8" and args.qdq is not None:
        raise UsageError(f"--qdq is a form of INT8, not of {args.precision}", hint="leave it out")
    if args.pictures > args.calib_count:
        raise UsageError(
            f"--pictures {args.pictures} are more than the {args.calib_count} of --calib-count they are taken from",
            hint=f"give --calib-count {args.pictures}",
        )


def picture(found: Sensitivity) -> str:
    """The parts as bars, the worst first; SVG."""
    rows = [charts.Bar(part.name.removeprefix("network."), 1e4 * part.error) for part in found.parts]
    return charts.bars(f"Error of alpha when one part alone is in {found.precision} (mean, x 10^-4)", rows, "")


def _counted(
    images: Iterator[NDArray[np.uint8]], total: int, progress: Callable[[int, int], None]
) -> Iterator[NDArray[np.uint8]]:
    """The pictures; ``progress`` is called after each."""
    for done, image in enumerate(images, 1):
        yield image
        progress(done, total)
