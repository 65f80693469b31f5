"""Figures, verdicts and progress bars."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID
    from rich.text import Text

    from p3m_edge.cli.ui.console import Console
    from p3m_edge.manifest_schema import ParityRecord, VerifiedRecord
    from p3m_edge.table import Table
    from p3m_edge.targets import Limits

_FIGURES = (
    "logits_mean", "local_mean", "local_share", "flips", "alpha_mean", "alpha_max", "sad", "mse", "grad", "grad_mean",
    "conn",
)  # fmt: skip


def red(line: str) -> Text:
    """A line that says what is wrong."""
    from rich.text import Text

    return Text(line, "red")


def number(value: float | None) -> str:
    """A figure for a table; ``-`` where there is none."""
    return "-" if value is None else f"{value:.3g}"


def megabytes(size: float) -> str:
    """Bytes as MB (10^6)."""
    return f"{size / 1e6:.1f} MB"


def proved(verified: VerifiedRecord) -> str:
    """What a manifest says has been proved: level, machine and units."""
    machine = verified.machine
    where = ", ".join(str(machine[name]) for name in ("cpu", "architecture", "system") if machine.get(name))
    units = ", ".join(unit.unit for unit in verified.units)
    return verified.level + (f" on {where}" if where else "") + (f"; units: {units}" if units else "")


def limits_text(limits: Limits) -> str:
    """Parity limits in words."""
    logits = f"logits mean <= {limits.logits_mean:g} of their range; " if limits.logits_mean is not None else ""
    others = (("alpha mean", limits.alpha_mean), ("mse", limits.mse), ("grad mean", limits.grad_mean))
    return (
        f"{logits}local alpha mean <= {limits.local_mean:g}; "
        f"off by more than {limits.pixel_tolerance:g}: <= {limits.pixel_share:.3%} of the pixels; "
        f"class flips <= {limits.flips:.3%}"
    ) + "".join(f"; {what} <= {limit:g}" for what, limit in others if limit is not None)


def parity_table(title: str, parity: ParityRecord) -> Table:
    """One row per picture: how far the artefact's outputs are from the reference."""
    from p3m_edge.table import table

    return table(
        title,
        "|".join(["picture", *_FIGURES]).replace("_", " "),
        ((item.image, *(number(getattr(item, name)) for name in _FIGURES)) for item in parity.items),
        "\n".join([f"limits: {limits_text(parity.limits)}", *(f"loosened: {line}" for line in parity.loosened)]),
    )


class Bars:
    """Progress on stderr: a bar for each ``row`` on a terminal, at most ``lines`` lines of text elsewhere."""

    def __init__(self, console: Console, bars: Progress | None, lines: int) -> None:
        self._console, self._bars, self._lines = console, bars, lines
        self._tasks: dict[str, TaskID] = {}
        self._shown = -1

    def progress(self, what: str, done: int, total: int, row: str = "") -> None:
        """Report what is being done, and how far it is."""
        if self._bars is not None:
            if row not in self._tasks:
                self._tasks[row] = self._bars.add_task("", row=row)
            self._bars.update(self._tasks[row], description=what, completed=done, total=total)
        elif self._lines and self._lines * done // max(total, 1) != self._shown:
            self._shown = self._lines * done // max(total, 1)
            self._console.note(f"{done}/{total} {what}")

    def warn(self, message: str) -> None:
        """A warning, above the bars."""
        self._console.warn(message)


@contextmanager
def progress(console: Console, *, lines: int = 0, keep: bool = False) -> Iterator[Bars]:
    """Show :class:`Bars` until the block ends; with ``keep`` they stay on the terminal."""
    if not console.err.is_terminal:
        yield Bars(console, None, lines)
        return
    from rich import progress as rich

    columns = (
        rich.TextColumn("{task.fields[row]}"), rich.BarColumn(), rich.MofNCompleteColumn(), rich.TimeElapsedColumn(),
        rich.TimeRemainingColumn(), rich.TextColumn("{task.description}"),
    )  # fmt: skip
    with rich.Progress(*columns, console=console.err, transient=not keep) as bars:
        yield Bars(console, bars, lines)


@contextmanager
def counting(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar for work on many items, on a terminal alone; call it with ``(done, total)``."""
    with progress(console) as bars:
        yield partial(bars.progress, what)
