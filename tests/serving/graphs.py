"""Artefacts whose graphs have the number of frames in them, beside those of ``tests.artefacts``."""

from typing import Any

import numpy as np


def resized(model: Any) -> None:
    """Put a Resize and a Reshape to constant sizes, the batch among them, behind the stem: they change nothing."""
    from onnx import helper

    _constant(model, "sizes", _shape(model))
    _insert(
        model,
        helper.make_node("Resize", ["features", "", "", "sizes"], ["as_large"], "resize", mode="linear"),
        helper.make_node("Reshape", ["as_large", "sizes"], ["after"], "reshape"),
    )


def joined(model: Any) -> None:
    """Put channels of one frame beside those of the stem, and take them away: no other number of frames can pass."""
    from onnx import helper

    _constant(model, "more", np.zeros(_shape(model), np.float32))
    for name, number in {"from": 0, "to": 8, "axis": 1}.items():
        _constant(model, name, np.array([number], np.int64))
    _insert(
        model,
        helper.make_node("Concat", ["features", "more"], ["wider"], axis=1),
        helper.make_node("Slice", ["wider", "from", "to", "axis"], ["after"]),
    )


def mixed(model: Any) -> None:
    """Put the frames' mean in the place of each: nothing for one frame, and wrong for several."""
    from onnx import helper

    _constant(model, "first", np.array([0], np.int64))
    _constant(model, "nought", np.array(0, np.float32))
    _insert(
        model,
        helper.make_node("ReduceMean", ["features", "first"], ["mean_frame"], keepdims=1),
        helper.make_node("Mul", ["features", "nought"], ["nothing"]),
        helper.make_node("Add", ["nothing", "mean_frame"], ["after"]),
    )


def averaged(model: Any) -> None:
    """Let the frames' mean alone go on: one matte, whatever the number of frames."""
    from onnx import helper

    _constant(model, "first", np.array([0], np.int64))
    _insert(model, helper.make_node("ReduceMean", ["features", "first"], ["after"], keepdims=1))


def _shape(model: Any) -> Any:
    """Of what the stem gives."""
    return np.array([1, 8, *(side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim[1:3])])


def _constant(model: Any, name: str, value: Any) -> None:
    from onnx import numpy_helper

    model.graph.initializer.append(numpy_helper.from_array(value, name))


def _insert(model: Any, *nodes: Any) -> None:
    """Nodes behind the stem, of which the last gives ``after``."""
    kept = list(model.graph.node)
    place = next(index for index, node in enumerate(kept) if "features" in node.output) + 1
    for node in kept[place:]:
        node.input[:] = ["after" if name == "features" else name for name in node.input]
    del model.graph.node[:]
    model.graph.node.extend([*kept[:place], *nodes, *kept[place:]])
