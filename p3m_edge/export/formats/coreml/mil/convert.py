"""The worker that writes Core ML packages by coremltools: of a traced network, or in 8 bits of one in half precision.

``python -m p3m_edge.export.formats.coreml.mil.convert`` takes a :class:`CoreMlOrder` or an :class:`ActivationOrder`.
coremltools logs on its own, patches other packages and may take the process down with it; none of that reaches the
export.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from p3m_edge import __version__
from p3m_edge.arrays import Array
from p3m_edge.export.formats.coreml.mil.package import Specification, require
from p3m_edge.export.graph.half import FAINT
from p3m_edge.export.quiet import quiet
from p3m_edge.manifest_schema import Form
from p3m_edge.targets import Precision
from p3m_edge.workers.child import serve

SMALL = 512
"""Tensors of fewer weights are not compressed."""
_DEBUG = "executorch_debug_handle_mapping.json"  # as large as the graph, of use to ExecuTorch alone
_PALETTES: dict[Precision, int] = {"pal6": 6, "pal4": 4}
_LEAST = 1e-3
"""Ranges are at least this wide: the scale is a number in half precision, and one of zero divides by zero."""
Model = Any
"""coremltools' ``MLModel``; it has no types."""


@dataclass(frozen=True)
class CoreMlFunction:
    """A function of the package: a file of ``torch.export.save``, the size of its image, and what stays in float32."""

    source: str
    height: int
    width: int
    fp32: tuple[str, ...] = ()


@dataclass(frozen=True)
class CoreMlOrder:
    """What to convert, and into which package.

    Attributes
    ----------
    parts, names
        What the package can do: one function, or several with names that share their weights, the default one first.
    outputs
        Names of the outputs, alpha first.
    minimum
        The oldest iOS that must run it.
    state
        The buffer, of alpha's shape, that becomes a state.
    """

    parts: tuple[CoreMlFunction, ...]
    names: tuple[str, ...]
    out: str
    outputs: tuple[str, ...]
    precision: Precision
    minimum: int
    alpha: Form
    state: str | None = None


@dataclass(frozen=True)
class ActivationOrder:
    """What to bring to 8 bits, weights and activations.

    Attributes
    ----------
    source, out
        A package in half precision of iOS 17 or later, and the package to write.
    ranges
        The smallest and the largest value of every activation, by name.
    kept
        Nodes of the traced network whose operations stay as they are, with their weights.
    zero_point
        Unsigned activations with a zero point; else signed ones, symmetric around zero.
    """

    source: str
    out: str
    ranges: dict[str, tuple[float, float]]
    kept: tuple[str, ...]
    zero_point: bool


def convert(order: CoreMlOrder) -> None:
    """Write the package; raises whatever coremltools and PyTorch raise."""
    ct = require()
    out = Path(order.out)
    with quiet(stderr=True), tempfile.TemporaryDirectory(dir=out.parent, prefix=".parts-") as temporary:
        model = _merged(ct, order, Path(temporary)) if order.names else _function(ct, order, order.parts[0])
        save(ct, model, out)


def quantise(order: ActivationOrder) -> None:
    """Write the package, with ranges that were measured before; raises whatever coremltools raises."""
    ct = require()
    with quiet(stderr=True), warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # a scale that overflows, or is no number
        coreml = ct.optimize.coreml
        mode, kind = ("linear", "uint8") if order.zero_point else ("linear_symmetric", "int8")
        config = coreml.OpLinearQuantizerConfig(mode=mode, dtype=kind)
        model = ct.models.MLModel(order.source, skip_model_load=True)
        kept = _kept(model.get_spec(), frozenset(order.kept))
        with _ranges(order.ranges):
            model = coreml.linear_quantize_activations(
                model, coreml.OptimizationConfig(config, op_name_configs=dict.fromkeys(kept)), [{}]
            )
        save(ct, _in_8_bits(ct, model, kept), Path(order.out))


def save(ct: ModuleType, model: Model, out: Path) -> None:
    """Write a model as a package: small, and the same from the same input."""
    specification = model.get_spec()
    for function in specification.mlProgram.functions.values():
        for block in function.block_specializations.values():
            share_constants(block)
    for key in list(specification.description.metadata.userDefined):  # the date: the same input, the same file
        del specification.description.metadata.userDefined[key]
    specification.description.metadata.versionString = f"p3m-edge {__version__}"
    slim = ct.models.MLModel(specification, skip_model_load=True, weights_dir=model.weights_dir)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".package-") as temporary:
        path = Path(temporary) / "model.mlpackage"
        slim.save(str(path))
        (path / _DEBUG).unlink(missing_ok=True)
        shutil.move(path, out)


def share_constants(block: Specification) -> None:
    """Let constants that are equal be one: each operation brings its own strides, pads and kinds of padding."""
    first: dict[bytes, str] = {}
    renamed: dict[str, str] = {}
    results = set(block.outputs)
    kept = []
    for operation in block.operations:
        if operation.type == "const" and operation.outputs[0].name not in results:
            output = operation.outputs[0]
            key = output.type.SerializeToString() + operation.attributes["val"].SerializeToString()
            known = first.setdefault(key, output.name)
            if known != output.name:
                renamed[output.name] = known
                continue
        kept.append(operation)
    for operation in kept:
        for binding in operation.inputs.values():
            for argument in binding.arguments:
                if argument.WhichOneof("binding") == "name" and argument.name in renamed:
                    argument.name = renamed[argument.name]
    kept = [type(each).FromString(each.SerializeToString()) for each in kept]
    del block.operations[:]
    block.operations.extend(kept)


