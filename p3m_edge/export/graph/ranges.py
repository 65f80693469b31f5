"""The ranges of a float32 network's activations on pictures: what half precision must hold and INT8 must resolve.

One table serves all: :mod:`p3m_edge.export.graph.half` looks for overflow in it, and both forms of quantised graphs
take their scales from it. ONNX Runtime's own calibrators are not used: they keep every picture's results until the end
(version 1.32), and the option that is meant to prevent it drops them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

from p3m_edge.errors import InputError
from p3m_edge.export.graph.reference import reference_session
from p3m_edge.export.graph.tracing import copied

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


class Range(NamedTuple):
    """The smallest and the largest value that an activation had: of all pictures, and on average over the pictures."""

    low: float
    high: float
    mean_low: float
    mean_high: float

    @property
    def magnitude(self) -> float:
        """The largest absolute value; NaN if there was one."""
        return float(np.max(np.abs([self.low, self.high])))


def activation_ranges(model: onnx.ModelProto, images: Iterable[NDArray[np.uint8]]) -> dict[str, Range]:
    """Run a float32 network on pictures, one at a time, and keep the ranges of all float activations, by name.

    The model is one that :func:`p3m_edge.export.graph.trace` makes, the images uint8 ``[N, H, W, 3]``. A padding counts
    as its input and zero, although pooling pads with -inf.

    Raises
    ------
    InputError
        There are no pictures.
    """
    session, names = _probe(model)
    entry = session.get_inputs()[0].name
    found = (np.array(session.run(None, {entry: image}), dtype=np.float64).reshape(-1, 2) for image in images)
    ranges = combined(dict(zip(names, each.tolist(), strict=True)) for each in found)
    for node in model.graph.node:
        if node.op_type == "Pad" and node.input[0] in ranges:
            inner = ranges[node.input[0]]
            ranges[node.output[0]] = Range(
                min(inner.low, 0.0), max(inner.high, 0.0), min(inner.mean_low, 0.0), max(inner.mean_high, 0.0)
            )
    return ranges


def combined(pictures: Iterable[Mapping[str, Sequence[float]]]) -> dict[str, Range]:
    """Ranges over pictures, from the smallest and the largest value of each activation in each of them.

    Raises
    ------
    InputError
        There are no pictures.
    """
    every = list(pictures)
    if not every:
        raise InputError("there is no picture to measure activations with")
    names = list(every[0])
    table = np.array([list(found.values()) for found in every], dtype=np.float64)  # [pictures, activations, 2]
    # All of these carry a NaN on.
    joined = np.column_stack([table[..., 0].min(0), table[..., 1].max(0), table.mean(0)])
    return {name: Range(*map(float, row)) for name, row in zip(names, joined, strict=True)}


def check_finite(
    ranges: Mapping[str, Range], hint: str = "the float32 network overflows or divides by zero: check the checkpoint"
) -> None:
    """Raise :class:`InputError` where an activation was not finite; it is named."""
    bad = next((name for name, found in ranges.items() if not np.isfinite(found.magnitude)), None)
    if bad is not None:
        raise InputError(f"the activation {bad} is not finite on a calibration picture", hint=hint)


def _probe(model: onnx.ModelProto) -> tuple[InferenceSession, list[str]]:
    """A session whose outputs are smallest and largest value of each activation, in pairs; and their names."""
    probe = copied(model)
    floats = {
        entry.name
        for entry in (*probe.graph.value_info, *probe.graph.output)
        if entry.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    }
    nodes = list(probe.graph.node)
    del probe.graph.output[:], probe.graph.node[:]
    names: list[str] = []
    for node in nodes:
        probe.graph.node.append(node)
        if node.op_type == "Pad":
            continue
        for value in (name for name in node.output if name in floats):
            # Reduced at once, so that no activation outlives its use.
            for operator in ("ReduceMin", "ReduceMax"):
                name = f"{operator}_{len(names)}"
                probe.graph.node.append(onnx.helper.make_node(operator, [value], [name], keepdims=0))
                probe.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, []))
            names.append(value)
    return reference_session(probe.SerializeToString(), in_order=True), names
