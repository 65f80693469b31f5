"""What the GPU delegate of a device would leave to the processor, read from the model file; nothing is run.

The tables are those of TensorFlow Lite's GPU delegate (``delegates/gpu/common/model_builder.cc`` and
``tools/versioning/gpu_compatibility.cc``): its operators, and the rule that all that is computed is in floating point,
or in 8 bits where it was told so. Newer delegates take more. A model with such operators still runs: what comes between
them is handed to and fro, which costs time.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from p3m_edge.export.formats.litert.schema import names, parse

OPERATORS = frozenset({
    "ABS", "ADD", "AVERAGE_POOL_2D", "BATCH_MATMUL", "CONCATENATION", "CONV_2D", "COS", "DEPTHWISE_CONV_2D",
    "DEQUANTIZE", "DIV", "ELU", "EXP", "FLOOR", "FULLY_CONNECTED", "HARD_SWISH", "LEAKY_RELU", "LOG", "LOGISTIC",
    "MAXIMUM", "MAX_POOL_2D", "MEAN", "MINIMUM", "MIRROR_PAD", "MUL", "NEG", "PACK", "PAD", "POW", "PRELU", "QUANTIZE",
    "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "RELU", "RELU6", "RESHAPE", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR",
    "RSQRT", "SIN", "SLICE", "SOFTMAX", "SPACE_TO_DEPTH", "SPLIT_V", "SQRT", "SQUARE", "SQUARED_DIFFERENCE",
    "STRIDED_SLICE", "SUB", "SUM", "TANH", "TRANSPOSE", "TRANSPOSE_CONV",
})  # fmt: skip
"""What it computes."""
TYPES = ("FLOAT32", "FLOAT16", "INT8", "UINT8")
"""What it computes with; constants may have others."""
MAX_RANK = 4


def refused(model: Path) -> dict[str, int]:
    """The operators that the delegate does not take, by what is wrong with them, and how many there are of each.

    An operator of the table that takes or gives something else, such as booleans or a fifth axis, is named with that.
    """
    graph, operators, types = parse(model), names("BuiltinOperator"), names("TensorType")
    found: Counter[str] = Counter()
    for part in graph.subgraphs:
        for each in part.operators:
            code = graph.operatorCodes[each.opcodeIndex]
            name = operators[max(code.builtinCode, code.deprecatedBuiltinCode)]
            tensors = [part.tensors[place] for place in (*each.inputs, *each.outputs) if place >= 0]
            computed = [tensor for tensor in tensors if graph.buffers[tensor.buffer].data is None]
            others = sorted({types[tensor.type] for tensor in computed}.difference(TYPES))
            if any(tensor.shape is not None and len(tensor.shape) > MAX_RANK for tensor in computed):
                others.append(f"rank above {MAX_RANK}")
            if name not in OPERATORS:
                found[name] += 1
            elif others:
                found[f"{name} of {', '.join(others)}"] += 1
    return dict(sorted(found.items()))
