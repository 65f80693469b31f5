"""``p3m-edge data check``: what is wrong with a data set, and what is in it."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from p3m_edge.cli import matte_options, options
from p3m_edge.cli.progress import counting
from p3m_edge.cli.tables import table
from p3m_edge.data.check import Report, SplitReport, Spread, check
from p3m_edge.errors import PartialError

if TYPE_CHECKING:
    from rich.console import Console as RichConsole

    from p3m_edge.cli.console import Console

HELP = """Read every file of a data set, or of all splits under a folder, and say what is wrong: missing partners,
unreadable files, mattes that are not what they seem (values 0 and 1, in the alpha channel, of raw pixels beside a
turned picture), unequal sizes, the same picture twice (also across splits), black alphas, trimaps without unknown
region or against their alpha. Then count the rest. Exit code 1 when there is something to put right."""
EXAMPLES = """
p3m-edge data check P3M-10k
p3m-edge data check P3M-10k/validation/P3M-500-P
p3m-edge data check portraits --json
p3m-edge data check cutouts --alpha-from alpha
"""
_SHOWN = 20  # problems of one kind


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folder."""
    parser.add_argument("folder", metavar="DIR", type=options.path, help="a set, one split of it, or a folder of sets")
    matte_options.add_arguments(parser)
    parser.add_argument(
        "--workers", type=options.positive, metavar="N", help="processes that decode (default: one for each core)"
    )


def run(args: argparse.Namespace, console: Console) -> int:
    """Check, and show what was found."""
    with counting(console, "pictures") as progress:
        stored = matte_options.matte_form(args)
        report = check(args.folder, stored=stored, workers=args.workers, progress=progress)
    error = _error(report)
    console.emit(report, lambda out: _render(out, report), error)
    if error is not None:
        raise error
    return 0


def _error(report: Report) -> PartialError | None:
    if not report.problems:
        return None
    kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(p.kind for p in report.problems).most_common())
    return PartialError(f"{report.root}: {len(report.problems)} problems in {report.pictures} pictures: {kinds}")


def _render(out: RichConsole, report: Report) -> None:
    facts = table(str(report.root), "", *(split.name for split in report.splits))
    for what, show in _ROWS.items():
        facts.add_row(what, *(show(split) for split in report.splits))
    facts.caption = "shares of the picture: mean (smallest to largest)"
    out.print(facts)
    shown: Counter[str] = Counter()
    for problem in report.problems:
        shown[problem.kind] += 1
        if shown[problem.kind] <= _SHOWN:
            out.print(f"{problem.kind}: {problem.file}: {problem.message}", style="red", soft_wrap=True)
    for kind, count in shown.items():
        if count > _SHOWN:
            out.print(f"{kind}: {count - _SHOWN} more; --json lists all of them")
    if not report.problems:
        out.print("no problems")


def _share(spread: Spread | None) -> str:
    return "-" if spread is None else f"{spread.mean:.1%} ({spread.smallest:.1%} to {spread.largest:.1%})"


_ROWS: dict[str, Callable[[SplitReport], str]] = {
    "kind": lambda split: split.kind,
    "faces": lambda split: {True: "blurred", False: "normal", None: "-"}[split.blurred],
    "pictures": lambda split: f"{split.pictures:,}",
    "smallest": lambda split: str(split.smallest or "-"),
    "largest": lambda split: str(split.largest or "-"),
    "foreground": lambda split: _share(split.foreground),
    "soft alpha": lambda split: _share(split.soft),
    "unknown": lambda split: _share(split.unknown),
    "face": lambda split: _share(split.face),
}
