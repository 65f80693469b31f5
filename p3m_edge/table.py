"""A table as text: one description for Markdown, the terminal and the HTML page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rich.console import Console

NONE = "-"
"""Stands where there is nothing to say."""
_FIGURE = re.compile(r"-?|[-+]?\d(?:[-+±\d.,=()%xe ]|to |MB|GB|ms|s$)*")


class Styled(NamedTuple):
    """A row with a style of its own for the terminal, such as ``red``."""

    cells: Sequence[str]
    style: str | None


@dataclass(frozen=True)
class Table:
    """A table as text: every row has one cell per column. ``styles`` are those of the rows, where some have one."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    styles: tuple[str | None, ...] = ()

    @property
    def figures(self) -> tuple[bool, ...]:
        """Which columns hold figures alone, to be aligned on the right."""
        columns = zip(*self.rows, strict=True) if self.rows else [()] * len(self.columns)
        return tuple(any(cells) and all(map(_FIGURE.fullmatch, cells)) for cells in columns)

    def markdown(self) -> str:
        """The columns and rows as Markdown, every cell on one line; without the title and the note."""
        rule = ("---:" if figure else "---" for figure in self.figures)
        return "\n".join(map(_line, (self.columns, rule, *self.rows)))

    def print(self, console: Console) -> None:
        """Print all of it on a terminal; long text is folded, never cut."""
        from rich import box
        from rich.table import Table as RichTable
        from rich.text import Text

        shown = RichTable(title=self.title or None, caption=self.note or None, box=box.SIMPLE_HEAD)
        shown.title_justify = shown.caption_justify = "left"
        shown.show_header = any(self.columns)
        for column, figure in zip(self.columns, self.figures, strict=True):
            shown.add_column(column, justify="right" if figure else "left", overflow="fold")
        for row, style in zip(self.rows, self.styles or [None] * len(self.rows), strict=True):
            shown.add_row(*map(Text, row), style=style)
        console.print(shown)


def table(title: str, columns: str, rows: Iterable[Sequence[str] | Styled], note: str = "") -> Table:
    """A table; the headings have ``|`` between them, and rows may have a style."""
    every = [row if isinstance(row, Styled) else Styled(row, None) for row in rows]
    cells, styles = tuple(tuple(row.cells) for row in every), tuple(row.style for row in every)
    return Table(title, tuple(columns.split("|")), cells, note, styles)


def facts(title: str, values: Iterable[tuple[str, str]]) -> Table:
    """Names and values, without a line of headings."""
    return table(title, "|", values)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"
