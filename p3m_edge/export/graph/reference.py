"""Graphs in ONNX Runtime, computed as they are written: to judge them by, not to be fast."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from p3m_edge.runtimes.contract import Images, Outputs
from p3m_edge.runtimes.engines import onnxruntime as onnxrt

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Run = Callable[[Images], Outputs]
"""An inference: uint8 ``[N, height, width, 3]`` in, all outputs of the model by name."""


def exact_run(model: Path | bytes) -> Run:
    """An inference with basic optimisation: 8-bit products are exact on every processor.

    At full optimisation, processors with AVX2 and without VNNI add 8-bit products in 16 bits, which saturate.
    """
    session = reference_session(model)
    entry, names = session.get_inputs()[0].name, [output.name for output in session.get_outputs()]
    return lambda images: dict(zip(names, session.run(names, {entry: images}), strict=True))


def reference_session(model: Path | bytes, *, optimised: bool = True, in_order: bool = False) -> InferenceSession:
    """A session on the processor that plans no memory ahead; ``optimised`` basically, or not at all.

    With ``in_order``, nodes run in the graph's order; the default leaves outputs that nothing follows until the end.
    """
    package = onnxrt.require()
    options, levels = package.SessionOptions(), package.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_BASIC if optimised else levels.ORT_DISABLE_ALL
    if in_order:
        options.execution_order = package.ExecutionOrder.PRIORITY_BASED
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    session: InferenceSession = package.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session
