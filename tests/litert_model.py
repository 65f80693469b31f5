"""The network of :mod:`tests.artefacts` as a LiteRT model, written operator by operator: no converter takes part."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from p3m_edge.runtimes.engines.litert import SIGNATURE

Array = NDArray[Any]


def needs_converter() -> None:
    """Skip where a model cannot be converted; nothing is imported, because litert-torch patches PyTorch."""
    for name in ("litert_torch", "litert_quantizer"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")


class Writer:
    """A model with one subgraph and one signature, to which tensors and operators are added in their order."""

    def __init__(self) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.schema: Any = schema
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.model = schema.ModelT()
        self.model.version, self.model.buffers, self.model.operatorCodes = 3, [schema.BufferT()], []
        self.dtypes: dict[str, int] = {
            "float32": schema.TensorType.FLOAT32, "uint8": schema.TensorType.UINT8,
            "int32": schema.TensorType.INT32, "bool": schema.TensorType.BOOL,
        }  # fmt: skip

    def tensor(self, name: str, shape: Sequence[int], dtype: str = "float32", value: Array | None = None) -> int:
        """Add a tensor; open sides are -1, and those of a size of one."""
        each = self.schema.TensorT()
        each.name, each.type = name.encode(), self.dtypes[dtype]
        each.shape = [max(side, 1) for side in shape]
        if min(shape, default=1) < 0:
            each.shapeSignature = list(shape)
        each.buffer = 0
        if value is not None:
            buffer = self.schema.BufferT()
            buffer.data = np.frombuffer(value.astype(dtype).tobytes(), np.uint8)
            each.buffer = len(self.model.buffers)
            self.model.buffers.append(buffer)
        self.graph.tensors.append(each)
        return len(self.graph.tensors) - 1

    def constant(self, name: str, value: Array) -> int:
        """Add a constant."""
        return self.tensor(name, value.shape, value.dtype.name, value)

    def operator(self, kind: str, inputs: Sequence[int], output: int, options: str = "", **given: int) -> int:
        """Add an operator; returns its output."""
        code = self.schema.OperatorCodeT()
        code.builtinCode = getattr(self.schema.BuiltinOperator, kind)
        code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), 1
        self.model.operatorCodes.append(code)
        each = self.schema.OperatorT()
        each.opcodeIndex, each.inputs, each.outputs = len(self.model.operatorCodes) - 1, list(inputs), [output]
        if options:
            each.builtinOptionsType = getattr(self.schema.BuiltinOptions, options)
            each.builtinOptions = getattr(self.schema, f"{options}T")()
            for field, value in given.items():
                setattr(each.builtinOptions, field, value)
        self.graph.operators.append(each)
        return output

    def finish(self, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> bytes:
        """The file's bytes."""
        import flatbuffers

        def named(tensors: Mapping[str, int]) -> list[Any]:
            found = []
            for name, index in tensors.items():
                each = self.schema.TensorMapT()
                each.name, each.tensorIndex = name.encode(), index
                found.append(each)
            return found

        signature = self.schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = SIGNATURE.encode(), 0
        signature.inputs, signature.outputs = named(inputs), named(outputs)
        self.graph.inputs, self.graph.outputs = list(inputs.values()), list(outputs.values())
        self.model.subgraphs, self.model.signatureDefs = [self.graph], [signature]
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def litert_model(constants: Mapping[str, Array], shape: Sequence[int], outputs: Sequence[str]) -> bytes:
    """The network with these constants, those of ONNX; the frame is ``[N, H, W, 3]``, -1 where a side is open."""
    w = Writer()
    batch, height, width, _ = shape
    plane = [batch, height, width]

    def step(
        kind: str, inputs: Sequence[int], channels: int, options: str = "", dtype: str = "float32", **o: int
    ) -> int:
        name = f"{kind}_{len(w.graph.tensors)}"
        return w.operator(kind, inputs, w.tensor(name, [*plane, channels], dtype), options, **o)

    def last(name: str) -> int:
        """A constant with the channels at the end."""
        value = np.asarray(constants[name], np.float32)
        return w.constant(name, value.reshape(1, 1, 1, -1) if value.size > 1 else value.reshape(1))

    def convolved(x: int, name: str, bias: int) -> int:
        weight = np.ascontiguousarray(constants[f"{name}.weight"].transpose(0, 2, 3, 1))
        inputs = [x, w.constant(f"{name}.weight", weight), bias]
        return step("CONV_2D", inputs, len(weight), "Conv2DOptions", strideH=1, strideW=1)

    def planar(x: int, name: str, channels: int) -> int:
        axes = w.constant(f"{name}.axes", np.array([0, 3, 1, 2], np.int32))
        out = w.tensor(name, [batch, channels, height, width])
        return w.operator("TRANSPOSE", [x, axes], out, "TransposeOptions")

    image = w.tensor("image", shape, "uint8")
    x = step("CAST", [image], 3, "CastOptions", inDataType=w.dtypes["uint8"], outDataType=w.dtypes["float32"])
    x = step("DIV", [x, last("full_scale")], 3, "DivOptions")
    x = step("SUB", [x, last("mean")], 3, "SubOptions")
    x = step("DIV", [x, last("deviation")], 3, "DivOptions")
    x = step("RELU", [convolved(x, "stem", w.constant("stem.bias", constants["stem.bias"]))], 8)
    local = step("LOGISTIC", [convolved(x, "local", w.constant("no bias", np.zeros(1, np.float32)))], 1)
    logits = convolved(x, "global", w.constant("no biases", np.zeros(3, np.float32)))
    axis = w.constant("axis", np.array(-1, np.int32))
    chosen = w.operator(
        "ARG_MAX", [logits, axis], w.tensor("class", plane, "int32"), "ArgMaxOptions", outputType=w.dtypes["int32"]
    )
    wanted = w.constant("axis of channels", np.array(3, np.int32))
    chosen = step("EXPAND_DIMS", [chosen, wanted], 1, "ExpandDimsOptions", "int32")
    unknown, foreground = (
        step("EQUAL", [chosen, w.constant(name, np.array([constants[name]], np.int32))], 1, "EqualOptions", "bool")
        for name in ("unknown", "foreground")
    )
    solid = step("CAST", [foreground], 1, "CastOptions", inDataType=w.dtypes["bool"], outDataType=w.dtypes["float32"])
    alpha = step("SELECT_V2", [unknown, local, solid], 1, "SelectV2Options")
    found = {
        "alpha": planar(alpha, "alpha", 1), "local_alpha": planar(local, "local_alpha", 1),
        "global_logits": planar(logits, "global_logits", 3),
    }  # fmt: skip
    return w.finish({"image": image}, {name: found[name] for name in outputs})
