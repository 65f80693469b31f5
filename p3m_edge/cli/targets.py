"""``p3m-edge targets``: the table of targets."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from p3m_edge.cli.tables import limits_text, table
from p3m_edge.targets import TARGETS, Target

if TYPE_CHECKING:
    from rich.console import Console as RichConsole

    from p3m_edge.cli.console import Console

HELP = "List the targets: engine, precision, whether this version can build them, and their parity limits."
EXAMPLES = """
p3m-edge targets
p3m-edge targets --json
"""


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """Nothing beyond the options that every verb has."""


def run(_args: argparse.Namespace, console: Console) -> int:
    """Print the table."""
    rows = [{**_fields(target), "experimental": target.experimental} for target in TARGETS.values()]
    console.emit({"targets": rows}, _render)
    return 0


def _fields(target: Target) -> dict[str, object]:
    return {
        "name": target.name,
        "engine": target.engine,
        "precision": target.precision,
        "model_file": target.model_file,
        "extras": target.extras,
        "limits": target.limits,
    }


def _render(out: RichConsole) -> None:
    rows = table("targets", "target", "engine", "precision", "status", "parity limits against PyTorch in float32")
    for target in TARGETS.values():
        status = "experimental" if target.experimental else "available"
        rows.add_row(target.name, target.engine, target.precision, status, limits_text(target.limits))
    out.print(rows)
