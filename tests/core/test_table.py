"""Tables as text: for Markdown and for the terminal."""

import io

from rich.console import Console

from p3m_edge.table import NONE, Table

TABLE = Table(
    "A [bold]title[/bold]",
    ("row", "median", "interval", "note"),
    (("a | b", "281.7", "270 .. 290", "two\nlines"), ("[red]x[/red]", "1.2e-07", NONE, "8bit")),
    "a note",
)


def test_figures_are_columns_of_numbers_alone():
    assert TABLE.figures == (False, True, True, False)
    cells = ("12 (80.0%)", "2.98 (2.77 .. 3.19)", "512x512", "1=", "+1.0%", "-0.5", NONE)
    assert Table("", ("x",), tuple((cell,) for cell in cells)).figures == (True,)
    assert Table("", ("x", "y"), ()).figures == (False, False)
    assert Table("", ("x",), (("",), ("",))).figures == (False,)


def test_markdown_keeps_every_cell_in_its_place():
    assert TABLE.markdown().splitlines() == [
        "| row | median | interval | note |",
        "| --- | ---: | ---: | --- |",
        "| a \\| b | 281.7 | 270 .. 290 | two lines |",
        "| [red]x[/red] | 1.2e-07 | - | 8bit |",
    ]


def test_the_terminal_shows_names_as_they_are_and_cuts_none():
    stream = io.StringIO()
    TABLE.print(Console(file=stream, width=40))
    shown = stream.getvalue()
    for text in ("a | b", "281.7", "1.2e-07", "8bit", "a note"):
        assert text in shown
    assert "[red]" in shown
