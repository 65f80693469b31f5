"""A table as text: one description for Markdown, the terminal and the HTML page."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

NONE = "-"
"""Stands where there is nothing to say."""
_FIGURE = re.compile(r"-?|[-+]?\d[-+\d.,=()%xe ]*")


@dataclass(frozen=True)
class Table:
    """A table as text: every row has one cell per column."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

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
        for column, figure in zip(self.columns, self.figures, strict=True):
            shown.add_column(column, justify="right" if figure else "left", overflow="fold")
        for row in self.rows:
            shown.add_row(*map(Text, row))
        console.print(shown)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"
