"""The OpenVINO targets: an IR file pair, its weights in float32 or half precision, converted from the ONNX graph."""

from __future__ import annotations

import tempfile
from pathlib import Path

from p3m_edge.errors import UsageError
from p3m_edge.export import graph
from p3m_edge.export.precision import staying, weights_in_half
from p3m_edge.export.workbench import Built, Workbench
from p3m_edge.runtimes.engines import openvino as ov
from p3m_edge.targets import Target

MINIMUM_OPENVINO = "2024.0"


def build(bench: Workbench, target: Target, folder: Path) -> Built:
    """Write ``model.xml`` and ``model.bin`` into ``folder``.

    Raises
    ------
    UsageError
        The unpooling is in the form that only ONNX Runtime has.
    """
    if bench.request.unpool == "native":
        raise UsageError(
            f"{target.name} cannot be built with --unpool native", hint="only ONNX Runtime has MaxUnpool: use select"
        )
    openvino = ov.require()
    model = bench.graph()
    kept: tuple[str, ...] = ()
    if target.precision == "fp16":  # OpenVINO's own compression spares nothing, and what sees the picture is fragile
        kept = staying(model, {})
        model = weights_in_half(model, kept)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".convert-") as temporary:
        source = Path(temporary) / "model.onnx"
        graph.save(model, source)
        read = openvino.Core().read_model(source)
        openvino.save_model(read, folder / target.model_file, compress_to_fp16=False)
        del read  # it may map the weights of the temporary file
    return Built(minimum_version=MINIMUM_OPENVINO, fp32_nodes=kept)
