"""``p3m-edge data compose``: people of portrait sets before other backgrounds."""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from p3m_edge.cli import options
from p3m_edge.cli.progress import counting
from p3m_edge.data.composed import Composed, Recipe, Stock, draw, jpeg, open_stock, write_set
from p3m_edge.data.parallel import parallel_map
from p3m_edge.data.sheet import sheet
from p3m_edge.errors import UsageError
from p3m_edge.imageio import atomic_write, write_png

if TYPE_CHECKING:
    from rich.console import Console as RichConsole

    from p3m_edge.cli.console import Console
    from p3m_edge.data.sample import Image

HELP = """Cut people out of portrait sets (pictures with mattes) and put them before other backgrounds: a few portraits
become a training set. Each picture has another place, size, turn and light; where a portrait's own edge cuts a person
off, that edge stays outside the frame. One picture in 25 shows nobody. OUT gets image/, alpha/, facemask/ (of the
portraits that have one) and composed.csv, which says what each picture was made of.

Each set is used equally often, and in it each portrait. Foreground colours come from a set's fg/, or are estimated
once. The same seed gives the same pictures on any number of cores; a further run keeps what is there and makes the
rest (after Ctrl-C; with a larger -n). Faces stay as they are: data anonymize comes first."""
EXAMPLES = """
p3m-edge data compose train --portraits anonymous/ --portraits synthetic/ --backgrounds places/ -n 4000
p3m-edge data compose --portraits anonymous/ --backgrounds places/ --sheet look.jpg -n 24
"""
_PAIRS = 4  # on a row of the sheet
_MOST_ON_SHEET = 400


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What from, how many, and where to."""
    parser.add_argument("out", metavar="OUT", nargs="?", type=options.path, help="where the set goes")
    parser.add_argument(
        "--portraits", metavar="DIR", type=options.path, action="append", required=True, help="a set; repeatable"
    )
    parser.add_argument("--backgrounds", metavar="DIR", type=options.path, required=True, help="a folder of pictures")
    parser.add_argument("-n", "--count", type=options.positive, default=36, metavar="N", help="pictures (default: 36)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of all of them (default: 0)")
    parser.add_argument(
        "--size", type=options.size, default=options.Size(512, 512), metavar="WIDTHxHEIGHT", help="default: 512x512"
    )
    parser.add_argument("--workers", type=options.positive, metavar="N", help="processes (default: one for each core)")
    parser.add_argument(
        "--sheet", type=options.path, metavar="FILE", help="write them on one sheet instead (PNG or JPEG)"
    )


def run(args: argparse.Namespace, console: Console) -> int:
    """Write a set, or a sheet."""
    if (args.out is None) == (args.sheet is None):
        raise UsageError("where to? either OUT or --sheet FILE")
    recipe = Recipe(
        args.seed, args.size.width, args.size.height,
        tuple(str(path.absolute()) for path in args.portraits), str(args.backgrounds.absolute()),
    )  # fmt: skip
    stock = open_stock(recipe)
    if args.sheet is not None:
        _write_sheet(args, stock, console)
        text = f"written: {args.sheet}"
        console.emit({"sheet": args.sheet, "pictures": args.count}, lambda out: out.print(text))
        return 0
    with counting(console, "composites") as progress:
        composed = write_set(args.out, stock, args.count, workers=args.workers, progress=progress)
    console.emit(composed, lambda out: _render(out, composed))
    return 0


def _write_sheet(args: argparse.Namespace, stock: Stock, console: Console) -> None:
    if args.sheet.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UsageError(f"the sheet {args.sheet} is not named .png or .jpg")
    if args.count > _MOST_ON_SHEET:
        raise UsageError(f"a sheet holds {_MOST_ON_SHEET} pictures at most", hint="use a smaller -n for it")
    with counting(console, "sheet") as progress, tempfile.TemporaryDirectory() as colours:
        work = partial(_pair, stock, Path(colours))
        pairs = parallel_map(work, range(args.count), workers=args.workers, progress=progress)
    cells = [("", picture) for pair in pairs for picture in pair]
    picture = sheet([cells[start : start + 2 * _PAIRS] for start in range(0, len(cells), 2 * _PAIRS)], 160)
    if args.sheet.suffix.lower() == ".png":
        write_png(args.sheet, picture)
    else:
        atomic_write(args.sheet, jpeg(picture, 85))


def _pair(stock: Stock, colours: Path, index: int) -> tuple[Image, Image]:
    sample = draw(stock, colours, index)
    return sample.image, sample.alpha


def _render(out: RichConsole, composed: Composed) -> None:
    kept = f", {composed.kept} were there" if composed.kept else ""
    out.print(
        f"{composed.out}: {composed.made} composites of {composed.portraits} portraits and {composed.backgrounds} "
        f"backgrounds made{kept}",
        soft_wrap=True,
    )
