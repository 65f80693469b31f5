"""A model file for any number of frames, made of one for a single frame, and the check that it computes the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from p3m_edge.errors import GateError, needing
from p3m_edge.manifest import Manifest
from p3m_edge.runtimes import golden
from p3m_edge.runtimes.contract import Images, Outputs, import_package, unreadable

if TYPE_CHECKING:
    from openvino import Model

FRAMES = 4
"""In the batch that is checked: the golden pictures, and their mirror images."""
Network = Callable[[Images], Outputs]


@dataclass(frozen=True)
class Agreement:
    """What the check of a freed file found.

    ``frames`` went through together; ``difference`` is the largest of their alphas from those of single runs (0..1).
    """

    frames: int
    difference: float


def free(manifest: Manifest, artefact: Path, model: Path, most: int) -> Agreement:
    """Write the artefact's model with a free first dimension into ``model``, and check that file.

    Parameters
    ----------
    manifest, artefact
        Of ONNX Runtime or OpenVINO, for one frame at a time.
    model
        The new file; OpenVINO's weights come beside it.
    most
        The most frames in a batch, 2 or more.

    Raises
    ------
    GateError
        The graph has the number of frames elsewhere, too, or the check failed.
    ArtefactError
        Golden vectors or the model file cannot be read.
    MissingError
        The engine is not installed; for ONNX also the package ``onnx``.
    """
    source = artefact / manifest.model_file
    try:
        if manifest.engine.name == "onnxruntime":
            _free_onnx(source, model)
        else:
            _free_openvino(import_package("openvino", "openvino"), manifest, source, model, most)
        return check(manifest, artefact, model, min(FRAMES, most))
    except RuntimeError as error:  # of OpenVINO; those of ONNX Runtime are made such
        raise GateError(f"the graph is for one frame: {' '.join(str(error).split())[:200]}") from error


def check(manifest: Manifest, artefact: Path, model: Path, together: int = 1) -> Agreement:
    """Hold golden vectors, and a batch of different frames against single ones, against the artefact's limits.

    Errors are those of :func:`free`; ``RuntimeError``: the engine cannot load or run the file.
    """
    network = (_onnxruntime if manifest.engine.name == "onnxruntime" else _openvino)(manifest, model)
    limits = golden.limits_of(manifest)
    vectors = golden.read(artefact, manifest)
    alike = [vector for vector in vectors if vector.image.shape == vectors[0].image.shape]
    frames = [vector.image for vector in alike]
    frames += [np.ascontiguousarray(frame[:, :, ::-1]) for frame in frames]
    alone = [network(frame) for frame in frames[: max(together, len(alike))]]
    pairs = [(f"golden {index}", vector.outputs, alone[index]) for index, vector in enumerate(alike)]
    if together > 1:
        batch = network(np.concatenate(frames[:together]))
        if (found := {len(values) for values in batch.values()}) != {together}:
            raise GateError(f"a batch of {together} frames gives {sorted(found)} mattes")
        for index, single in enumerate(alone[:together]):
            mine = {name: values[index : index + 1] for name, values in batch.items()}
            pairs.append((f"frame {index + 1} of a batch", single, mine))
    items = tuple(golden.compare(*pair, limits.pixel_tolerance) for pair in pairs)
    verdict = golden.judge(items, limits)
    if not verdict.passed:
        raise GateError(verdict.failures[0])
    return Agreement(together, max((item.alpha_max for item in items[len(alike) :]), default=0.0))


def _free_onnx(source: Path, model: Path) -> None:
    with needing("torch"):
        import onnx
        from onnx import helper, numpy_helper
    try:
        network = onnx.load(source)
    except Exception as error:  # protobuf's, of which there are two kinds
        raise unreadable(source, "onnx", error) from error
    graph = network.graph
    del graph.value_info[:]  # shapes for one frame
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    constants = {constant.name: constant for constant in graph.initializer}
    for node in graph.node:
        sized = node.op_type == "Resize" and len(node.input) == 4 and node.input[3] in constants
        if sized and not any(attribute.name == "axes" for attribute in node.attribute):
            sides = numpy_helper.to_array(constants[node.input[3]])[2:]
            node.input[3] = f"{node.name}.sides"
            graph.initializer.append(numpy_helper.from_array(sides.copy(), node.input[3]))
            node.attribute.append(helper.make_attribute("axes", [2, 3]))
        elif node.op_type == "Reshape" and node.input[1] in constants:
            shape = numpy_helper.to_array(constants[node.input[1]]).copy()
            if -1 not in shape:
                shape[0] = -1  # the batch, or windows of it
                node.input[1] = f"{node.name}.shape"
                graph.initializer.append(numpy_helper.from_array(shape, node.input[1]))
    onnx.save(network, model)


def _free_openvino(engine: Any, manifest: Manifest, source: Path, model: Path, most: int) -> None:
    from openvino import opset13

    network: Model = engine.Core().read_model(source)
    for node in network.get_ops():
        attributes = node.get_attributes()
        sized = attributes.get("shape_calculation_mode") == "sizes"
        if sized and node.get_input_size() == 2:  # without axes: of all four dimensions
            sides = opset13.constant(node.input_value(1).get_node().data[2:])
            kept = {name: value for name, value in attributes.items() if not name.startswith("pads_")}
            free = opset13.interpolate(node.input_value(0), sides, axes=opset13.constant(np.array([2, 3])), **kept)
            node.output(0).replace(free.output(0))
        elif node.get_type_name() == "Reshape" and node.input_value(1).get_node().get_type_name() == "Constant":
            shape = node.input_value(1).get_node().data.copy()
            if -1 not in shape:
                shape[0] = -1  # the batch, or windows of it
                node.input(1).replace_source_output(opset13.constant(shape).output(0))
    frame = manifest.input
    sizes = [engine.Dimension(1, most), frame.height or -1, frame.width or -1, 3]
    network.reshape({frame.name: engine.PartialShape(sizes)})
    engine.save_model(network, model, compress_to_fp16=False)  # what is in half precision stays so


def _onnxruntime(manifest: Manifest, model: Path) -> Network:
    engine = import_package("onnxruntime", "onnx")
    settings = engine.SessionOptions()
    settings.log_severity_level = 4  # what it has to say is in the exception
    names = [output.name for output in manifest.outputs]
    try:
        session = engine.InferenceSession(str(model), settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        raise RuntimeError(error) from error

    def run(images: Images) -> Outputs:
        try:
            return dict(zip(names, session.run(names, {manifest.input.name: images}), strict=True))
        except Exception as error:
            raise RuntimeError(error) from error

    return run


def _openvino(manifest: Manifest, model: Path) -> Network:
    compiled = import_package("openvino", "openvino").compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(images: Images) -> Outputs:
        found = compiled(images)
        return {output.name: found[output.name].copy() for output in manifest.outputs}

    return run
