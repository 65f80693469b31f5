"""``p3m-edge data synth``: draw synthetic portraits with exact mattes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from p3m_edge.cli.options import argument, group, option, share
from p3m_edge.cli.options.picture_set import PictureSet
from p3m_edge.cli.ui import Console, counting, table
from p3m_edge.data.parallel import parallel_map
from p3m_edge.data.recipe import numbered
from p3m_edge.data.synth.folder import Recipe, drawn, prepare, write_set
from p3m_edge.data.synth.measure import Spread, Summary, measure, summarise
from p3m_edge.errors import UsageError

EXAMPLES = """
p3m-edge data synth portraits -n 5000 --seed 1
p3m-edge data synth moving -n 2000 --posed 1
p3m-edge data synth hidden -n 5000 --size 640x512 --blur-faces --no-colours
p3m-edge data synth --sheet look.png -n 36 --pairs
p3m-edge data synth --measure -n 200
"""


@dataclass(frozen=True)
class Arguments:
    """Draw portraits with exact mattes, all of it from a seed. OUT gets image/ with alpha/, trimap/, facemask/, fg/
    and bg/, 8-bit PNG: image = alpha * fg + (1 - alpha) * bg before noise and compression. The same seed gives the same
    pictures on any number of cores. A further run keeps what is there and draws the rest (after Ctrl-C; with a larger
    -n). Without OUT, --sheet draws pictures to look at, and --measure draws and measures: composition, unknown region,
    fine strands, time, and how many frontal faces an independent cascade finds (needs scikit-image).
    """

    out: Path | None = argument("where the set goes", "OUT", nargs="?")
    pictures: PictureSet = group(PictureSet)
    blur_faces: bool = option("hide the faces: blurred_image/ instead of image/", default=False)
    no_colours: bool = option("leave out fg/ and bg/, most of the volume", default=False)
    posed: float = option(
        "of the people with a body in three dimensions, in any pose (needs the extra bodies)",
        0.0, metavar="SHARE", parse=share,
    )  # fmt: skip
    measure: bool = option("write no set; measure the portraits", default=False)


def run(args: Arguments, console: Console) -> None:
    """Write a set, a sheet, or measurements."""
    wanted = args.pictures
    recipe = Recipe(wanted.seed, *wanted.size, args.blur_faces, not args.no_colours, args.posed)
    _check(args)
    if wanted.sheet is not None:
        prepare(recipe)
        wanted.write_sheet(partial(drawn, recipe), numbered(recipe.seed, wanted.count), console)
    if args.measure:
        work = partial(measure, width=recipe.width, height=recipe.height, look_for_faces=True)
        with counting(console, "portraits") as progress:
            seeds = numbered(recipe.seed, wanted.count)
            summary = summarise(parallel_map(work, seeds, workers=wanted.workers, progress=progress))
        title = f"{summary.pictures} synthetic portraits"
        console.emit(summary, [table(title, "measure|result|smallest, median, largest", _rows(summary))])
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
    if args.measure and args.posed:
        raise UsageError("--measure looks at upright people alone", hint="leave --posed out")
    if args.out is not None and args.measure:
        raise UsageError("--measure writes no set", hint="leave OUT out")
    args.pictures.check()


def _rows(summary: Summary) -> Iterator[tuple[str, str, str]]:
    def three(spread: Spread, form: str, unit: str = "") -> str:
        return ", ".join(format(value, form) for value in (spread.smallest, spread.median, spread.largest)) + unit

    yield "|image - (aF + (1 - a)B)| before noise", f"{summary.composition:.2f} of 255 at most", ""
    yield "unknown region 2 to 15 %", f"{summary.within} of {summary.pictures}", three(summary.unknown, ".1%")
    yield "person", "", three(summary.person, ".1%")
    thin = f"{summary.with_strands} of {summary.pictures}"
    yield "strands below 1 px", thin, three(summary.strands, ".0f", " px")
    yield "frontal faces found by the cascade", f"{summary.found} of {summary.looked}", ""
    yield "CPU time a portrait", "", three(summary.milliseconds, ".0f", " ms")
