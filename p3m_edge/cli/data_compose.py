"""``p3m-edge data compose``: people of portrait sets before other backgrounds."""

from __future__ import annotations

import argparse
import math
import re
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from p3m_edge.cli import matte_options, options, picture_sets
from p3m_edge.cli.progress import counting
from p3m_edge.data.compose.folder import Composed, check_folders, draw, write_set
from p3m_edge.data.compose.stock import Recipe, Stock, open_stock, picks
from p3m_edge.data.parallel import parallel_map
from p3m_edge.errors import PartialError, UsageError

if TYPE_CHECKING:
    from rich.console import Console as RichConsole

    from p3m_edge.cli.console import Console
    from p3m_edge.data.compose.stock import Pick
    from p3m_edge.data.sample import Image

HELP = """Cut people out of portrait sets (pictures with mattes) and put them before other backgrounds: a few portraits
become a training set. Each picture has another place, size, rotation and light. Where a portrait's own border cuts a
person off, the cut stays outside the new frame. OUT gets
  image/       the pictures
  alpha/       their mattes
  facemask/    where faces are hidden, from sets that say so; black for the others
  fg/, bg/     with --colours; image = alpha * fg + (1 - alpha) * bg, before the JPEG compression
  composed.csv which portrait, of which set, and which background each picture was made of

The sets take turns, and within a set every portrait is used as often as the others. Foreground colours come from a
set's fg/, or are estimated once (needs PyMatting). The same seed gives the same pictures on any number of cores. A
further run keeps what is there and makes the rest (after Ctrl-C; with a larger -n). A picture that needs a file that
cannot be used is left out, and does not stop the others (exit code 1). Without OUT, --sheet draws pictures to look at.

Faces stay as they are: data anonymize comes first. A person in a background counts as background: look at them. Test
sets of the papers are refused, since what is made here is for training."""
EXAMPLES = """
p3m-edge data compose --portraits anonymous/ --backgrounds places/ -n 4000 --seed 1 train/
p3m-edge data compose --portraits anonymous/:3 --portraits synthetic/ --backgrounds places/ -n 9000 --whole 0.1 train/
p3m-edge data compose --portraits anonymous/ --backgrounds places/ --sheet look.png -n 36 --pairs
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What from, how many, and where to."""
    picture_sets.add_arguments(parser, "pictures")
    parser.add_argument(
        "--portraits", metavar="DIR[:WEIGHT]", type=_weighted, action="append", required=True,
        help="a set with mattes (of P3M-10k, its train); given several times, they have shares by WEIGHT (default: 1)",
    )  # fmt: skip
    parser.add_argument(
        "--backgrounds", metavar="DIR[:WEIGHT]", type=_weighted, action="append", required=True,
        help="a folder of pictures without people; given several times, they have shares by WEIGHT (default: 1)",
    )  # fmt: skip
    parser.add_argument(
        "--foregrounds", metavar="DIR", type=options.path,
        help="where estimated foregrounds are kept, and taken from (default: foregrounds/ in OUT)",
    )  # fmt: skip
    matte_options.add_arguments(parser)
    kinds = parser.add_argument_group("what is in the pictures")
    kinds.add_argument(
        "--whole", metavar="SHARE", type=options.share, default=0.0,
        help="of pictures that are a portrait as it is, before its own background, cut to the size (default: 0)",
    )  # fmt: skip
    kinds.add_argument(
        "--empty", metavar="SHARE", type=options.share, default=0.05,
        help="of pictures that show nobody (default: 0.05)",
    )  # fmt: skip
    kinds.add_argument(
        "--vary", metavar="SHARE", type=options.share, default=0.0,
        help="of the composed ones in which the person gets other clothes, a bent outline, something to hold, and the "
        "background objects (default: 0)",
    )  # fmt: skip
    files = parser.add_argument_group("files")
    files.add_argument("--quality", metavar="Q", type=_quality, default=95, help="of the JPEG, 1 to 100 (default: 95)")
    files.add_argument("--png", action="store_true", help="write image/ as PNG, without loss")
    files.add_argument("--colours", action="store_true", help="write fg/ and bg/ too, most of the volume")


