"""Options declared as fields: what argparse makes of them, and the requests that are filled of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from p3m_edge.cli import Parser
from p3m_edge.cli.options import add_to, argument, collect, fill, given, group, option, words
from p3m_edge.cli.options.values import SIZE, Size, natural
from p3m_edge.errors import UsageError


@dataclass(frozen=True)
class Shared:
    """Of several verbs."""

    device: str | None = option("where", metavar="NAME")


@dataclass(frozen=True)
class Arguments:
    """A verb's."""

    folders: tuple[Path, ...] = argument("folders", "DIR", nargs="*")
    size: Size = option("of the input", SIZE)
    rounds: int = option("at 95 %", 3, group="how")
    seed: int = option("of all", 0, parse=natural)
    kind: Literal["a", "b"] = option("which", "a")
    files: tuple[Path, ...] = option("repeatable", (), flag="--file")
    fast: bool = option("not slow", default=False)
    exact: bool | None = option("not about")
    shared: Shared = group(Shared, "shared")


@dataclass(frozen=True)
class Request:
    """Of another room."""

    rounds: int
    device: str = "cpu"
    exact: bool = True
    threads: int = 1
    shared: bool = False


def parse(*words: str) -> Arguments:
    parser = Parser(prog="verb")
    add_to(parser, Arguments)
    return collect(Arguments, parser.parse_intermixed_args(words))


def test_the_defaults_are_those_of_the_fields() -> None:
    assert parse() == Arguments()
    assert isinstance(parse().size, Size)
    assert list(given(parse())) == []


def test_types_say_how_values_are_read() -> None:
    found = parse("x", "--size", "64x96", "--seed", "0", "--kind", "b", "--file", "1", "--file", "2", "--fast", "y")
    assert (found.folders, found.files) == ((Path("x"), Path("y")), (Path("1"), Path("2")))
    assert (found.size, found.kind, found.fast, found.exact) == ((64, 96), "b", True, None)
    assert list(given(found)) == [
        ("folders", "folders"), ("size", "--size"), ("kind", "--kind"), ("files", "--file"), ("fast", "--fast"),
    ]  # fmt: skip


def test_words_say_the_same() -> None:
    found = parse("x", "--size", "64x96", "--seed", "0", "--file", "1", "--file", "a/2", "--fast")
    assert list(words(found, lambda text: f"<{text}>")) == [
        "--size", "64x96", "--rounds", "3", "--seed", "0", "--kind", "<a>", "--file", "<1>", "--file", "<a/2>",
        "--fast",
    ]  # fmt: skip
    assert parse("x", *words(found, str)) == found


@pytest.mark.parametrize("given_words", [("--rounds", "0"), ("--kind", "c"), ("--file", ""), ("--size", "1x1")])
def test_impossible_values(given_words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        parse(*given_words)


def test_the_help_has_groups_and_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse("--help")
    shown = capsys.readouterr().out
    for part in (
        "at 95 % (default: 3)",
        "of the input (default: 512x512)",
        "of all (default: 0)",
        "\nhow:",
        "\nshared:",
    ):
        assert part in shown
    assert "(default: None)" not in shown
    assert "(default: False)" not in shown


def test_a_request_keeps_its_defaults_where_nothing_was_given() -> None:
    assert fill(Request, parse(), threads=2) == Request(3, threads=2)  # a group is none of its values
    found = parse("--device", "gpu", "--exact", "--rounds", "4")
    assert fill(Request, found, found.shared, rounds=5) == Request(5, "gpu")
