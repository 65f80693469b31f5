"""``p3m-edge sensitivity``: which parts of a network lower precision hurts."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from p3m_edge import shipped
from p3m_edge.atomic import atomic_write
from p3m_edge.benchmarks import chart
from p3m_edge.cli import options
from p3m_edge.cli.export import chosen_checkpoint, load_exporter
from p3m_edge.cli.progress import counting
from p3m_edge.cli.tables import number, table
from p3m_edge.errors import OutputError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.console import Console as RichConsole

    from p3m_edge.cli.console import Console
    from p3m_edge.data.parallel import Progress
    from p3m_edge.export.quantize.sensitivity import Sensitivity

HELP = """Bring one part of the network after the other to INT8 (or half precision), alone, and compare alpha with
float32. The parts that hurt most come first: they are what export keeps in float32 when nothing simpler meets the gate.
OUT gets sensitivity.json and sensitivity.svg; after an interruption the same line goes on."""
EXAMPLES = """
p3m-edge sensitivity --out out/sensitivity                           # the weights of the package
p3m-edge sensitivity --checkpoint r34.pth --calib portraits/ --out out/r34
p3m-edge sensitivity --checkpoint r34.pth --precision fp16 --json
"""
FILE, PICTURE = "sensitivity.json", "sensitivity.svg"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which network, what to, on which pictures."""
    parser.add_argument(
        "--checkpoint", type=options.path, metavar="F",
        help="a checkpoint (.pth, .safetensors; default: the one of this package)",
    )  # fmt: skip
    parser.add_argument("--standin", action="store_true", help="deterministic weights that are not trained")
    parser.add_argument("--arch", metavar="NAME", help="architecture (a checkpoint says it by itself)")
    parser.add_argument(
        "--size", type=options.size, default=options.SIZE, metavar="WIDTHxHEIGHT",
        help="input size, multiples of 32 (default: 512x512)",
    )  # fmt: skip
    parser.add_argument(
        "--precision", choices=("int8", "fp16"), default="int8", help="what a part is brought to (default: int8)"
    )
    parser.add_argument("--qdq", choices=("u8s8", "s8s8"), help="form of INT8, as of export (default: u8s8)")
    parser.add_argument(
        "--calib", type=options.path, metavar="DIR", help="portraits: a folder or a data set (default: synthetic ones)"
    )
    parser.add_argument(
        "--calib-count", type=options.positive, default=32, metavar="N", help="how many of them (default: 32)"
    )
    parser.add_argument(
        "--pictures", type=options.positive, default=8, metavar="N",
        help="how many of these alpha is compared on (default: 8)",
    )  # fmt: skip
    parser.add_argument("--seed", type=options.whole, default=0, metavar="N", help="of the choice (default: 0)")
    parser.add_argument("--out", type=options.path, metavar="DIR", help="a folder for the results")


def run(args: argparse.Namespace, console: Console) -> int:
    """Rank the parts, and show them."""
    checkpoint = chosen_checkpoint(args.checkpoint, args.arch, standin=args.standin)
    _check(args)
    export = load_exporter()
    from p3m_edge.export.calibration import open_calibration
    from p3m_edge.export.graph.ranges import activation_ranges
    from p3m_edge.export.quantize.sensitivity import rank
    from p3m_edge.export.session import ExportSession

    height, width = args.size.height, args.size.width
    arch = args.arch or (shipped.DEFAULT if args.checkpoint is None else None)
    session = ExportSession(export.ExportRequest(("onnx-fp32",), Path(), checkpoint, arch, width, height))
    if args.standin:
        console.warn("the weights are stand-ins and NOT TRAINED: the ranking says nothing about trained ones")
    calibration = open_calibration(args.calib, count=args.calib_count, seed=args.seed)
    for remark in calibration.remarks:
        console.warn(remark)
    if args.out is not None:  # before the hours of work, and not for input that cannot be used
        _make(args.out)
    model = session.graph()
    images = list(itertools.islice(calibration.images(height, width), args.pictures))
    if args.precision == "int8":
        with counting(console, "ranges") as progress:
            counted = _counted(calibration.images(height, width), len(calibration), progress)
            ranges = activation_ranges(model, counted)
    else:
        ranges = {}
    with counting(console, "parts") as progress:
        found = rank(
            model, ranges, images, calibration.digest, precision=args.precision, form=args.qdq or "u8s8",
            cache=None if args.out is None else args.out / FILE, progress=progress,
        )  # fmt: skip
    if args.out is not None:
        atomic_write(args.out / PICTURE, picture(found).encode())
        console.note(f"written: {args.out / FILE}, {args.out / PICTURE}")
    console.emit(found, lambda out: _render(out, found))
    return 0


def _check(args: argparse.Namespace) -> None:
    if args.precision != "int8" and args.qdq is not None:
        raise UsageError(f"--qdq is a form of INT8, not of {args.precision}", hint="leave it out")
    if args.pictures > args.calib_count:
        raise UsageError(
            f"--pictures {args.pictures} are more than the {args.calib_count} of --calib-count they are taken from",
            hint=f"give --calib-count {args.pictures}",
        )


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be used: {error.strerror}") from error


def picture(found: Sensitivity) -> str:
    """The parts as bars, the worst first; SVG."""
    rows = [chart.Bar(part.name.removeprefix("network."), 1e4 * part.error) for part in found.parts]
    title = f"Error of alpha when one part alone is in {found.precision} (mean, x 10^-4)"
    return chart.bars(title, rows, "")


def _counted(images: Iterator[NDArray[np.uint8]], total: int, progress: Progress) -> Iterator[NDArray[np.uint8]]:
    """Pictures, told of as they pass."""
    for done, image in enumerate(images):
        yield image
        progress(done + 1, total)


def _render(out: RichConsole, found: Sensitivity) -> None:
    right = ("nodes", "mean error of alpha", "worst picture", "share")
    rows = table(f"parts in {found.precision}, alone", "part", *right, right=right)
    total = sum(part.error for part in found.parts) or 1.0
    for part in found.parts:
        share = f"{part.error / total:.0%}"
        rows.add_row(part.name, str(part.nodes), number(part.error), number(part.worst), share)
    rows.caption = f"{found.pictures} pictures, against float32"
    out.print(rows)
