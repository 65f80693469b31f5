"""``p3m-edge data synth``: draw synthetic portraits with exact mattes."""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING

from p3m_edge.cli import options, picture_sets
from p3m_edge.cli.progress import counting
from p3m_edge.cli.tables import table
from p3m_edge.data.parallel import parallel_map
from p3m_edge.data.recipe import numbered
from p3m_edge.data.synth.folder import Recipe, Written, drawn, prepare, write_set
from p3m_edge.data.synth.measure import Spread, Summary, measure, summarise
from p3m_edge.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console as RichConsole

    from p3m_edge.cli.console import Console
    from p3m_edge.data.sample import Image

HELP = """Draw portraits with exact mattes, all of it from a seed. OUT gets image/ with alpha/, trimap/, facemask/, fg/
and bg/, 8-bit PNG: image = alpha * fg + (1 - alpha) * bg before noise and compression. The same seed gives the same
pictures on any number of cores. A further run keeps what is there and draws the rest (after Ctrl-C; with a larger -n).
Without OUT, --sheet draws pictures to look at, and --measure draws and measures: composition, unknown region, fine
strands, time, and how many frontal faces an independent cascade finds (needs scikit-image)."""
EXAMPLES = """
p3m-edge data synth portraits -n 5000 --seed 1
p3m-edge data synth moving -n 2000 --posed 1
p3m-edge data synth hidden -n 5000 --size 640x512 --blur-faces --no-colours
p3m-edge data synth --sheet look.png -n 36 --pairs
p3m-edge data synth --measure -n 200
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How many, of what size, and where to."""
    picture_sets.add_arguments(parser, "portraits")
    parser.add_argument("--blur-faces", action="store_true", help="hide the faces: blurred_image/ instead of image/")
    parser.add_argument("--no-colours", action="store_true", help="leave out fg/ and bg/, most of the volume")
    parser.add_argument(
        "--posed", type=options.share, default=0.0, metavar="SHARE",
        help="of the people with a body in three dimensions, in any pose (needs the extra bodies; default: 0)",
    )  # fmt: skip
    parser.add_argument("--measure", action="store_true", help="write no set; measure the portraits")


def run(args: argparse.Namespace, console: Console) -> int:
    """Write a set, a sheet, or measurements."""
    recipe = Recipe(args.seed, args.size[0], args.size[1], args.blur_faces, not args.no_colours, args.posed)
    _check(args)
    if args.sheet is not None:
        _write_sheet(args, recipe, console)
    if args.measure:
        _measure(args, recipe, console)
    elif args.out is not None:
        with counting(console, "portraits") as progress:
            written = write_set(args.out, recipe, args.count, workers=args.workers, progress=progress)
        console.emit(written, lambda out: _render_written(out, written))
    else:
        text = f"written: {args.sheet}"
        console.emit({"sheet": args.sheet, "pictures": args.count}, lambda out: out.print(text))
    return 0


def _check(args: argparse.Namespace) -> None:
    if args.out is None and args.sheet is None and not args.measure:
        raise UsageError("OUT is missing", hint="or --sheet FILE, to look at some, or --measure")
    if args.measure and args.posed:
        raise UsageError("--measure looks at upright people alone", hint="leave --posed out")
    if args.out is not None and args.measure:
        raise UsageError("--measure writes no set", hint="leave OUT out")
    picture_sets.check(args)


def _write_sheet(args: argparse.Namespace, recipe: Recipe, console: Console) -> None:
    seeds = numbered(recipe.seed, args.count)
    prepare(recipe)
    with counting(console, "sheet") as progress:
        pictures = parallel_map(partial(_cell, recipe), seeds, workers=args.workers, progress=progress)
    picture_sets.write_sheet(args.sheet, pictures, pairs=args.pairs)


def _cell(recipe: Recipe, seed: int) -> tuple[Image, Image]:
    sample = drawn(recipe, seed)
    return sample.image, sample.alpha


def _measure(args: argparse.Namespace, recipe: Recipe, console: Console) -> None:
    seeds = numbered(recipe.seed, args.count)
    work = partial(measure, width=recipe.width, height=recipe.height, look_for_faces=True)
    with counting(console, "portraits") as progress:
        summary = summarise(parallel_map(work, seeds, workers=args.workers, progress=progress))
    console.emit(summary, lambda out: _render_summary(out, summary))


def _render_written(out: RichConsole, written: Written) -> None:
    kept = f", {written.kept} were there" if written.kept else ""
    out.print(f"{written.out}: {written.drawn} portraits drawn{kept}", soft_wrap=True)


def _render_summary(out: RichConsole, summary: Summary) -> None:
    rows = table(f"{summary.pictures} synthetic portraits", "measure", "result", "smallest, median, largest")

    def three(spread: Spread, form: str) -> str:
        return ", ".join(format(value, form) for value in (spread.smallest, spread.median, spread.largest))

    rows.add_row("|image - (aF + (1 - a)B)| before noise", f"{summary.composition:.2f} of 255 at most", "")
    rows.add_row("unknown region 2 to 15 %", f"{summary.within} of {summary.pictures}", three(summary.unknown, ".1%"))
    rows.add_row("person", "", three(summary.person, ".1%"))
    rows.add_row(
        "strands below 1 px", f"{summary.with_strands} of {summary.pictures}", three(summary.strands, ".0f") + " px"
    )
    rows.add_row("frontal faces found by the cascade", f"{summary.found} of {summary.looked}", "")
    rows.add_row("CPU time a portrait", "", three(summary.milliseconds, ".0f") + " ms")
    out.print(rows)
