"""INT8 in ONNX: explicit quantise and dequantise nodes round the convolutions, from one table of calibration ranges.

Two forms (``--qdq``). ``u8s8``: unsigned activations with a zero point, signed weights per channel, for x86 processors,
where ONNX Runtime is hardly faster than float32 with signed activations. ``s8s8``: signed and symmetric throughout,
biases in float32, as TensorRT's parser wants it; no speed on a processor is promised.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from p3m_edge import __version__
from p3m_edge.errors import missing_package
from p3m_edge.export import graph
from p3m_edge.export.accuracy import Run
from p3m_edge.export.ladder import Rung
from p3m_edge.export.ranges import Range
from p3m_edge.export.workbench import Built
from p3m_edge.runtimes.engines import onnxruntime as onnxrt
from p3m_edge.targets import Target

Form = Literal["u8s8", "s8s8"]
OPERATORS = ("Conv", "MatMul", "Gemm")
"""What is quantised. What stands between (additions, resizing, comparisons of pooling winners) stays in float32."""
_DEPTH = 3  # of module names: network.encoder.layer1


Write = Callable[[Any, Sequence[str], Path], Built]
"""Writes a quantised graph into a folder; the nodes of these names were not quantised."""


def rungs(
    model: Any, ranges: Mapping[str, Range], form: Form, write: Write, *, inputs_alone: bool = False
) -> tuple[Rung, ...]:
    """The ways to quantise a float32 graph, the preferred one first.

    Parameters
    ----------
    model
        An ``onnx.ModelProto``; it is not changed.
    ranges
        Of all its activations (:func:`p3m_edge.export.ranges.activation_ranges`).
    form
        ``u8s8`` or ``s8s8``.
    write
        Writes the file.
    inputs_alone
        As of :func:`quantised`.
    """
    parts = parts_of(model)

    def rung(name: str, what: str, **options: bool) -> Rung:
        def build(folder: Path, kept: Sequence[str]) -> Built:
            nodes = tuple(node for part in kept for node in parts[part])
            return write(quantised(model, ranges, form, nodes, inputs_alone=inputs_alone, **options), nodes, folder)

        return Rung(name, what, build)

    found = (
        rung("default", f"{form}, weights per channel, ranges averaged over the pictures"),
        rung("widest ranges", f"{form}, weights per channel, the widest ranges of all pictures", widest=True),
    )
    if inputs_alone:  # no products in 16 bits, as of older processors
        return found
    return *found, rung("7-bit weights", f"{form}, weights of 7 bits: no product saturates", seven_bits=True)


def write(target: Target) -> Write:
    """How the file of an ONNX target is written."""

    def save(model: Any, nodes: Sequence[str], folder: Path) -> Built:
        graph.save(model, folder / target.model_file)
        return Built(minimum_version=graph.MINIMUM_ONNXRUNTIME, fp32_nodes=tuple(nodes))

    return save


def quantised(
    model: Any,
    ranges: Mapping[str, Range],
    form: Form,
    kept: Sequence[str] = (),
    *,
    widest: bool = False,
    seven_bits: bool = False,
    inputs_alone: bool = False,
) -> Any:
    """A quantised copy of a float32 graph.

    Parameters
    ----------
    model, ranges, form
        As of :func:`rungs`.
    kept
        Names of nodes that stay in float32.
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
        ONNX Runtime's quantisation tools cannot be imported.
    """
    import onnx

    onnxrt.require()
    try:
        from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType, TensorsData
    except ImportError as error:
        raise missing_package("onnxruntime", "torch", error) from error
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    table = {
        name: tuple(np.array([side], np.float32) for side in (found[:2] if widest else found[2:]))
        for name, found in ranges.items()
    }
    symmetric = form == "s8s8"
    options: dict[str, Any] = {"ActivationSymmetric": symmetric, "WeightSymmetric": True}
    if symmetric:
        options["QuantizeBias"] = False
    if inputs_alone:
        options["OpTypesToExcludeOutputQuantization"] = list(OPERATORS)
    activations = QuantType.QInt8 if symmetric else QuantType.QUInt8
    with _calm():
        quantizer = QDQQuantizer(
            copy, True, seven_bits, QuantType.QInt8, activations, TensorsData(CalibrationMethod.MinMax, table),
            [], list(kept), list(OPERATORS), options,
        )  # fmt: skip
        quantizer.quantize_model()
    return _finish(quantizer.model.model)


def judge(model: Path | bytes) -> Run:
    """A file, or a graph, in ONNX Runtime with basic optimisation: exact 8-bit products on every processor.

    At full optimisation, processors with AVX2 and without VNNI add 8-bit products in 16 bits, which saturate.
    """
    onnxruntime = onnxrt.require()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    entry, names = session.get_inputs()[0].name, [output.name for output in session.get_outputs()]
    return lambda images: dict(zip(names, session.run(names, {entry: images}), strict=True))


def parts_of(model: Any) -> dict[str, tuple[str, ...]]:
    """The weighted nodes of each part of a network, by the part's name, in the graph's order.

    A part is what stands together in the network: a layer of the encoder, a stage or module of a decoder.
    """
    found: dict[str, list[str]] = {}
    for node in model.graph.node:
        if node.op_type in OPERATORS:
            found.setdefault(part_name(node.name), []).append(node.name)
    return {name: tuple(nodes) for name, nodes in found.items()}


def depthwise(model: Any) -> tuple[str, ...]:
    """The names of the convolutions in groups."""
    return tuple(
        node.name
        for node in model.graph.node
        if node.op_type == "Conv" and any(each.name == "group" and each.i > 1 for each in node.attribute)
    )


def part_name(node: str) -> str:
    """The part that a node belongs to."""
    return ".".join(node.partition("/")[0].split(".")[:_DEPTH])


def _finish(model: Any) -> Any:
    """Nodes in the order of their data, shapes for all values, and nothing of the tool that made it."""
    import onnx
    import onnx_ir as ir

    ordered = ir.from_proto(model)
    ordered.graph.sort()
    model = ir.to_proto(ordered)
    model.producer_name, model.producer_version = "p3m-edge", __version__
    model.ir_version = graph.IR_VERSION
    del model.metadata_props[:]
    return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)


@contextmanager
def _calm() -> Iterator[None]:
    """Keep the tool's advice to its own command line off the screen: it goes to the root logger."""
    logger = logging.getLogger()
    logger.addFilter(_is_error)
    try:
        yield
    finally:
        logger.removeFilter(_is_error)


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR
