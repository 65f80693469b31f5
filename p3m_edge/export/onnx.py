"""The ONNX targets: one file for ONNX Runtime, in float32 or half precision."""

from __future__ import annotations

from pathlib import Path

from p3m_edge.export import graph
from p3m_edge.export.precision import to_half
from p3m_edge.export.workbench import Built, Workbench
from p3m_edge.targets import Target


def build(bench: Workbench, target: Target, folder: Path) -> Built:
    """Write ``model.onnx`` into ``folder``."""
    model = bench.graph()
    kept: tuple[str, ...] = ()
    if target.precision == "fp16":
        model, kept = to_half(model, bench.network_images())
    graph.save(model, folder / target.model_file)
    return Built(minimum_version=graph.MINIMUM_ONNXRUNTIME, fp32_nodes=kept)
