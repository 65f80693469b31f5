"""The scripts that measure mattes, run in this process."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest


class Ran(NamedTuple):
    """How a script ended, and what it printed."""

    code: int
    out: str
    err: str


Run = Callable[..., Ran]


def runs(main: Callable[[Sequence[str]], int], capsys: pytest.CaptureFixture[str], *words: object) -> Ran:
    """Run a script with these words."""
    capsys.readouterr()
    return Ran(main([*map(str, words)]), *capsys.readouterr())
