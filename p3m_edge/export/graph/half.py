"""Half precision in an ONNX graph: what may overflow stays in float32, found by running the float32 network.

ONNX Runtime's CPU provider hides overflow, because it computes half-precision nodes in float32; so the activations of
the float32 network are measured, not those of the converted one.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from p3m_edge.export.graph.ranges import Range, activation_ranges
from p3m_edge.export.graph.tracing import copied
from p3m_edge.runtimes.engines import onnxruntime as onnxrt

FP16_MAX = float(np.finfo(np.float16).max)
HEADROOM = 4.0
"""Activations must stay this factor below the largest half-precision number."""
_ROUNDING = 2.0**-11
"""What rounding to half precision costs at most, as a share: half a step, of 1024 between two powers of two. More than
that is lost only where numbers overflow, or fall below the smallest normal one and have fewer digits."""
_SCALE_ROUNDING = 2.0**-9
"""Of a scale: the largest of 127 steps then moves by a quarter of a step, less than what quantising costs."""
FAINT = 254 * 2.0**-24
"""Channels whose weights are all smaller become zeros in 8 bits: half precision has no scale to divide them by.

ImageNet's EfficientNet has such channels: their weights decayed in training, and their bias is all that they give."""
_QUANTISED_HALF = 19, 9  # the oldest opset whose Q and DQ take half precision, and its IR version
_VANISHING = 2.0**-25  # and what is smaller is nearer to zero than to the smallest number of half precision

# Sums over many elements and exponentials: rounding or overflow inside them does not show in what they give out.
KEEP_OPERATORS = ("LayerNormalization", "ReduceMean", "ReduceSum", "Exp", "Pow", "Sqrt", "Reciprocal", "Div", "Softmax")
# What sees the picture stays in float32, and so does what magnifies its rounding most: in the mobile network the first
# depthwise convolution, whose weights are large and of both signs; in the others the comparisons of the first pooling,
# whose winners place single pixels and are nearly tied in flat areas.
STEMS = (
    "network.stem/", "network.stem.", "network.encoder.stem.",
    "network.encoder.detail.", "network.encoder.layer1.0.depthwise.",
)  # fmt: skip
_DECIDING = frozenset({"Pad", "Max", "Greater"})


def to_half(model: onnx.ModelProto, images: Sequence[NDArray[np.uint8]]) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """Convert a float32 model to half precision, inputs and outputs excepted; what may overflow stays in float32.

    The images are those of :func:`~p3m_edge.export.graph.ranges.activation_ranges`. Returns the names of the nodes that
    stay in float32, too.
    """
    kept = staying(model, activation_ranges(model, images))
    return half_but(model, kept), kept


def staying(model: onnx.ModelProto, ranges: Mapping[str, Range]) -> tuple[str, ...]:
    """The names of the nodes of a float32 ONNX model that must stay in float32.

    The model has its shapes and types; an activation that has no range counts as safe.
    """
    risky = {name for name, found in ranges.items() if not found.magnitude <= FP16_MAX / HEADROOM}
    risky.update(tensor.name for tensor, values in _floats(model) if not survives(values))
    deciding = _deciding_nodes(model)
    return tuple(
        node.name
        for node in model.graph.node
        if node.op_type in KEEP_OPERATORS or node.name in deciding or risky.intersection([*node.input, *node.output])
    )


def survives(values: NDArray[np.float32]) -> bool:
    """Whether constants lose no more by rounding to half precision than a normal number may, taken together.

    Infinities stay what they are, and so count for nothing.
    """
    finite = values[np.isfinite(values)].astype(np.float64)
    with np.errstate(over="ignore"):
        lost = finite.astype(np.float16) - finite
    return bool(np.linalg.norm(lost) <= _ROUNDING * np.linalg.norm(finite))


def half_but(model: onnx.ModelProto, kept: Collection[str]) -> onnx.ModelProto:
    """Convert a float32 ONNX model to half precision, inputs, outputs and the nodes of these names excepted."""
    return _join_islands(_converted(model, kept))


def half_quantised(model: onnx.ModelProto, kept: Collection[str]) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """Convert what is in floating point in a graph with Q/DQ nodes, the nodes of these names excepted.

    Q has the type of what is before it, and DQ that of what is behind it: a cast between a DQ and the convolution that
    takes it would keep an engine from computing in 8 bits. Where a scale is too small for half precision, the node that
    takes the result stays in float32 too; it computes in 8 bits all the same. The names of these nodes are returned.
    """
    copy = copied(model)
    copy.opset_import[0].version, copy.ir_version = _QUANTISED_HALF
    del copy.graph.value_info[:]  # of constants too, which would be cast
    nodes = list(copy.graph.node)
    scales = {node.input[1] for node in nodes if node.op_type in ("QuantizeLinear", "DequantizeLinear")}
    coarse = {tensor.name for tensor, values in _floats(copy) if tensor.name in scales and not _holds_scales(values)}
    single = set(kept)
    for node in nodes:
        if node.op_type == "DequantizeLinear" and node.input[1] in coarse:
            single.update(user.name for user in nodes if node.output[0] in user.input)
    makers = {name: node.name for node in nodes for name in node.output}
    for node in nodes:
        if node.op_type == "QuantizeLinear" and (makers.get(node.input[0]) in single or node.input[1] in coarse):
            single.add(node.name)
        if node.op_type == "DequantizeLinear":
            users = [user for user in nodes if node.output[0] in user.input]
            exact = [user for user in users if user.name in single]
            if exact and len(exact) < len(users):  # then there is one of each type
                node = _twin(copy, node, exact)
            if exact:
                single.add(node.name)
    ordered = ir.from_proto(copy)  # twins stand at the end, and types are only found for what comes after its makers
    ordered.graph.sort()
    copy = ir.to_proto(ordered)
    return half_but(copy, single), tuple(node.name for node in copy.graph.node if node.name in single)


