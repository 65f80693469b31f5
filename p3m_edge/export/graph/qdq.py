"""INT8 in ONNX: explicit quantise and dequantise nodes round the convolutions, from one table of calibration ranges.

Two forms (``--qdq``). ``u8s8``: unsigned activations with a zero point, signed weights per channel, for x86 processors,
where ONNX Runtime is hardly faster than float32 with signed activations. ``s8s8``: signed and symmetric throughout,
biases in float32, as TensorRT's parser wants it; no speed on a processor is promised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import onnx
import onnx_ir as ir

from p3m_edge import __version__
from p3m_edge.export.graph.half import FAINT
from p3m_edge.export.graph.ranges import Range
from p3m_edge.export.graph.tracing import IR_VERSION, copied
from p3m_edge.export.quiet import quiet
from p3m_edge.runtimes.engines import onnxruntime as onnxrt

QDQ = Literal["u8s8", "s8s8"]
OPERATORS = ("Conv", "MatMul", "Gemm")
"""What is quantised. What stands between (additions, resizing, comparisons of pooling winners) stays in float32."""
_DEPTH = 3  # of module names: network.encoder.layer1


def quantised(
    model: onnx.ModelProto,
    ranges: Mapping[str, Range],
    form: QDQ,
    kept: Sequence[str] = (),
    *,
    widest: bool = False,
    seven_bits: bool = False,
    inputs_alone: bool = False,
) -> onnx.ModelProto:
    """A quantised copy of a float32 graph.

    Parameters
    ----------
    model, ranges, kept
        The float32 graph, which is not changed, the ranges of all its activations, and the names of nodes that stay.
    widest
        Take the smallest and largest values of all pictures. Otherwise their averages: what few pictures reach is cut
        off, and all others are resolved more finely.
    seven_bits
        Use half of the weights' range.
    inputs_alone
        Quantise what the operators take, and not what they give: where an engine fuses what follows (an addition, a
        ReLU) into a convolution, its result is never there to be quantised.

    Raises
    ------
    MissingError
        ONNX Runtime cannot be imported.
    """
    onnxrt.require()
    from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType, TensorsData

    table = {
        name: tuple(np.array([side], np.float32) for side in (found[:2] if widest else found[2:]))
        for name, found in ranges.items()
    }
    symmetric = form == "s8s8"
    options = {
        "ActivationSymmetric": symmetric, "WeightSymmetric": True, "QuantizeBias": not symmetric,
        "OpTypesToExcludeOutputQuantization": list(OPERATORS) if inputs_alone else [],
    }  # fmt: skip
    activations = QuantType.QInt8 if symmetric else QuantType.QUInt8
    with quiet():  # its advice is for its own command line
        quantizer = QDQQuantizer(
            _without_faint(model) if symmetric else copied(model), True, seven_bits, QuantType.QInt8, activations,
            TensorsData(CalibrationMethod.MinMax, table),
            [], list(kept), list(OPERATORS), options,
        )  # fmt: skip
        quantizer.quantize_model()
    return _finish(quantizer.model.model)


def _without_faint(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose faint channels are zeros: those get a scale of 1, which half precision holds."""
    copy = copied(model)
    weights = {node.input[1] for node in copy.graph.node if node.op_type == "Conv"}
    for tensor in copy.graph.initializer:
        if tensor.name in weights:
            values = onnx.numpy_helper.to_array(tensor)
            faint = np.abs(values).max(axis=tuple(range(1, values.ndim)), keepdims=True) < FAINT
            if faint.any():
                zeros = np.where(faint, values.dtype.type(0), values)
                tensor.CopyFrom(onnx.numpy_helper.from_array(zeros, tensor.name))
    return copy


def parts_of(model: onnx.ModelProto) -> dict[str, tuple[str, ...]]:
    """The weighted nodes of each part of a network, by the part's name, in the graph's order.

    A part is what stands together in the network: a layer of the encoder, a stage or module of a decoder.
    """
    found: dict[str, list[str]] = {}
    for node in model.graph.node:
        if node.op_type in OPERATORS:
            found.setdefault(part_name(node.name), []).append(node.name)
    return {name: tuple(nodes) for name, nodes in found.items()}


def depthwise(model: onnx.ModelProto) -> tuple[str, ...]:
    """The names of the convolutions in groups."""
    return tuple(
        node.name
        for node in model.graph.node
        if node.op_type == "Conv" and any(each.name == "group" and each.i > 1 for each in node.attribute)
    )


def part_name(node: str) -> str:
    """The part that a node belongs to."""
    return ".".join(node.partition("/")[0].split(".")[:_DEPTH])


def _finish(model: onnx.ModelProto) -> onnx.ModelProto:
    """Nodes in the order of their data, shapes for all values, and nothing of the tool that made it."""
    ordered = ir.from_proto(model)
    ordered.graph.sort()
    model = ir.to_proto(ordered)
    model.producer_name, model.producer_version = "p3m-edge", __version__
    model.ir_version = IR_VERSION
    del model.metadata_props[:]
    return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
