"""What TensorRT would refuse about an ONNX graph, or make slow: found without a builder, named by node and module.

Each rule was confirmed with a TensorRT parser, and the tests do so where one is installed (TensorRT for RTX).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import onnx

Severity = Literal["error", "advice"]

UNSUPPORTED = frozenset({
    "AffineGrid", "Bernoulli", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "CenterCropPad",
    "Col2Im", "Compress", "ConcatFromSequence", "ConvInteger", "DFT", "DeformConv", "Det", "DynamicQuantizeLinear",
    "ImageDecoder", "MatMulInteger", "MaxRoiPool", "MaxUnpool", "MelWeightMatrix", "Multinomial", "QLinearConv",
    "QLinearMatMul", "SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert",
    "SequenceLength", "SequenceMap", "SplitToSequence", "StringNormalizer", "TfIdfVectorizer", "Unique",
})  # fmt: skip
"""Operators of ONNX that TensorRT's parser does not know (TensorRT for RTX 1.7)."""
SCATTERING = frozenset({"NonZero", "ScatterND", "ScatterElements"})
"""Operators that it knows, and that keep a graph from being fused."""
_QUANTISING = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True)
class Finding:
    """A node, or an input, that does not keep a rule; with the severity ``error``, TensorRT refuses the graph.

    ``operator`` is empty for an input, and ``module`` for what is of no module of the network.
    """

    rule: str
    severity: Severity
    node: str
    operator: str
    module: str
    advice: str

    def __str__(self) -> str:
        operator = f" ({self.operator})" if self.operator else ""
        module = f" of {self.module}" if self.module else ""
        return f"{self.rule}: {self.node}{operator}{module}"


class Rule(NamedTuple):
    """What is wrong, how bad it is, what to do, and what tells the nodes that break it."""

    what: str
    severity: Severity
    advice: str
    broken: Callable[[View, onnx.NodeProto], bool]


class View:
    """The nodes of a graph, its inputs without constants, the types of its values and its constants, by name."""

    def __init__(self, model: onnx.ModelProto) -> None:
        try:
            typed = onnx.shape_inference.infer_shapes(model).graph
        except Exception:  # noqa: BLE001  invalid graphs are what is looked for; what they say of themselves is left
            typed = model.graph
        self.nodes = list(typed.node)
        self.constants = {tensor.name: tensor for tensor in typed.initializer}
        self.inputs = [entry for entry in typed.input if entry.name not in self.constants]
        values = (*typed.value_info, *typed.output, *typed.input)
        self.types = {entry.name: entry.type.tensor_type.elem_type for entry in values}
        self.types |= {name: tensor.data_type for name, tensor in self.constants.items()}

    def of_type(self, name: str, kind: str) -> bool:
        """Whether a value has a type."""
        return bool(self.types.get(name) == getattr(onnx.TensorProto, kind))


def lint(model: onnx.ModelProto, *, profile: bool = False) -> tuple[Finding, ...]:
    """What TensorRT would say about any ONNX model, errors first.

    ``profile``: whether an engine with open sizes gets the sizes that it is for.
    """
    view = View(model)
    found = [
        Finding(rule.what, rule.severity, node.name, node.op_type, node.name.rpartition("/")[0], rule.advice)
        for rule in RULES
        for node in view.nodes
        if rule.broken(view, node)
    ]
    for entry in () if profile else view.inputs:
        if any(side.dim_value < 1 for side in entry.type.tensor_type.shape.dim):
            found.append(Finding("an open size needs a profile", "error", entry.name, "", "", _SIZES))
    return tuple(sorted(found, key=lambda finding: finding.severity != "error"))


def advice(findings: Sequence[Finding]) -> tuple[str, ...]:
    """A line for each rule of which keeping it is only advised, with the number of nodes and the first of them."""
    rules: dict[str, list[Finding]] = {}
    for finding in findings:
        if finding.severity == "advice":
            rules.setdefault(finding.rule, []).append(finding)
    return tuple(
        f"{rule} ({len(found)} times, first {found[0].node}): {found[0].advice}" for rule, found in rules.items()
    )


def _has_zero_point(view: View, node: onnx.NodeProto) -> bool:
    points = node.input[2:3] if node.op_type in _QUANTISING else []
    known = (view.constants[name] for name in points if name in view.constants)
    return any(bool(np.any(onnx.numpy_helper.to_array(point) != 0)) for point in known)


def _quantises_unsigned(view: View, node: onnx.NodeProto) -> bool:
    return node.op_type in _QUANTISING and any(view.of_type(name, "UINT8") for name in (*node.input, *node.output))


def _takes_frame(view: View, node: onnx.NodeProto) -> bool:
    taken = any(view.of_type(name, "UINT8") and name not in view.constants for name in node.input)
    return taken and node.op_type not in ("Cast", *_QUANTISING)


_OWN = ("", "ai.onnx")  # ONNX's own operators
_SIZES = "give --min, --opt and --max, or one size"
RULES = (
    Rule(
        "TensorRT has no such operator", "error", "write the network in other operators",
        lambda _, node: node.op_type in UNSUPPORTED and node.domain in _OWN,
    ),
    Rule(
        "an operator from outside ONNX needs a plugin", "error", "write the network in ONNX's operators",
        lambda _, node: node.domain not in _OWN,
    ),
    Rule("TensorRT quantises without zero points", "error", "quantise symmetrically: --qdq s8s8", _has_zero_point),
    Rule("TensorRT takes uint8 for int8, in silence", "error", "quantise to int8: --qdq s8s8", _quantises_unsigned),
    Rule("TensorRT takes uint8 into a cast alone", "error", "cast first", _takes_frame),
    Rule(
        "TensorRT dequantises no int32", "error", "leave biases in floating point",
        lambda view, node: node.op_type == "DequantizeLinear" and view.of_type(node.input[0], "INT32"),
    ),
    Rule(
        "the scales of a Resize are float32", "error", "keep them out of half precision",
        lambda view, node: node.op_type == "Resize" and any(view.of_type(name, "FLOAT16") for name in node.input[2:3]),
    ),
    Rule(
        "gathering and scattering by computed places is slow", "advice", "compute with masks instead",
        lambda _, node: node.op_type in SCATTERING,
    ),
    Rule(
        "integers are computed on the way", "advice", "export one size, so that they are constants",
        lambda view, node: any(view.of_type(name, "INT64") for name in node.output),
    ),
)  # fmt: skip
