"""A traced network becomes a Core ML package: coremltools, in a process of its own.

``python -m p3m_edge.export.formats.coreml.mil.convert`` takes an :class:`CoreMlOrder`. coremltools logs on its own,
patches other packages and may take the process down with it; none of that reaches the export.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from p3m_edge import __version__
from p3m_edge.export.formats.coreml.mil.package import require
from p3m_edge.export.quiet import quiet
from p3m_edge.manifest_schema import Form
from p3m_edge.targets import Precision
from p3m_edge.workers.child import serve

SMALL = 512
"""Tensors of fewer weights are not compressed."""
_DEBUG = "executorch_debug_handle_mapping.json"  # as large as the graph, of use to ExecuTorch alone


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


def convert(order: CoreMlOrder) -> None:
    """Write the package; raises whatever coremltools and PyTorch raise."""
    ct = require()
    out = Path(order.out)
    with quiet(stderr=True), tempfile.TemporaryDirectory(dir=out.parent, prefix=".parts-") as temporary:
        model = _merged(ct, order, Path(temporary)) if order.names else _function(ct, order, order.parts[0])
        save(ct, model, out)


def _function(ct: Any, order: CoreMlOrder, part: CoreMlFunction) -> Any:
    """A model with one function."""
    import torch

    model = ct.convert(
        torch.export.load(part.source),
        inputs=[ct.ImageType("image", (1, 3, part.height, part.width), color_layout=ct.colorlayout.RGB)],
        outputs=[_output(ct, name, order) for name in order.outputs],
        states=_states(ct, order, part),
        compute_precision=_precision(ct, order.precision, part),
        minimum_deployment_target=getattr(ct.target, f"iOS{order.minimum}"),
        convert_to="mlprogram", skip_model_load=True,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # a range of zero, a sum that overflows: weights are lost
        return _compressed(ct, model, order.precision)


def _merged(ct: Any, order: CoreMlOrder, place: Path) -> Any:
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


def save(ct: Any, model: Any, out: Path) -> None:
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


def _precision(ct: Any, precision: Precision, part: CoreMlFunction) -> Any:
    if precision == "fp32":
        return ct.precision.FLOAT32
    kept = set(part.fp32)
    return ct.transform.FP16ComputePrecision(op_selector=lambda operation: operation.name not in kept)


def _output(ct: Any, name: str, order: CoreMlOrder) -> Any:
    if name == "alpha" and order.alpha == "image":
        return ct.ImageType(name, color_layout=ct.colorlayout.GRAYSCALE_FLOAT16)
    return ct.TensorType(name)


def _states(ct: Any, order: CoreMlOrder, part: CoreMlFunction) -> list[Any] | None:
    if order.state is None:
        return None
    values = ct.TensorType(shape=(1, 1, part.height, part.width), dtype=np.float16)  # Core ML has no other states
    return [ct.StateType(values, order.state)]


_BITS: dict[str, tuple[Literal["quantise", "palettise"], int]] = {
    "int8": ("quantise", 8), "pal6": ("palettise", 6), "pal4": ("palettise", 4),
}  # fmt: skip


def _compressed(ct: Any, model: Any, precision: Precision) -> Any:
    """The model with its weights in fewer bits; everything is computed in half precision all the same."""
    if precision not in _BITS:
        return model
    how, bits = _BITS[precision]
    if how == "quantise":
        return quantise_weights(ct, model)
    coreml = ct.optimize.coreml
    config = coreml.OptimizationConfig(coreml.OpPalettizerConfig(mode="kmeans", nbits=bits, weight_threshold=SMALL))
    return coreml.palettize_weights(model, config)


def quantise_weights(ct: Any, model: Any, kept: Collection[str] = ()) -> Any:
    """The model with 8-bit weights, symmetric, a scale for each channel; operations that are named keep theirs.

    Other constants stay as they are: a channel of zeros, as attention's masks have them, has no scale.
    """
    coreml = ct.optimize.coreml
    weights = coreml.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=SMALL)
    config = coreml.OptimizationConfig(
        op_type_configs=dict.fromkeys(("conv", "linear"), weights), op_name_configs=dict.fromkeys(kept)
    )
    return coreml.linear_quantize_weights(model, config)


def share_constants(block: Any) -> None:
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


if __name__ == "__main__":
    sys.exit(serve({"convert": convert}))
