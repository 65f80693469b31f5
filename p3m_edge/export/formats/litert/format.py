"""The LiteRT targets: a ``.tflite`` file for Android, converted by litert-torch in a process of its own.

It takes and gives what every artefact does: a frame in uint8, alpha in float32. LiteRT itself runs it here, with
XNNPACK's kernels for the processor; the delegates for GPU and NPU of a device have not been run.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from p3m_edge.export.formats import Built, Format, run_converter
from p3m_edge.export.formats.litert.convert import LiteRtOrder
from p3m_edge.export.graph import INPUT
from p3m_edge.export.graph.program import save
from p3m_edge.export.session import ExportSession
from p3m_edge.runtimes.engines import litert
from p3m_edge.targets import Target

MINIMUM_LITERT = "2.0"
CONVERTER = "p3m_edge.export.formats.litert.convert"


class LiteRtFormat(Format):
    """Converted from PyTorch's operators."""

    single_frame = True

    def trace(self, session: ExportSession) -> None:
        """The network as PyTorch's operators."""
        _ = session.program

    def build(self, session: ExportSession, target: Target, folder: Path) -> Built:
        """Write ``model.tflite``."""
        litert.require()
        with tempfile.TemporaryDirectory(dir=folder, prefix=".convert-") as temporary:
            traced, model = Path(temporary) / "program.pt2", Path(temporary) / target.model_file
            save(session.program, traced)
            order = LiteRtOrder(str(traced), str(model), INPUT, session.outputs)
            run_converter(CONVERTER, order, "litert-torch", f"the network ({session.network.arch})")
            model.rename(folder / target.model_file)
        return Built(MINIMUM_LITERT)


FORMAT = LiteRtFormat()
