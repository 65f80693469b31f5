"""The OpenVINO targets: an IR file pair, converted from the ONNX graph, and for INT8 quantised by NNCF."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from p3m_edge.export import graph
from p3m_edge.export.formats import Built, Format, QuantizationTraits
from p3m_edge.export.formats.openvino import nncf
from p3m_edge.export.graph.half import staying, weights_in_half
from p3m_edge.export.quantize.calibration import Calibration
from p3m_edge.export.quantize.search import Candidate
from p3m_edge.export.session import ExportSession
from p3m_edge.runtimes.engines import openvino as ov
from p3m_edge.targets import Target

MINIMUM_OPENVINO = "2024.0"


class OpenVinoFormat(Format):
    """Convolutions in groups are not quantised: on x86, OpenVINO computes them in float32 all the same."""

    float_target = "openvino-fp32"
    traits = QuantizationTraits("nncf", grouped=False)

    def build(self, session: ExportSession, target: Target, folder: Path) -> Built:
        """Write ``model.xml`` and ``model.bin``, the weights in float32 or half precision."""
        openvino = ov.require()
        model = session.graph
        kept: tuple[str, ...] = ()
        # OpenVINO's own compression spares nothing, and what sees the picture is fragile.
        if target.precision == "fp16":
            kept = staying(model, {})
            model = weights_in_half(model, kept)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".convert-") as temporary:
            source = Path(temporary) / "model.onnx"
            graph.save(model, source)
            read = openvino.Core().read_model(source)
            openvino.save_model(read, folder / target.model_file, compress_to_fp16=False)
            del read  # it may map the weights of the temporary file
        return Built(MINIMUM_OPENVINO, kept)

    def candidates(
        self, session: ExportSession, target: Target, calibration: Calibration, folder: Path
    ) -> tuple[Candidate, ...]:
        """NNCF's presets, and for networks with attention its mode for transformers before them."""
        source = folder / target.model_file

        def candidate(preset: nncf.Preset) -> Candidate:
            def build(folder: Path, kept: Sequence[str]) -> Built:
                out = folder / target.model_file
                left = nncf.quantise(source, calibration, kept, preset, out)
                return Built(MINIMUM_OPENVINO, (*kept, *left))

            return Candidate(preset.name, preset.what, build)

        return tuple(map(candidate, nncf.presets(session.network.arch)))


FORMAT = OpenVinoFormat()
