"""Artefacts whose graphs have the number of frames in them, beside those of ``tests.artefacts``."""

from typing import Any

import numpy as np


def resized(model: Any) -> None:
    """Put a Resize to four constant sizes, the batch among them, behind the stem: it changes nothing."""
    from onnx import helper, numpy_helper

    shape = [1, 8, *(side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim[1:3])]
    model.graph.initializer.append(numpy_helper.from_array(np.array(shape, np.int64), "sizes"))
    _insert(model, helper.make_node("Resize", ["features", "", "", "sizes"], ["after"], "resize", mode="linear"))


def reshaped(model: Any) -> None:
    """Put a Reshape to one frame behind the stem, which no other number of frames can pass."""
    from onnx import helper, numpy_helper

    shape = [1, 8, *(side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim[1:3])]
    model.graph.initializer.append(numpy_helper.from_array(np.array(shape, np.int64), "shape"))
    _insert(model, helper.make_node("Reshape", ["features", "shape"], ["after"]))


def mixed(model: Any) -> None:
    """Put the frames' mean in the place of each: nothing for one frame, and wrong for several."""
    from onnx import helper, numpy_helper

    model.graph.initializer.append(numpy_helper.from_array(np.array([0], np.int64), "first"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(0, np.float32), "nought"))
    _insert(
        model,
        helper.make_node("ReduceMean", ["features", "first"], ["mean_frame"], keepdims=1),
        helper.make_node("Mul", ["features", "nought"], ["nothing"]),
        helper.make_node("Add", ["nothing", "mean_frame"], ["after"]),
    )


def averaged(model: Any) -> None:
    """Let the frames' mean alone go on: one matte, whatever the number of frames."""
    from onnx import helper, numpy_helper

    model.graph.initializer.append(numpy_helper.from_array(np.array([0], np.int64), "first"))
    _insert(model, helper.make_node("ReduceMean", ["features", "first"], ["after"], keepdims=1))


def _insert(model: Any, *nodes: Any) -> None:
    """Nodes behind the stem, of which the last gives ``after``."""
    kept = list(model.graph.node)
    place = next(index for index, node in enumerate(kept) if "features" in node.output) + 1
    for node in kept[place:]:
        node.input[:] = ["after" if name == "features" else name for name in node.input]
    del model.graph.node[:]
    model.graph.node.extend([*kept[:place], *nodes, *kept[place:]])
