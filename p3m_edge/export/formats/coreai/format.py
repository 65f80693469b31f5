"""The Core AI target, experimental: an ``.aimodel``, converted by coreai-torch in a process of its own.

It takes and gives what every artefact does: a frame in uint8, alpha in float32. Apple's runtime for Linux really runs
it, so that the parity gate uses it like any other engine; on an Apple device it has not been run.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from p3m_edge.export.formats import Built, Format, run_converter
from p3m_edge.export.formats.coreai.aimodel import CoreAiOrder
from p3m_edge.export.graph import INPUT
from p3m_edge.export.graph.program import in_single, save
from p3m_edge.export.session import ExportSession
from p3m_edge.runtimes.engines import coreai
from p3m_edge.targets import Target

MINIMUM_COREAI = "1.0"
CONVERTER = "p3m_edge.export.formats.coreai.aimodel"


class CoreAiFormat(Format):
    """Half precision, converted from PyTorch's operators."""

    single_frame = True

    def trace(self, session: ExportSession) -> None:
        """The network as PyTorch's operators."""
        _ = session.program

    def build(self, session: ExportSession, target: Target, folder: Path) -> Built:
        """Write ``model.aimodel``."""
        coreai.require()
        with tempfile.TemporaryDirectory(dir=folder, prefix=".convert-") as temporary:
            traced, model = Path(temporary) / "program.pt2", Path(temporary) / target.model_file
            save(session.program, traced)
            kept = in_single(session.program)
            order = CoreAiOrder(str(traced), str(model), INPUT, session.outputs, kept)
            run_converter(CONVERTER, order, "coreai-torch", f"the network ({session.network.arch})")
            model.rename(folder / target.model_file)
        return Built(MINIMUM_COREAI, kept)


FORMAT = CoreAiFormat()
