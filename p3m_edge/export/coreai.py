"""The Core AI target, experimental: an ``.aimodel``, converted by coreai-torch in a process of its own.

It takes and gives what every artefact does: a frame in uint8, alpha in float32. Apple's runtime for Linux really runs
it, so that the parity gate uses it like any other engine; on an Apple device it has not been run.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from p3m_edge.export import apart
from p3m_edge.export.aimodel import Order
from p3m_edge.export.graph import INPUT
from p3m_edge.export.program import in_single, save
from p3m_edge.export.workbench import Built, Workbench
from p3m_edge.model.deploy import OUTPUTS
from p3m_edge.runtimes.engines import coreai
from p3m_edge.targets import Target

MINIMUM_COREAI = "1.0"
CONVERTER = "p3m_edge.export.aimodel"


def build(bench: Workbench, target: Target, folder: Path) -> Built:
    """Write ``model.aimodel`` into ``folder``.

    Raises
    ------
    MissingError
        Core AI cannot be imported.
    OSError
        The disc is full.
    P3MEdgeError
        The conversion failed, or its process was killed.
    """
    coreai.require()
    with tempfile.TemporaryDirectory(dir=folder, prefix=".convert-") as temporary:
        traced = Path(temporary) / "program.pt2"
        save(bench.program, traced)
        kept = in_single(bench.program)
        model = Path(temporary) / target.model_file
        order = Order(str(traced), str(model), INPUT, tuple(OUTPUTS[bench.request.outputs]), kept)
        apart.convert(CONVERTER, order, "coreai-torch", f"the network ({bench.network.arch})")
        model.rename(folder / target.model_file)
    return Built(MINIMUM_COREAI, kept)
