"""``p3m-edge data check``: what is wrong with a data set, and what is in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from p3m_edge.cli.options import argument, group
from p3m_edge.cli.options.shared import Mattes, workers
from p3m_edge.cli.ui import Console, Part, counting, red
from p3m_edge.data.check import CheckReport, SplitReport, Spread, check
from p3m_edge.errors import PartialError
from p3m_edge.table import Table

EXAMPLES = """
p3m-edge data check P3M-10k
p3m-edge data check P3M-10k/validation/P3M-500-P
p3m-edge data check portraits --json
p3m-edge data check cutouts --alpha-from alpha
"""
_SHOWN = 20  # problems of one kind


@dataclass(frozen=True)
class Arguments:
    """Read every file of a data set, or of all splits under a folder, and say what is wrong: missing partners,
    unreadable files, mattes that are not what they seem (values 0 and 1, in the alpha channel, of raw pixels beside a
    turned picture), unequal sizes, the same picture twice (also across splits), black alphas, trimaps without unknown
    region or against their alpha. Then count the rest. Exit code 1 when there is something to put right.
    """

    folder: Path = argument("a set, one split of it, or a folder of sets", "DIR")
    mattes: Mattes = group(Mattes)
    workers: int | None = workers()


def run(args: Arguments, console: Console) -> None:
    """Check, and show what was found."""
    with counting(console, "pictures") as progress:
        report = check(args.folder, stored=args.mattes.form, workers=args.workers, progress=progress)
    console.emit(report, _render(report), _error(report))


def _error(report: CheckReport) -> PartialError | None:
    if not report.problems:
        return None
    kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(p.kind for p in report.problems).most_common())
    return PartialError(f"{report.root}: {len(report.problems)} problems in {report.pictures} pictures: {kinds}")


def _render(report: CheckReport) -> Iterator[Part]:
    columns = ("", *(split.name for split in report.splits))
    rows = tuple((what, *map(show, report.splits)) for what, show in _ROWS.items())
    yield Table(str(report.root), columns, rows, "shares of the picture: mean (smallest to largest)")
    found: dict[str, list[str]] = {}
    for problem in report.problems:
        found.setdefault(problem.kind, []).append(f"{problem.kind}: {problem.file}: {problem.message}")
    for kind, lines in found.items():
        yield from map(red, lines[:_SHOWN])
        if len(lines) > _SHOWN:
            yield f"{kind}: {len(lines) - _SHOWN} more; --json lists all of them"
    if not found:
        yield "no problems"


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
