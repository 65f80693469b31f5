"""An ONNX file with YuNet's inputs and outputs whose "faces" are bright squares: confidence is the brightness."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

STRIDES = (8, 16, 32)


def write(path: Path) -> Path:
    """A cell of a stride is a face of the stride's size, centred on the cell's left upper corner."""
    nodes, outputs = [], []
    constants = [
        numpy_helper.from_array(np.full((1, 3, 1, 1), 1 / (3 * 255), np.float32), "mean"),
        numpy_helper.from_array(np.array([1, -1, 1]), "column"),
        numpy_helper.from_array(np.zeros((1, 1, 4), np.float32), "four"),
        numpy_helper.from_array(np.zeros((1, 1, 10), np.float32), "ten"),
    ]
    nodes.append(helper.make_node("Conv", ["input", "mean"], ["grey"]))
    for stride in STRIDES:
        pooled, score = f"pooled{stride}", f"score{stride}"
        window = [stride, stride]
        nodes.append(helper.make_node("AveragePool", ["grey"], [pooled], kernel_shape=window, strides=window))
        nodes.append(helper.make_node("Reshape", [pooled, "column"], [score]))
        for name in ("cls", "obj"):
            nodes.append(helper.make_node("Identity", [score], [f"{name}_{stride}"]))
        nodes.append(helper.make_node("Mul", [score, "four"], [f"bbox_{stride}"]))
        nodes.append(helper.make_node("Mul", [score, "ten"], [f"kps_{stride}"]))
    for name, channels in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
        for stride in STRIDES:
            outputs.append(helper.make_tensor_value_info(f"{name}_{stride}", TensorProto.FLOAT, [1, None, channels]))
    picture = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, "height", "width"])
    graph = helper.make_graph(nodes, "yunet-like", [picture], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path
