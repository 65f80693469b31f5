"""Half precision in an ONNX graph: what may overflow stays in float32, found by running the float32 network.

ONNX Runtime's CPU provider hides overflow, because it computes half-precision nodes in float32; so the activations of
the float32 network are measured, not those of the converted one.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p3m_edge.errors import missing_package

FP16_MAX = float(np.finfo(np.float16).max)
HEADROOM = 4.0
"""Activations must stay this factor below the largest half-precision number."""

# Sums over many elements and exponentials: rounding or overflow inside them does not show in what they give out.
KEEP_OPERATORS = ("LayerNormalization", "ReduceMean", "ReduceSum", "Exp", "Pow", "Sqrt", "Reciprocal", "Div", "Softmax")
# Operators that only move values, and the converter's default list blocks `Max`, which half precision has.
_MOVING = frozenset({"Pad"})


def activation_ranges(model: Any, images: Sequence[NDArray[np.uint8]]) -> dict[str, float]:
    """The largest absolute value of every float activation.

    Parameters
    ----------
    model
        A float32 ONNX model as :func:`p3m_edge.export.graph.trace` makes it.
    images
        Inputs, uint8 ``[N, H, W, 3]``.

    Returns
    -------
    dict
        By name of the value.
    """
    import onnx
    import onnxruntime

    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    floats = _float_values(probe)
    names = [
        value
        for node in model.graph.node
        if node.op_type not in _MOVING  # a padded -inf is no overflow
        for value in node.output
        if value in floats
    ]
    for index, name in enumerate(names):  # reduced in the graph, so that no activation outlives its use
        magnitude, largest = f"magnitude_{index}", f"largest_{index}"
        probe.graph.node.append(onnx.helper.make_node("Abs", [name], [magnitude]))
        probe.graph.node.append(onnx.helper.make_node("ReduceMax", [magnitude], [largest], keepdims=0))
        probe.graph.output.append(onnx.helper.make_tensor_value_info(largest, onnx.TensorProto.FLOAT, []))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0].name
    ranges = np.max([session.run(None, {entry: image}) for image in images], axis=0)
    return dict(zip(names, map(float, ranges), strict=True))


def to_half(model: Any, images: Sequence[NDArray[np.uint8]]) -> tuple[Any, tuple[str, ...]]:
    """Convert a float32 ONNX model to half precision, inputs and outputs excepted.

    Parameters
    ----------
    model, images
        As for :func:`activation_ranges`.

    Returns
    -------
    tuple
        The converted model, and the names of the nodes that stay in float32.
    """
    try:
        from onnxruntime.transformers.float16 import convert_float_to_float16
    except ImportError as error:
        raise missing_package("onnxruntime", "torch", error) from error
    risky = {name for name, largest in activation_ranges(model, images).items() if not largest <= FP16_MAX / HEADROOM}
    kept = tuple(
        node.name
        for node in model.graph.node
        if node.op_type in KEEP_OPERATORS or risky.intersection([*node.input, *node.output])
    )
    with warnings.catch_warnings():
        # The converter's own words for weights below the smallest half-precision number.
        warnings.filterwarnings("ignore", module=r"onnxruntime\.transformers\.float16")
        converted = convert_float_to_float16(model, keep_io_types=True, op_block_list=[], node_block_list=list(kept))
    return converted, kept


def _float_values(model: Any) -> set[str]:
    import onnx

    return {
        entry.name
        for entry in (*model.graph.value_info, *model.graph.output)
        if entry.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    }
