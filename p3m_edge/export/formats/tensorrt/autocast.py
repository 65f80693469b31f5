"""Half precision as NVIDIA's AutoCast (ModelOpt) chooses it; ModelOpt is no dependency."""

from __future__ import annotations

import importlib
import importlib.util
import tempfile
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from p3m_edge.errors import MissingError, P3MEdgeError
from p3m_edge.export import graph
from p3m_edge.export.quiet import quiet

_MISSING, _PACKAGE = "NVIDIA's AutoCast cannot be imported", 'pip install "nvidia-modelopt[onnx]"'


def check() -> None:
    """Raise :class:`MissingError` where AutoCast is not installed."""
    if not importlib.util.find_spec("modelopt"):
        raise MissingError(_MISSING, hint=_PACKAGE)


def autocast(model: onnx.ModelProto, image: NDArray[np.uint8]) -> onnx.ModelProto:
    """Half precision where AutoCast wants it, by what a float32 network makes of a picture, uint8 ``[N, H, W, 3]``.

    Without a picture it would draw random numbers, of another shape where a size is open.

    Raises
    ------
    MissingError, P3MEdgeError
        ModelOpt cannot be imported; it fails.
    """
    try:
        module = importlib.import_module("modelopt.onnx.autocast")
    except ImportError as error:
        raise MissingError(f"{_MISSING} ({error})", hint=_PACKAGE) from error
    with tempfile.TemporaryDirectory(prefix="p3m-edge-") as temporary:
        path, pictures = Path(temporary) / "model.onnx", Path(temporary) / "pictures.npz"
        graph.save(model, path)
        np.savez(pictures, allow_pickle=False, **{graph.INPUT: image})
        try:
            with quiet():  # it sets up its own loggers, and tells them of each step
                converted: onnx.ModelProto = module.convert_to_mixed_precision(
                    onnx_path=str(path), low_precision_type="fp16", keep_io_types=True, calibration_data=str(pictures)
                )
        except Exception as error:  # ModelOpt's own, ONNX Runtime's, ...
            raise P3MEdgeError(
                f"AutoCast failed: {' '.join(str(error).split())}",
                hint="leave out --fp16-backend: our own analysis needs nothing",
            ) from error
    return converted


def single_nodes(model: onnx.ModelProto) -> tuple[str, ...]:
    """The names of the nodes that compute in float32."""
    typed = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    single = {
        entry.name
        for entry in (*typed.value_info, *typed.output)
        if entry.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    }
    return tuple(n.name for n in typed.node if n.op_type != "Cast" and single.intersection([*n.input, *n.output]))
