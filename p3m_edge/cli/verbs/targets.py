"""``p3m-edge targets``: the table of targets."""

from __future__ import annotations

from dataclasses import dataclass

from p3m_edge.cli.ui import Console
from p3m_edge.cli.ui.show import limits_text
from p3m_edge.table import table
from p3m_edge.targets import TARGETS

EXAMPLES = """
p3m-edge targets
p3m-edge targets --json
"""
_FIELDS = ("name", "engine", "precision", "model_file", "extras", "limits", "experimental")
_COLUMNS = "target|engine|precision|status|parity limits against PyTorch in float32"


@dataclass(frozen=True)
class Arguments:
    """List the targets: engine, precision, whether this version can build them, and their parity limits."""


def run(_args: Arguments, console: Console) -> None:
    """Print the table."""
    rows = [{name: getattr(target, name) for name in _FIELDS} for target in TARGETS.values()]
    shown = (
        (t.name, t.engine, t.precision, "experimental" if t.experimental else "available", limits_text(t.limits))
        for t in TARGETS.values()
    )
    console.emit({"targets": rows}, [table("targets", _COLUMNS, shown)])
