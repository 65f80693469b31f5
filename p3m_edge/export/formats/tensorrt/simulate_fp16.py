"""A typed ONNX graph, computed as a device would: every result is rounded to the type that the graph gives it.

ONNX Runtime's CPU provider computes half precision in float32, and keeps it there from node to node: 70,000 stays
70,000, where a device has infinity. So the graph is rewritten in float32, with each result in half precision cast there
and back, and no optimisation that could take that away. Quantisation is computed as it is written.

What a device does inside of an operator (the order of its sums, the type that it adds up in) and where it fuses several
into one is not known here.
"""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from p3m_edge.export.formats import Headroom
from p3m_edge.export.graph.half import FP16_MAX
from p3m_edge.export.graph.reference import reference_session
from p3m_edge.manifest import TYPED, Manifest
from p3m_edge.runtimes.contract import EngineInfo, Images, Loaded, Outputs, unreadable
from p3m_edge.runtimes.engine import Engine
from p3m_edge.runtimes.engines import onnxruntime as onnxrt

NAME = "typed graph"
# What these give is there already in what they take: rounding it again changes nothing.
_MOVING = frozenset({
    "Clip", "Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "Identity", "Max", "MaxPool", "Min", "Neg", "Pad",
    "Relu", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze", "Where",
})  # fmt: skip


def simulate(manifest: Manifest, folder: Path, headroom: Headroom | None = None) -> Engine:
    """A TensorRT artefact without TensorRT: its typed graph.

    ``headroom`` is told of each result in half precision before it is rounded, which takes time.

    Raises
    ------
    MissingError, ArtefactError
        ONNX Runtime is absent; the file is damaged, or is not what the manifest says.
    """
    model, package = folder / TYPED, onnxrt.require()
    try:
        graph, rounded = simulation(onnx.load(model), probed=headroom is not None)
        # An optimiser would take a cast to half precision and back for noise.
        session = reference_session(graph.SerializeToString(), optimised=False, in_order=True)
    except Exception as error:  # protobuf's, onnx' and ONNX Runtime's have no common base
        raise unreadable(model, "onnx", error) from error
    onnxrt.check_session(session, manifest, model)
    name = manifest.input.name
    probes = [f"{end}/{value}" for value in rounded for end in ("lowest", "highest")] if headroom is not None else []

    def run(images: Images, outputs: tuple[str, ...]) -> Outputs:
        values = session.run([*outputs, *probes], {name: images})
        if headroom is not None:
            largest = np.abs(np.reshape(values[len(outputs) :], (-1, 2))).max(axis=1)
            for value, at in zip(largest.tolist(), rounded.values(), strict=True):
                if value != 0:
                    headroom.note(FP16_MAX / value, at)
                if not value <= FP16_MAX:
                    break  # what comes behind is infinite for that reason
        return dict(zip(outputs, values, strict=False))

    processor = platform.processor() or platform.machine()
    info = EngineInfo(NAME, package.__version__, "typed", processor, "graph", "latency", None, 1, "none")
    return Engine(manifest, Loaded(info, (run,)))


def simulation(model: onnx.ModelProto, *, probed: bool = False) -> tuple[onnx.ModelProto, dict[str, str]]:
    """A graph in float32 that gives what a typed graph, of float32 and half precision, gives with results rounded.

    It comes with the nodes that give the results that are rounded, by the name of the result. ``probed`` adds two
    outputs for each of these, its smallest and largest value before: ``lowest/<value>`` and ``highest/<value>``.
    """
    half, single = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    copy = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    graph = copy.graph
    halves = {entry.name for entry in graph.value_info if entry.type.tensor_type.elem_type == half}
    for tensor in graph.initializer:
        if tensor.data_type == half:
            tensor.CopyFrom(onnx.numpy_helper.from_array(_widened(tensor), tensor.name))
    nodes = list(graph.node)
    del graph.node[:], graph.value_info[:]
    rounded: dict[str, str] = {}
    for node in nodes:
        results = [] if node.op_type in _MOVING else [name for name in node.output if name in halves]
        if node.op_type == "Cast":
            to = next(attribute for attribute in node.attribute if attribute.name == "to")
            to.i = single if to.i == half else to.i
        for attribute in node.attribute:
            if attribute.t.data_type == half:
                attribute.t.CopyFrom(onnx.numpy_helper.from_array(_widened(attribute.t), attribute.t.name))
        node.output[:] = [f"exact/{name}" if name in results else name for name in node.output]
        graph.node.append(node)
        for name in results:
            rounded[name] = node.name
            exact, low = f"exact/{name}", f"half/{name}"
            graph.node.append(onnx.helper.make_node("Cast", [exact], [low], to=half))
            graph.node.append(onnx.helper.make_node("Cast", [low], [name], to=single))
            for end, operator in (("lowest", "ReduceMin"), ("highest", "ReduceMax")) if probed else ():
                graph.node.append(onnx.helper.make_node(operator, [exact], [f"{end}/{name}"], keepdims=0))
                graph.output.append(onnx.helper.make_tensor_value_info(f"{end}/{name}", single, []))
    return copy, rounded


def _widened(tensor: onnx.TensorProto) -> NDArray[np.float32]:
    return onnx.numpy_helper.to_array(tensor).astype(np.float32)
