"""``p3m-edge data synth``: draw synthetic portraits with exact mattes."""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING

from p3m_edge.cli import picture_sets
from p3m_edge.cli.progress import counting
from p3m_edge.cli.tables import table
from p3m_edge.data.parallel import parallel_map
from p3m_edge.data.recipe import numbered
from p3m_edge.data.synth import portrait
from p3m_edge.data.synth.folder import Recipe, Written, write_set
from p3m_edge.data.synth.measure import Figure, measure, summarise
from p3m_edge.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console as RichConsole

    from p3m_edge.cli.console import Console
    from p3m_edge.data.sample import Image

HELP = """Draw portraits with exact mattes, all of it from a seed. OUT gets image/ with alpha/, trimap/, facemask/, fg/
and bg/, 8-bit PNG: image = alpha * fg + (1 - alpha) * bg before noise and compression. The same seed gives the same
pictures on any number of cores. A further run keeps what is there and draws the rest (after Ctrl-C; with a larger -n).
Without OUT, --sheet draws pictures to look at, and --measure draws and measures: composition, unknown region, fine
strands, and how many frontal faces an independent cascade finds (needs scikit-image)."""
EXAMPLES = """
p3m-edge data synth portraits -n 5000 --seed 1
p3m-edge data synth hidden -n 5000 --size 640x512 --blur-faces --no-colours
p3m-edge data synth --sheet look.png -n 36 --pairs
p3m-edge data synth --measure -n 200
"""
_FIGURES = {
    "composition": ("|image - (aF + (1 - a)B)| before noise, of 255", ".2f"), "unknown": ("unknown region", ".1%"),
    "person": ("person, share of the picture", ".1%"), "strands": ("strands below 1 px, pixels", ".0f"),
    "found": ("frontal faces found by the cascade", ".0f"),
}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How many, of what size, and where to."""
    picture_sets.add_arguments(parser, "portraits")
    parser.add_argument("--blur-faces", action="store_true", help="hide the faces: blurred_image/ instead of image/")
    parser.add_argument("--no-colours", action="store_true", help="leave out fg/ and bg/, most of the volume")
    parser.add_argument("--measure", action="store_true", help="write no set; measure the portraits")


def run(args: argparse.Namespace, console: Console) -> int:
    """Write a set, a sheet, or measurements."""
    if args.out is None and args.sheet is None and not args.measure:
        raise UsageError("OUT is missing", hint="or --sheet FILE, to look at some, or --measure")
    if args.out is not None and args.measure:
        raise UsageError("--measure writes no set", hint="leave OUT out")
    picture_sets.check(args)
    width, height = args.size
    recipe = Recipe(args.seed, width, height, args.blur_faces, not args.no_colours)
    seeds = numbered(args.seed, args.count)
    if args.sheet is not None:
        with counting(console, "sheet") as progress:
            cell = partial(_cell, width=width, height=height)
            pictures = parallel_map(cell, seeds, workers=args.workers, progress=progress)
        picture_sets.write_sheet(args.sheet, pictures, pairs=args.pairs)
    if args.measure:
        with counting(console, "portraits") as progress:
            work = partial(measure, width=width, height=height)
            figures = summarise(parallel_map(work, seeds, workers=args.workers, progress=progress))
        document = {"pictures": args.count, "figures": figures}
        console.emit(document, lambda out: _render_figures(out, figures, args.count))
    elif args.out is not None:
        with counting(console, "portraits") as progress:
            written = write_set(args.out, recipe, args.count, workers=args.workers, progress=progress)
        console.emit(written, lambda out: _render_written(out, written))
    else:
        text = f"written: {args.sheet}"
        console.emit({"sheet": args.sheet, "pictures": args.count}, lambda out: out.print(text))
    return 0


def _cell(seed: int, width: int, height: int) -> tuple[Image, Image]:
    sample = portrait(seed, width, height)
    return sample.image, sample.alpha


def _render_written(out: RichConsole, written: Written) -> None:
    kept = f", {written.kept} were there" if written.kept else ""
    out.print(f"{written.out}: {written.drawn} portraits drawn{kept}", soft_wrap=True)


def _render_figures(out: RichConsole, figures: dict[str, Figure], count: int) -> None:
    rows = table(f"{count} synthetic portraits", "measure", "as it should be", "smallest, median, largest")
    for name, (label, form) in _FIGURES.items():
        figure = figures[name]
        values = ", ".join(format(value, form) for value in (figure.smallest, figure.median, figure.largest))
        rows.add_row(label, f"{figure.met} of {count}", values)
    out.print(rows)
