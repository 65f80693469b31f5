"""``p3m-edge data places``: what is beside and behind the people of portraits, as backgrounds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from p3m_edge.cli.options import argument, group, option
from p3m_edge.cli.options.shared import Mattes, workers
from p3m_edge.cli.ui import Console, counting
from p3m_edge.data.compose.backgrounds import LEAST, Cut, write_places
from p3m_edge.errors import PartialError

EXAMPLES = """
p3m-edge data places anonymous/ places/
p3m-edge data places P3M-10k/train places/ --least 256
p3m-edge data places anonymous/ behind/ --filled
"""


@dataclass(frozen=True)
class Arguments:
    """Cut the strips beside the people out of a set of portraits: left, right, above and below, where nothing of the
    matte reaches. They are real backgrounds for data compose, from pictures that you have anyway. A strip shows
    whatever the annotators did not count: look for bystanders before you use it. With --filled, the pictures stay
    whole, and the person is filled in smoothly from all around: backgrounds for composites in which another person
    stands there.
    """

    set: Path = argument("a set with mattes", "IN")
    out: Path = argument("a folder for the backgrounds, as PNG", "OUT")
    least: int = option("leave out strips, and with --filled pictures, that are narrower", LEAST, metavar="PIXELS")
    filled: bool = option(
        "whole pictures with the person filled in, but for those with a plain background", default=False
    )
    mattes: Mattes = group(Mattes)
    workers: int | None = workers()


def run(args: Arguments, console: Console) -> None:
    """Cut, and say how many there are."""
    with counting(console, "portraits") as progress:
        cut = write_places(
            args.set, args.out, args.least, filled=args.filled, stored=args.mattes.form, workers=args.workers,
            progress=progress,
        )  # fmt: skip
    error = PartialError(f"{len(cut.skipped)} portraits could not be used") if cut.skipped else None
    console.emit(cut, _render(cut), error)


def _render(cut: Cut) -> Iterator[str]:
    for reason in cut.skipped:
        yield f"left out: {reason}"
    none = f"; nothing of use beside the person in {len(cut.without)} portraits" if cut.without else ""
    yield f"{cut.out}: {cut.parts} pictures{none}"