def _holds_scales(values: NDArray[np.float32]) -> bool:
    """Whether scales keep their values in half precision so far that no number moves by much of a step."""
    with np.errstate(over="ignore"):
        return bool(np.all(np.abs(values.astype(np.float16) - values) <= _SCALE_ROUNDING * values))


def _twin(model: onnx.ModelProto, node: onnx.NodeProto, users: Sequence[onnx.NodeProto]) -> onnx.NodeProto:
    """Another node like this one, in the same graph, for these users of its result."""
    twin: onnx.NodeProto = model.graph.node.add()
    twin.CopyFrom(node)
    twin.name, twin.output[0] = f"{node.name}_single", f"{node.output[0]}_single"
    for user in users:
        user.input[:] = [twin.output[0] if name == node.output[0] else name for name in user.input]
    return twin


def weights_in_half(model: onnx.ModelProto, kept: Collection[str]) -> onnx.ModelProto:
    """Store the constants of a float32 ONNX model in half precision, but for those that the nodes of these names take.

    All is computed in float32 still: a cast follows each of them.
    """
    copy = copied(model)
    # What a Resize takes besides the picture must be a constant itself.
    exact = {name for node in copy.graph.node if node.name in kept or node.op_type == "Resize" for name in node.input}
    casts = []
    for tensor, values in list(_floats(copy)):
        if tensor.name in exact:
            continue
        stored = f"{tensor.name}_half"
        casts.append(onnx.helper.make_node("Cast", [stored], [tensor.name], stored, to=onnx.TensorProto.FLOAT))
        tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), stored))
    nodes = list(copy.graph.node)
    del copy.graph.node[:]
    copy.graph.node.extend([*casts, *nodes])
    return copy


def _floats(model: onnx.ModelProto) -> Iterator[tuple[onnx.TensorProto, NDArray[np.float32]]]:
    """The float32 constants of a model, with their values."""
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            yield tensor, onnx.numpy_helper.to_array(tensor)


def _converted(model: onnx.ModelProto, kept: Collection[str]) -> onnx.ModelProto:
    """ONNX Runtime's conversion; the nodes that are kept get a cast before and behind them."""
    onnxrt.require()
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with warnings.catch_warnings():
        # The converter's own words for weights below the smallest half-precision number.
        warnings.filterwarnings("ignore", module=r"onnxruntime\.transformers\.float16")
        converted: onnx.ModelProto = convert_float_to_float16(
            _without_vanishing(model, kept), keep_io_types=True, op_block_list=[], node_block_list=list(kept)
        )
    return converted


def _without_vanishing(model: onnx.ModelProto, kept: Collection[str]) -> onnx.ModelProto:
    """A copy whose constants in half precision are zero where they round to it: the converter would raise them."""
    copy = copied(model)
    half = {name for node in copy.graph.node if node.name not in kept for name in node.input}
    for tensor, values in _floats(copy):
        vanishing = (np.abs(values) <= _VANISHING) & (values != 0)
        if tensor.name in half and vanishing.any():
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.where(vanishing, np.float32(0), values), tensor.name))
    return copy


def _deciding_nodes(model: onnx.ModelProto) -> set[str]:
    """The stem, what comes before it, and the pooling behind it, if its winners are used."""
    nodes = list(model.graph.node)
    stem = [node for node in nodes if node.name.startswith(STEMS)]
    found = {node.name for node in stem}
    reached = {name for node in stem for name in node.output}
    for node in nodes:  # in topological order
        decides = node.op_type in _DECIDING or (node.op_type == "MaxPool" and len(node.output) == 2)
        if decides and reached.intersection(node.input):
            found.add(node.name)
            reached.update(node.output)
    wanted = {name for node in stem for name in node.input}
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            found.add(node.name)
            wanted.update(node.input)
    return found


def _join_islands(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove the rounding between two nodes that both stay in float32, and sort the nodes.

    The converter casts each node that it leaves alone by itself: between two of them, to half precision and back, where
    the value would be rounded or overflow after all.
    """
    from onnx_ir.passes import common
    from onnxscript import optimizer

    def casts(to: int) -> list[onnx.NodeProto]:
        return [n for n in model.graph.node if n.op_type == "Cast" and onnx.helper.get_node_attr_value(n, "to") == to]

    outputs = {output.name for output in model.graph.output}  # their names stay, and so do their casts
    single = {node.output[0]: node.input[0] for node in casts(onnx.TensorProto.FLOAT16)}
    joined = {
        node.output[0]: single[node.input[0]]
        for node in casts(onnx.TensorProto.FLOAT)
        if node.input[0] in single and node.output[0] not in outputs
    }
    for node in model.graph.node:
        node.input[:] = [joined.get(name, name) for name in node.input]
    tidy = ir.from_proto(model)
    optimizer.fold_constants(tidy)  # casts of scalars that are used on both sides: of weights there are none
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(tidy)
    tidy.graph.sort()
    common.RemoveUnusedNodesPass()(tidy)
    joined_up: onnx.ModelProto = ir.to_proto(tidy)
    return joined_up
