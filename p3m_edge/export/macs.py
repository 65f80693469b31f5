"""How much a network computes: multiply-accumulate operations of the weighted nodes of a graph."""

from __future__ import annotations

import math
from typing import Any


def macs_of(model: Any, height: int, width: int) -> dict[str, int]:
    """Multiply-accumulate operations of each convolution and matrix product, by the node's name.

    Parameters
    ----------
    model
        An ``onnx.ModelProto``; it is not changed.
    height, width
        Of the picture, where the graph leaves them open. A dimension that stays unknown counts as 1.
    """
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    for value, size in zip(copy.graph.input[0].type.tensor_type.shape.dim[1:3], (height, width), strict=True):
        value.dim_value = size
    inferred = onnx.shape_inference.infer_shapes(copy, data_prop=True).graph
    shapes = {
        value.name: [dimension.dim_value or 1 for dimension in value.type.tensor_type.shape.dim]
        for value in (*inferred.value_info, *inferred.input, *inferred.output)
    }
    shapes |= {weights.name: list(weights.dims) for weights in inferred.initializer}
    found = {}
    for node in inferred.node:
        results = math.prod(shapes.get(node.output[0], ()))
        if node.op_type == "Conv":
            found[node.name] = results * math.prod(shapes[node.input[1]][1:])
        elif node.op_type in ("MatMul", "Gemm"):
            found[node.name] = results * shapes.get(node.input[0], [1])[-1]
    return found
