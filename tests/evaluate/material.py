"""Small sets and foreign models to evaluate: portraits whose red channel is their alpha, and a network that knows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from p3m_edge.imageio import write_png


def disc(height: int = 48, width: int = 64, radius: float = 14, soft: float = 8) -> NDArray[np.uint8]:
    """An alpha: a disc with a soft edge."""
    y, x = np.mgrid[:height, :width]
    distance = np.hypot(y - height / 2, x - width / 2)
    return np.asarray(np.rint(np.clip((radius - distance) / soft + 0.5, 0, 1) * 255), dtype=np.uint8)


def portrait(alpha: NDArray[np.uint8], seed: int = 0) -> NDArray[np.uint8]:
    """Red on green where the alpha says so: the red channel is the alpha, the green one its complement."""
    blue = np.random.default_rng(seed).integers(0, 256, alpha.shape, dtype=np.uint8) // 16
    return np.stack([alpha, 255 - alpha, blue], axis=-1)


def make_set(
    folder: Path,
    count: int = 3,
    *,
    trimaps: bool = False,
    faces: bool = False,
    layout: tuple[str, str] = ("image", "alpha"),
) -> Path:
    """Write a set of discs of growing radius; the face, where wanted, is the middle."""
    for number in range(count):
        alpha = disc(radius=10 + 2 * number)
        trimap = np.where(alpha == 255, 255, np.where(alpha == 0, 0, 128)).astype(np.uint8)
        face = np.zeros_like(alpha)
        face[20:28, 28:36] = 255
        pictures = {layout[0]: portrait(alpha, number), layout[1]: alpha}
        if trimaps:
            pictures["trimap"] = trimap
        if faces:
            pictures["facemask"] = face
        for name, array in pictures.items():
            (folder / name).mkdir(parents=True, exist_ok=True)
            write_png(folder / name / f"p{number}.png", array)
    return folder


def make_model(folder: Path, nodes: list[Any], inputs: Mapping[str, tuple[int, list[Any]]], outputs: list[str]) -> Path:
    """Write ``model.onnx``."""
    folder.mkdir(parents=True, exist_ok=True)
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", "c", "oh", "ow"]) for name in outputs],
        [helper.make_tensor(f"i{value}", TensorProto.INT64, [1], [value]) for value in range(5)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    onnx.checker.check_model(model)
    return path


def first_channel(source: str, target: str, axis: int = 1, channel: int = 0) -> Any:
    """A node that takes one channel out of a picture."""
    return helper.make_node("Slice", [source, f"i{channel}", f"i{channel + 1}", f"i{axis}"], [target])


def red_model(folder: Path, text: str = "") -> Path:
    """A model that gives its first channel as the alpha, and its description: right on every :func:`portrait`."""
    make_model(folder, [first_channel("x", "y")], {"x": (TensorProto.FLOAT, [1, 3, "h", "w"])}, ["y"])
    path = folder / "red.toml"
    path.write_text('file = "model.onnx"\n' + text)
    return path
