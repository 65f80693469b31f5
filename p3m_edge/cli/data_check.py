"""``p3m-edge data check``: what is wrong with a data set, and what is in it."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import TYPE_CHECKING

from p3m_edge.cli import options
from p3m_edge.cli.progress import counting
from p3m_edge.cli.tables import table
from p3m_edge.data.check import Report, Spread, check
from p3m_edge.errors import PartialError

if TYPE_CHECKING:
    from rich.console import Console as RichConsole

    from p3m_edge.cli.console import Console

HELP = """Read every file of a data set, or of all splits under a folder, and say what is wrong: missing partners,
unreadable files, unequal sizes, the same picture twice (also across splits), black alphas, trimaps without unknown
region or against their alpha. Then count the rest. Exit code 1 when there is something to put right."""
EXAMPLES = """
p3m-edge data check P3M-10k
p3m-edge data check P3M-10k/validation/P3M-500-P
p3m-edge data check portraits --json > report.json
"""
_SHOWN = 20  # problems of one kind


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folder."""
    parser.add_argument("folder", metavar="DIR", type=options.path, help="a set, one split of it, or a folder of sets")
    parser.add_argument(
        "--workers", type=options.positive, metavar="N", help="processes that decode (default: one for each core)"
    )


def run(args: argparse.Namespace, console: Console) -> int:
    """Check, and show what was found."""
    with counting(console, "pictures") as progress:
        report = check(args.folder, workers=args.workers, progress=progress)
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
    columns = ("pictures", "smallest", "largest", "foreground", "soft alpha", "unknown", "face")
    splits = table(str(report.root), "set", "kind", "faces", *columns, right=columns)
    faces = {True: "blurred", False: "normal", None: "-"}
    for split in report.splits:
        sizes = (str(size or "-") for size in (split.smallest, split.largest))
        shares = (_share(spread) for spread in (split.foreground, split.soft, split.unknown, split.face))
        splits.add_row(split.name, split.kind, faces[split.blurred], f"{split.pictures:,}", *sizes, *shares)
    splits.caption = "shares of the picture: mean (smallest to largest)"
    out.print(splits)
    if not report.problems:
        out.print("no problems")
        return
    problems = table("problems", "kind", "file", "what")
    shown: Counter[str] = Counter()
    for problem in report.problems:
        shown[problem.kind] += 1
        if shown[problem.kind] <= _SHOWN:
            problems.add_row(problem.kind, str(problem.file), problem.message)
    out.print(problems)
    for kind, count in shown.items():
        if count > _SHOWN:
            out.print(f"{kind}: {count - _SHOWN} more; --json lists all of them")


def _share(spread: Spread | None) -> str:
    return "-" if spread is None else f"{spread.mean:.1%} ({spread.smallest:.1%} to {spread.largest:.1%})"