def _function(ct: ModuleType, order: CoreMlOrder, part: CoreMlFunction) -> Model:
    """A model with one function."""
    import torch

    image = ct.ImageType("image", (1, 3, part.height, part.width), color_layout=ct.colorlayout.RGB)
    outputs = [ct.TensorType(name) for name in order.outputs]
    if order.alpha == "image":
        outputs[0] = ct.ImageType(order.outputs[0], color_layout=ct.colorlayout.GRAYSCALE_FLOAT16)
    states = None
    if order.state is not None:  # Core ML has none but in half precision
        shape = ct.TensorType(shape=(1, 1, part.height, part.width), dtype=np.float16)
        states = [ct.StateType(shape, order.state)]
    if order.precision == "fp32":
        precision = ct.precision.FLOAT32
    else:
        precision = ct.transform.FP16ComputePrecision(op_selector=lambda operation: operation.name not in part.fp32)
    model = ct.convert(
        torch.export.load(part.source), inputs=[image], outputs=outputs, states=states, compute_precision=precision,
        minimum_deployment_target=getattr(ct.target, f"iOS{order.minimum}"),
        convert_to="mlprogram", skip_model_load=True,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # a range of zero, a sum that overflows: weights are lost
        if order.precision == "int8":
            return _in_8_bits(ct, model)
        if order.precision in _PALETTES:
            coreml, bits = ct.optimize.coreml, _PALETTES[order.precision]
            palettes = coreml.OpPalettizerConfig(mode="kmeans", nbits=bits, weight_threshold=SMALL)
            return coreml.palettize_weights(model, coreml.OptimizationConfig(palettes))
        return model


def _merged(ct: ModuleType, order: CoreMlOrder, place: Path) -> Model:
    """A model with several functions, of which equal weights are stored once."""
    together = ct.utils.MultiFunctionDescriptor()
    for name, part in zip(order.names, order.parts, strict=True):
        path = str(place / f"{name}.mlpackage")
        _function(ct, order, part).save(path)
        together.add_function(path, "main", name)
    together.default_function_name = order.names[0]
    merged = str(place / "merged.mlpackage")
    ct.utils.save_multifunction(together, merged)
    return ct.models.MLModel(merged, skip_model_load=True)


def _in_8_bits(ct: ModuleType, model: Model, kept: Collection[str] = ()) -> Model:
    """The model with 8-bit weights, symmetric, a scale for each channel; operations that are named keep theirs.

    Other constants stay as they are: a channel of zeros, as attention's masks have them, has no scale.
    """
    coreml = ct.optimize.coreml
    weights = coreml.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=SMALL)
    config = coreml.OptimizationConfig(
        op_type_configs=dict.fromkeys(("conv", "linear"), weights), op_name_configs=dict.fromkeys(kept)
    )
    with faint_channels():
        return coreml.linear_quantize_weights(model, config)


@contextmanager
def faint_channels() -> Iterator[None]:
    """Let coremltools give channels of (nearly) zeros a scale of its own, and 8-bit zeros."""
    from coremltools.optimize import _utils

    own = _utils.quantize_weight_by_dtype

    def quantise_weight(
        weight: Array, axes: tuple[int, ...], dtype: object, mode: str
    ) -> tuple[Array, Array, Array | None]:
        faint = np.abs(weight).max(axis=axes, keepdims=True) < FAINT
        quantised, scale, zero_point = own(np.where(faint, weight.dtype.type(1), weight), axes, dtype, mode)
        return np.where(faint, 0, quantised), scale, zero_point

    _utils.quantize_weight_by_dtype = quantise_weight
    try:
        yield
    finally:
        _utils.quantize_weight_by_dtype = own


def _kept(specification: Specification, nodes: frozenset[str]) -> list[str]:
    """The operations that stay as they are, by name.

    Those that were made of nodes: coremltools adds the precision, and a zero to some names. And those that give a
    result of the program: its passes cannot replace them, and logits would be rounded for nothing.
    """
    (function,) = specification.mlProgram.functions.values()
    (block,) = function.block_specializations.values()
    found = []
    for each in block.operations:
        name = each.attributes["name"].immediateValue.tensor.strings.values[0]
        bare = name.partition("_cast_fp")[0]
        if nodes & {bare, bare.removesuffix("_0")} or {output.name for output in each.outputs} & set(block.outputs):
            found.append(name)
    return found


@contextmanager
def _ranges(found: Mapping[str, tuple[float, float]]) -> Iterator[None]:
    """Let coremltools take these ranges for those of its calibration.

    Its own runs the model for each picture, which needs a Mac, and keeps the range of the last one alone (#2704). What
    it makes of the ranges stays its own: what comes together in a ``concat`` gets one range.
    """
    from coremltools.optimize.coreml.experimental._model_debugger import ModelDebugger

    def step(_: object, inputs: object, activation_stats_dict: dict[str, dict[str, float]], **__: object) -> None:
        for name, (low, high) in found.items():
            activation_stats_dict[name] = {"rmin": low, "rmax": max(high, low + _LEAST)}

    own = ModelDebugger.step
    ModelDebugger.step = step
    try:
        yield
    finally:
        ModelDebugger.step = own


if __name__ == "__main__":
    sys.exit(serve({"convert": convert, "quantise": quantise}))
