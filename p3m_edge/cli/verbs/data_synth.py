"""``p3m-edge data synth``: draw synthetic portraits with exact mattes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from p3m_edge.cli.options import argument, group, option
from p3m_edge.cli.options.picture_set import PictureSet
from p3m_edge.cli.ui import Console, counting
from p3m_edge.data.parallel import parallel_map
from p3m_edge.data.recipe import numbered
from p3m_edge.data.synth import portrait
from p3m_edge.data.synth.folder import Recipe, write_set
from p3m_edge.data.synth.measure import Figure, measure, summarise
from p3m_edge.errors import UsageError
from p3m_edge.table import table

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


@dataclass(frozen=True)
class Arguments:
    """Draw portraits with exact mattes, all of it from a seed. OUT gets image/ with alpha/, trimap/, facemask/, fg/
    and bg/, 8-bit PNG: image = alpha * fg + (1 - alpha) * bg before noise and compression. The same seed gives the same
    pictures on any number of cores. A further run keeps what is there and draws the rest (after Ctrl-C; with a larger
    -n). Without OUT, --sheet draws pictures to look at, and --measure draws and measures: composition, unknown region,
    fine strands, and how many frontal faces an independent cascade finds (needs scikit-image).
    """

    out: Path | None = argument("where the set goes", "OUT", nargs="?")
    pictures: PictureSet = group(PictureSet)
    blur_faces: bool = option("hide the faces: blurred_image/ instead of image/", default=False)
    no_colours: bool = option("leave out fg/ and bg/, most of the volume", default=False)
    measure: bool = option("write no set; measure the portraits", default=False)


def run(args: Arguments, console: Console) -> None:
    """Write a set, a sheet, or measurements."""
    wanted = args.pictures
    recipe = Recipe(wanted.seed, *wanted.size, args.blur_faces, not args.no_colours)
    _check(args)
    drawn = partial(portrait, width=recipe.width, height=recipe.height)
    seeds = numbered(recipe.seed, wanted.count)
    if wanted.sheet is not None:
        wanted.write_sheet(drawn, seeds, console)
    if args.measure:
        work = partial(measure, width=recipe.width, height=recipe.height)
        with counting(console, "portraits") as progress:
            figures = summarise(parallel_map(work, seeds, workers=wanted.workers, progress=progress))
        columns = "measure|as it should be|smallest, median, largest"
        shown = table(f"{wanted.count} synthetic portraits", columns, _rows(figures, wanted.count))
        console.emit({"pictures": wanted.count, "figures": figures}, [shown])
    elif args.out is not None:
        with counting(console, "portraits") as progress:
            written = write_set(args.out, recipe, wanted.count, workers=wanted.workers, progress=progress)
        kept = f", {written.kept} were there" if written.kept else ""
        console.emit(written, [f"{written.out}: {written.drawn} portraits drawn{kept}"])
    else:
        console.emit({"sheet": wanted.sheet, "pictures": wanted.count}, [f"written: {wanted.sheet}"])


def _check(args: Arguments) -> None:
    if args.out is None and args.pictures.sheet is None and not args.measure:
        raise UsageError("OUT is missing", hint="or --sheet FILE, to look at some, or --measure")
    if args.out is not None and args.measure:
        raise UsageError("--measure writes no set", hint="leave OUT out")
    args.pictures.check()


def _rows(figures: Mapping[str, Figure], count: int) -> Iterator[tuple[str, str, str]]:
    for name, (label, form) in _FIGURES.items():
        figure = figures[name]
        values = ", ".join(format(value, form) for value in (figure.smallest, figure.median, figure.largest))
        yield label, f"{figure.met} of {count}", values
