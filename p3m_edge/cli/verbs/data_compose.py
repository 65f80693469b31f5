"""``p3m-edge data compose``: people of portrait sets before other backgrounds."""

from __future__ import annotations

import argparse
import math
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from p3m_edge.cli.options import argument, group, option
from p3m_edge.cli.options.picture_set import PictureSet
from p3m_edge.cli.options.shared import Mattes
from p3m_edge.cli.options.values import integer, path, share
from p3m_edge.cli.ui import Console, counting
from p3m_edge.cli.verbs import unfinished
from p3m_edge.data.compose.folder import FOREGROUNDS, Composed, check_folders, draw, write_set
from p3m_edge.data.compose.stock import Recipe, Stock, open_stock, picks
from p3m_edge.errors import UsageError

EXAMPLES = """
p3m-edge data compose --portraits anonymous/ --backgrounds places/ -n 4000 --seed 1 train/
p3m-edge data compose --portraits anonymous/:3 --portraits synthetic/ --backgrounds places/ -n 9000 --whole 0.1 train/
p3m-edge data compose --portraits anonymous/ --backgrounds places/ --sheet look.png -n 36 --pairs
"""


def _weighted(text: str) -> tuple[Path, float]:
    match = re.fullmatch(r"(.+):([0-9]*\.?[0-9]+)", text)
    if match is None or path(text).exists():
        return path(text), 1.0
    weight = float(match[2])
    if not 0 < weight < math.inf:
        raise argparse.ArgumentTypeError(f"the weight of {match[1]!r} is not above 0")
    return path(match[1]), weight


@dataclass(frozen=True)
class Arguments:
    """Cut people out of portrait sets (pictures with mattes) and put them before other backgrounds: a few portraits
    become a training set. Each picture has another place, size, rotation and light. Where a portrait's own border cuts
    a person off, the cut stays outside the new frame. OUT gets
      image/       the pictures
      alpha/       their mattes
      facemask/    where faces are hidden, from sets that say so; black for the others
      fg/, bg/     with --colours; image = alpha * fg + (1 - alpha) * bg, before the JPEG compression
      composed.csv which portrait, of which set, and which background each picture was made of.

    The sets take turns, and within a set every portrait is used as often as the others. Foreground colours come from a
    set's fg/, or are estimated once (needs PyMatting). The same seed gives the same pictures on any number of cores. A
    further run keeps what is there and makes the rest (after Ctrl-C; with a larger -n). A picture that needs a file
    that cannot be used is left out, and does not stop the others (exit code 1). Without OUT, --sheet draws pictures to
    look at.

    Faces stay as they are: data anonymize comes first. A person in a background counts as background: look at them.
    Test sets of the papers are refused, since what is made here is for training.
    """

    out: Path | None = argument("where the set goes", "OUT", nargs="?")
    pictures: PictureSet = group(PictureSet)
    portraits: tuple[tuple[Path, float], ...] = option(
        "a set with mattes (of P3M-10k, its train); given several times, they have shares by WEIGHT (default: 1)",
        (), metavar="DIR[:WEIGHT]", parse=_weighted, required=True,
    )  # fmt: skip
    backgrounds: tuple[tuple[Path, float], ...] = option(
        "a folder of pictures without people; given several times, they have shares by WEIGHT (default: 1)",
        (), metavar="DIR[:WEIGHT]", parse=_weighted, required=True,
    )  # fmt: skip
    foregrounds: Path | None = option(
        "where estimated foregrounds are kept, and taken from (default: foregrounds/ in OUT)", metavar="DIR"
    )
    mattes: Mattes = group(Mattes)
    whole: float = option(
        "of pictures that are a portrait as it is, before its own background, cut to the size",
        0.0, metavar="SHARE", parse=share, group="what is in the pictures",
    )  # fmt: skip
    empty: float = option("of pictures that show nobody", 0.05, metavar="SHARE", parse=share)
    vary: float = option(
        "of the composed ones in which the person gets other clothes, a bent outline, something to hold, and the "
        "background objects",
        0.0, metavar="SHARE", parse=share,
    )  # fmt: skip
    quality: int = option(
        "of the JPEG, 1 to 100", 95, metavar="Q", parse=integer(1, 100, "a quality of {low} to {high}"), group="files"
    )
    png: bool = option("write image/ as PNG, without loss", default=False)
    colours: bool = option("write fg/ and bg/ too, most of the volume", default=False)


def run(args: Arguments, console: Console) -> None:
    """Write a set, or a sheet."""
    _check(args)
    wanted = args.pictures
    stock = open_stock(args.portraits, args.backgrounds, args.mattes.form)
    recipe = Recipe(
        seed=wanted.seed, width=wanted.size.width, height=wanted.size.height, quality=0 if args.png else args.quality,
        colours=args.colours, whole=args.whole, empty=args.empty,
        portraits=tuple(one.source for one in stock.portraits),
        backgrounds=tuple(one.source for one in stock.backgrounds), vary=args.vary, stored=args.mattes.form,
    )  # fmt: skip
    if args.out is None:
        _write_sheet(args, stock, recipe, console, args.foregrounds)
        console.emit({"sheet": wanted.sheet, "pictures": wanted.count}, [f"written: {wanted.sheet}"])
        return
    with counting(console, "pictures") as progress:
        composed = write_set(
            args.out, stock, recipe, wanted.count,
            foregrounds=args.foregrounds, workers=wanted.workers, progress=progress,
        )  # fmt: skip
    console.emit(composed, _render(composed), unfinished(composed.missing, wanted.count, "pictures are missing"))
    _write_sheet(args, stock, recipe, console, args.foregrounds or args.out / FOREGROUNDS)


def _check(args: Arguments) -> None:
    if args.out is None and args.pictures.sheet is None:
        raise UsageError("OUT is missing", hint="or --sheet FILE, to look at some")
    if args.whole + args.empty > 1:
        raise UsageError("--whole and --empty are more than all pictures together")
    args.pictures.check()
    if args.out is not None:
        portraits, backgrounds = ([path for path, _ in folders] for folders in (args.portraits, args.backgrounds))
        check_folders(args.out, portraits, backgrounds, args.foregrounds)


def _write_sheet(args: Arguments, stock: Stock, recipe: Recipe, console: Console, foregrounds: Path | None) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        work = partial(draw, recipe, foregrounds or Path(temporary))
        args.pictures.write_sheet(work, list(picks(stock, recipe, args.pictures.count)), console)


def _render(composed: Composed) -> Iterator[str]:
    for one in composed.skipped:
        yield f"left out, {one.pictures}: {one.reason}"
    recipe = composed.recipe
    portraits, backgrounds = (sum(s.pictures for s in sources) for sources in (recipe.portraits, recipe.backgrounds))
    kept = f", {composed.kept} were there" if composed.kept else ""
    made = f"{composed.made} pictures made of {portraits} portraits and {backgrounds} backgrounds"
    yield f"{composed.out}: {made}{kept}"