def run(args: argparse.Namespace, console: Console) -> int:
    """Write a set, or a sheet."""
    _check(args)
    stored = matte_options.matte_form(args)
    stock = open_stock(args.portraits, args.backgrounds, stored)
    recipe = Recipe(
        seed=args.seed, width=args.size[0], height=args.size[1], quality=0 if args.png else args.quality,
        colours=args.colours, whole=args.whole, empty=args.empty,
        portraits=tuple(one.source for one in stock.portraits),
        backgrounds=tuple(one.source for one in stock.backgrounds), vary=args.vary, stored=stored,
    )  # fmt: skip
    if args.out is not None:
        return _write_set(args, stock, recipe, console)
    _write_sheet(args, stock, recipe, console, args.foregrounds)
    text = f"written: {args.sheet}"
    console.emit({"sheet": args.sheet, "pictures": args.count}, lambda out: out.print(text))
    return 0


def _check(args: argparse.Namespace) -> None:
    if args.out is None and args.sheet is None:
        raise UsageError("OUT is missing", hint="or --sheet FILE, to look at some")
    if args.whole + args.empty > 1:
        raise UsageError("--whole and --empty are more than all pictures together")
    picture_sets.check(args)
    if args.out is not None:
        portraits, backgrounds = ([path for path, _ in folders] for folders in (args.portraits, args.backgrounds))
        check_folders(args.out, portraits, backgrounds, args.foregrounds)


def _write_set(args: argparse.Namespace, stock: Stock, recipe: Recipe, console: Console) -> int:
    with counting(console, "pictures") as progress:
        composed = write_set(
            args.out, stock, recipe, args.count,
            foregrounds=args.foregrounds, workers=args.workers, progress=progress,
        )  # fmt: skip
    error = None
    if composed.missing:
        error = PartialError(
            f"{composed.missing} of {args.count} pictures are missing",
            hint="run it again when this is put right: what is there is kept",
        )
    console.emit(composed, lambda out: _render(out, composed), error)
    if error is not None:
        raise error
    if args.sheet is not None:
        _write_sheet(args, stock, recipe, console, args.foregrounds or args.out / "foregrounds")
    return 0


def _write_sheet(
    args: argparse.Namespace, stock: Stock, recipe: Recipe, console: Console, foregrounds: Path | None
) -> None:
    with counting(console, "sheet") as progress, tempfile.TemporaryDirectory() as temporary:
        work = partial(_cell, recipe, foregrounds or Path(temporary))
        drawn = list(picks(stock, recipe, args.count))
        pictures = parallel_map(work, drawn, workers=args.workers, progress=progress)
    picture_sets.write_sheet(args.sheet, pictures, pairs=args.pairs)


def _cell(recipe: Recipe, colours: Path, pick: Pick) -> tuple[Image, Image]:
    sample = draw(recipe, colours, pick)
    return sample.image, sample.alpha


def _render(out: RichConsole, composed: Composed) -> None:
    for one in composed.skipped:
        out.print(f"left out, {one.pictures}: {one.reason}", soft_wrap=True)
    kept = f", {composed.kept} were there" if composed.kept else ""
    portraits = sum(source.pictures for source in composed.recipe.portraits)
    out.print(
        f"{composed.out}: {composed.made} pictures made of {portraits} portraits and "
        f"{sum(source.pictures for source in composed.recipe.backgrounds)} backgrounds{kept}",
        soft_wrap=True,
    )


def _weighted(text: str) -> tuple[Path, float]:
    match = re.fullmatch(r"(.+):([0-9]*\.?[0-9]+)", text)
    if match is None or options.path(text).exists():
        return options.path(text), 1.0
    weight = float(match[2])
    if not 0 < weight < math.inf:
        raise argparse.ArgumentTypeError(f"the weight of {match[1]!r} is not above 0")
    return options.path(match[1]), weight


def _quality(text: str) -> int:
    quality = options.positive(text)
    if quality > 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a quality of 1 to 100")
    return quality
