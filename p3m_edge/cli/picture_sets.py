"""What ``data synth`` and ``data compose`` share: their options, and the sheet to look at."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from p3m_edge.atomic import atomic_write
from p3m_edge.cli import options
from p3m_edge.data.augment import encode_jpeg
from p3m_edge.data.recipe import MOST
from p3m_edge.data.sheet import sheet
from p3m_edge.data.synth.portraits import MAX_SIDE, MIN_SIDE
from p3m_edge.errors import UsageError
from p3m_edge.imageio import write_png

if TYPE_CHECKING:
    from p3m_edge.data.sample import Image

_COLUMNS = 6
_MOST_ON_SHEET = 400


def add_arguments(parser: argparse.ArgumentParser, what: str) -> None:
    """OUT, how many, of what size, and the sheet."""
    parser.add_argument("out", metavar="OUT", nargs="?", type=options.path, help="where the set goes")
    parser.add_argument("-n", "--count", type=options.positive, default=36, metavar="N", help=f"{what} (default: 36)")
    parser.add_argument("--seed", type=options.whole, default=0, metavar="S", help="of all of them (default: 0)")
    parser.add_argument(
        "--size", type=_size, default=(512, 512), metavar="WIDTHxHEIGHT",
        help=f"{MIN_SIDE} to {MAX_SIDE} each (default: 512x512)",
    )  # fmt: skip
    parser.add_argument("--workers", type=options.positive, metavar="N", help="processes (default: one for each core)")
    parser.add_argument(
        "--sheet", type=options.path, metavar="FILE", help="also write the pictures on one sheet (PNG or JPEG)"
    )
    parser.add_argument("--pairs", action="store_true", help="on the sheet, each picture with its alpha")


def check(args: argparse.Namespace) -> None:
    """Refuse what cannot be made.

    Raises
    ------
    UsageError
        There are too many pictures, for a seed or a sheet, or the sheet's suffix is not known.
    """
    if args.count > MOST:
        raise UsageError(f"one seed has {MOST} pictures at most", hint="use another --seed for more")
    if args.sheet is not None and args.count > _MOST_ON_SHEET:
        raise UsageError(f"a sheet holds {_MOST_ON_SHEET} pictures at most", hint="use a smaller -n for it")
    if args.sheet is not None and args.sheet.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UsageError(f"the sheet {args.sheet} is not named .png or .jpg")


def write_sheet(path: Path, pictures: Sequence[tuple[Image, Image]], *, pairs: bool) -> None:
    """Write pictures, perhaps with their alphas, on one sheet.

    Raises
    ------
    InputError
        There are none.
    OutputError
        The file cannot be written.
    """
    cells = [("", part) for picture, alpha in pictures for part in ((picture, alpha) if pairs else (picture,))]
    columns = 2 * _COLUMNS if pairs else _COLUMNS
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    drawn = sheet(rows, 110 if pairs else 160)
    if path.suffix.lower() == ".png":
        write_png(path, drawn)
    else:
        atomic_write(path, encode_jpeg(drawn, 85))


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,5})[xX×]([0-9]{1,5})", text.strip())
    if match is None or not all(MIN_SIDE <= int(side) <= MAX_SIDE for side in match.groups()):
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT, {MIN_SIDE} to {MAX_SIDE} each")
    return int(match[1]), int(match[2])
