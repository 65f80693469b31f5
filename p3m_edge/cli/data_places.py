"""``p3m-edge data places``: what is beside and behind the people of portraits, as backgrounds."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from p3m_edge.cli import matte_options, options
from p3m_edge.cli.progress import counting
from p3m_edge.data.compose.backgrounds import LEAST, Cut, write_places
from p3m_edge.errors import PartialError

if TYPE_CHECKING:
    from rich.console import Console as RichConsole

    from p3m_edge.cli.console import Console

HELP = """Cut the strips beside the people out of a set of portraits: left, right, above and below, where nothing of the
matte reaches. They are real backgrounds for data compose, from pictures that you have anyway. A strip shows whatever
the annotators did not count: look for bystanders before you use it. With --filled, the pictures stay whole, and the
person is filled in smoothly from all around: backgrounds for composites in which another person stands there."""
EXAMPLES = """
p3m-edge data places anonymous/ places/
p3m-edge data places P3M-10k/train places/ --least 256
p3m-edge data places anonymous/ behind/ --filled
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """From where, where to, and how small."""
    parser.add_argument("set", metavar="IN", type=options.path, help="a set with mattes")
    parser.add_argument("out", metavar="OUT", type=options.path, help="a folder for the backgrounds, as PNG")
    parser.add_argument(
        "--least", metavar="PIXELS", type=options.positive, default=LEAST,
        help=f"leave out strips, and with --filled pictures, that are narrower (default: {LEAST})",
    )  # fmt: skip
    parser.add_argument(
        "--filled", action="store_true",
        help="whole pictures with the person filled in, but for those with a plain background",
    )  # fmt: skip
    matte_options.add_arguments(parser)
    parser.add_argument("--workers", type=options.positive, metavar="N", help="processes (default: one for each core)")


def run(args: argparse.Namespace, console: Console) -> int:
    """Cut, and say how many there are."""
    with counting(console, "portraits") as progress:
        cut = write_places(
            args.set, args.out, args.least, filled=args.filled, stored=matte_options.matte_form(args),
            workers=args.workers, progress=progress,
        )  # fmt: skip
    error = None
    if cut.skipped:
        error = PartialError(f"{len(cut.skipped)} portraits could not be used")
    console.emit(cut, lambda out: _render(out, cut), error)
    if error is not None:
        raise error
    return 0


def _render(out: RichConsole, cut: Cut) -> None:
    for reason in cut.skipped:
        out.print(f"left out: {reason}", soft_wrap=True)
    none = f"; nothing of use beside the person in {len(cut.without)} portraits" if cut.without else ""
    out.print(f"{cut.out}: {cut.parts} pictures{none}", soft_wrap=True)
