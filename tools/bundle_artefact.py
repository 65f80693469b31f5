"""Make the artefact that the package carries, for ONNX Runtime, from the shipped weights.

``python tools/bundle_artefact.py`` replaces ``p3m_edge/weights/onnx-fp16``; it needs the extra ``torch``.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from p3m_edge.cli import main, ui
from p3m_edge.cli.ui import megabytes
from p3m_edge.cli.verbs.export import exported
from p3m_edge.runtimes.default import bundled
from p3m_edge.shipped import weights_path

EXAMPLES = "python tools/bundle_artefact.py"


@dataclass(frozen=True)
class Arguments:
    """Make the artefact that the package carries: weights in half precision, computed in float32, alpha alone."""


def run(_: Arguments, console: ui.Console) -> None:
    """Export it in the place of the one before."""
    folder = bundled()
    (made,) = exported(
        console, targets=(folder.name,), out=folder.parent, checkpoint=weights_path(), outputs="alpha", half="weights",
        force=True,
    )  # fmt: skip
    console.emit(made, [f"{made.folder}: {megabytes(made.bytes)}"])


if __name__ == "__main__":
    sys.exit(main(tool=sys.modules[__name__]))
