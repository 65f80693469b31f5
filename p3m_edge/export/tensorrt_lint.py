"""What TensorRT would refuse about an ONNX graph, or make slow: found without a builder, named by node and module.

Each rule was confirmed with a TensorRT parser, and the tests do so where one is installed (TensorRT for RTX).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from p3m_edge.errors import InputError, missing_package

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
    """A node, or an input, that does not keep a rule.

    Attributes
    ----------
    rule
        What is wrong, or slow.
    severity
        ``error``: TensorRT refuses the graph.
    node, operator
        Its name and operator; of an input the name, and nothing.
    module
        The module of the network that it comes from; empty: none, as in the middle of ``forward``.
    advice
        What to do about it.
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
    """What is wrong, how bad it is, what to do, and which nodes (or inputs of the graph) break it."""

    what: str
    severity: Severity
    advice: str
    broken: Callable[[View], Iterator[Any]]


class View:
    """A graph with the types and the constants of its values.

    Attributes
    ----------
    nodes, inputs
        Of the graph; inputs without constants.
    types
        Of every value that is known, a number of ``onnx.TensorProto``.
    constants
        Tensors by name.
    """

    def __init__(self, model: Any, *, profile: bool) -> None:
        import onnx

        self.types_of, self.profile = onnx.TensorProto, profile
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

    def constant(self, node: Any, index: int) -> Any:
        """The constant that an input of a node is; None: it is none."""
        import onnx

        tensor = self.constants.get(node.input[index]) if index < len(node.input) else None
        return None if tensor is None else onnx.numpy_helper.to_array(tensor)

    def of_type(self, name: str, kind: str) -> bool:
        """Whether a value has a type."""
        return bool(self.types.get(name) == getattr(self.types_of, kind))


def lint(model: Any, *, profile: bool = False) -> tuple[Finding, ...]:
    """What TensorRT would say about any ONNX model, errors first.

    Parameters
    ----------
    model
        An ``onnx.ModelProto``.
    profile
        Whether an engine with open sizes gets the sizes that it is for.
    """
    view = View(model, profile=profile)
    found = [
        Finding(
            rule.what, rule.severity, each.name, getattr(each, "op_type", ""), each.name.rpartition("/")[0], rule.advice
        )
        for rule in RULES
        for each in rule.broken(view)
    ]
    return tuple(sorted(found, key=lambda finding: finding.severity != "error"))


def lint_file(path: Path, *, profile: bool = False) -> tuple[Finding, ...]:
    """The same for a file.

    Raises
    ------
    InputError
        It cannot be read, or is no ONNX model.
    MissingError
        onnx is absent.
    """
    try:
        import onnx
    except ImportError as error:
        raise missing_package("onnx", "torch", error) from error
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's, the system's
        raise InputError(f"{path} cannot be read as an ONNX model: {' '.join(str(error).split())}") from error
    if not model.graph.node:
        raise InputError(f"{path} is not an ONNX model")
    return lint(model, profile=profile)


def advice(findings: Sequence[Finding]) -> tuple[str, ...]:
    """A line for each rule of which keeping it is only advised, with the number of nodes and the first of them."""
    rules: dict[str, list[Finding]] = {}
    for finding in findings:
        if finding.severity == "advice":
            rules.setdefault(finding.rule, []).append(finding)
    return tuple(
        f"{rule} ({len(found)} times, first {found[0].node}): {found[0].advice}" for rule, found in rules.items()
    )


def _zero_points(view: View) -> Iterator[Any]:
    for node in view.nodes:
        point = view.constant(node, 2) if node.op_type in _QUANTISING else None
        if point is not None and np.any(point != 0):
            yield node


def _unsigned(view: View) -> Iterator[Any]:
    for node in view.nodes:
        if node.op_type in _QUANTISING and any(view.of_type(name, "UINT8") for name in (*node.input, *node.output)):
            yield node


def _frames(view: View) -> Iterator[Any]:
    for node in view.nodes:
        taken = [name for name in node.input if view.of_type(name, "UINT8") and name not in view.constants]
        if taken and node.op_type not in ("Cast", *_QUANTISING):
            yield node


def _wide(view: View) -> Iterator[Any]:
    for node in view.nodes:
        if node.op_type == "DequantizeLinear" and view.of_type(node.input[0], "INT32"):
            yield node


def _half_scales(view: View) -> Iterator[Any]:
    for node in view.nodes:
        if node.op_type == "Resize" and len(node.input) > 2 and view.of_type(node.input[2], "FLOAT16"):
            yield node


def _open(view: View) -> Iterator[Any]:
    for entry in view.inputs:
        if not view.profile and any(side.dim_value < 1 for side in entry.type.tensor_type.shape.dim):
            yield entry


def _custom(view: View) -> Iterator[Any]:
    return (node for node in view.nodes if node.domain not in ("", "ai.onnx"))


def _unsupported(view: View) -> Iterator[Any]:
    return (node for node in view.nodes if node.op_type in UNSUPPORTED and node.domain in ("", "ai.onnx"))


def _scattering(view: View) -> Iterator[Any]:
    return (node for node in view.nodes if node.op_type in SCATTERING)


def _integers(view: View) -> Iterator[Any]:
    return (node for node in view.nodes if any(view.of_type(name, "INT64") for name in node.output))


RULES = (
    Rule("TensorRT has no such operator", "error", "write the network in other operators", _unsupported),
    Rule("an operator from outside ONNX needs a plugin", "error", "write the network in ONNX's operators", _custom),
    Rule("TensorRT quantises without zero points", "error", "quantise symmetrically: --qdq s8s8", _zero_points),
    Rule("TensorRT takes uint8 for int8, in silence", "error", "quantise to int8: --qdq s8s8", _unsigned),
    Rule("TensorRT takes uint8 into a cast alone", "error", "cast first", _frames),
    Rule("TensorRT dequantises no int32", "error", "leave biases in floating point", _wide),
    Rule("the scales of a Resize are float32", "error", "keep them out of half precision", _half_scales),
    Rule("an open size needs a profile", "error", "give --min, --opt and --max, or one size", _open),
    Rule("gathering and scattering by computed places is slow", "advice", "compute with masks instead", _scattering),
    Rule("integers are computed on the way", "advice", "export one size, so that they are constants", _integers),
)  # fmt: skip
