"""Operators of an ML Program that compute value by value, sum up, multiply matrices, quantise, or hold a state."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from p3m_edge.export.mil.arguments import Arguments, Handler, entering

TABLE: dict[str, Handler] = {}
operator = entering(TABLE)

_BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "real_div": torch.div, "floor_div": torch.floor_divide,
    "mod": torch.remainder, "pow": torch.pow, "maximum": torch.maximum, "minimum": torch.minimum,
    "equal": torch.eq, "not_equal": torch.ne, "greater": torch.gt, "greater_equal": torch.ge, "less": torch.lt,
    "less_equal": torch.le, "logical_and": torch.logical_and, "logical_or": torch.logical_or,
    "logical_xor": torch.logical_xor,
}  # fmt: skip
_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "abs": torch.abs, "acos": torch.acos, "asin": torch.asin, "atan": torch.atan, "atanh": torch.atanh,
    "ceil": torch.ceil, "cos": torch.cos, "cosh": torch.cosh, "erf": torch.erf, "exp": torch.exp, "exp2": torch.exp2,
    "floor": torch.floor, "identity": torch.clone, "logical_not": torch.logical_not, "relu": torch.relu,
    "relu6": F.relu6, "round": torch.round, "sigmoid": torch.sigmoid, "sign": torch.sign, "silu": F.silu,
    "sin": torch.sin, "sinh": torch.sinh, "softplus": F.softplus, "softsign": F.softsign, "sqrt": torch.sqrt,
    "square": torch.square, "tan": torch.tan, "tanh": torch.tanh,
}  # fmt: skip


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Handler:
    return lambda given: function(given["x"], given["y"])


def _unary(function: Callable[[Tensor], Tensor]) -> Handler:
    return lambda given: function(given["x"])


TABLE.update({name: _binary(function) for name, function in _BINARY.items()})
TABLE.update({name: _unary(function) for name, function in _UNARY.items()})


@operator("log")
def _log(given: Arguments) -> Tensor:
    return torch.log(given["x"] + given.constant("epsilon", 0.0))


@operator("rsqrt")
def _rsqrt(given: Arguments) -> Tensor:
    return torch.rsqrt(given["x"] + given.constant("epsilon", 0.0))


@operator("inverse")
def _inverse(given: Arguments) -> Tensor:
    return torch.reciprocal(given["x"] + given.constant("epsilon", 0.0))


@operator("clip")
def _clip(given: Arguments) -> Tensor:
    return given["x"].clamp(given.constant("alpha"), given.constant("beta"))


@operator("threshold")
def _threshold(given: Arguments) -> Tensor:
    return given["x"].clamp_min(given.constant("alpha"))


@operator("leaky_relu")
def _leaky_relu(given: Arguments) -> Tensor:
    return F.leaky_relu(given["x"], given.constant("alpha"))


@operator("prelu")
def _prelu(given: Arguments) -> Tensor:
    return F.prelu(given["x"], given["alpha"])


@operator("elu")
def _elu(given: Arguments) -> Tensor:
    return F.elu(given["x"], given.constant("alpha"))


@operator("sigmoid_hard")
def _sigmoid_hard(given: Arguments) -> Tensor:
    return torch.clamp(given["x"] * float(given.constant("alpha")) + float(given.constant("beta")), 0, 1)


@operator("linear_activation")
def _linear_activation(given: Arguments) -> Tensor:
    return given["x"] * float(given.constant("alpha")) + float(given.constant("beta"))


@operator("gelu")
def _gelu(given: Arguments) -> Tensor:
    x, mode = given["x"], given.constant("mode", "EXACT")
    if mode == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(1.702 * x)
    return F.gelu(x, approximate="tanh" if mode == "TANH_APPROXIMATION" else "none")


@operator("softmax")
def _softmax(given: Arguments) -> Tensor:
    return torch.softmax(given["x"], given.constant("axis"))


_TYPES = {
    "fp16": torch.float32, "fp32": torch.float32, "int32": torch.int32, "int16": torch.int16, "int8": torch.int8,
    "uint8": torch.uint8, "uint16": torch.int32, "bool": torch.bool,
}  # fmt: skip


@operator("cast")
def _cast(given: Arguments) -> Tensor:
    return given["x"].to(_TYPES[given.constant("dtype")])


@operator("select")
def _select(given: Arguments) -> Tensor:
    return torch.where(given["cond"], given["a"], given["b"])


def _reduction(function: Callable[..., Tensor]) -> Handler:
    def reduce(given: Arguments) -> Tensor:
        x = given["x"]
        axes = given.integers("axes") if given.constant("axes") is not None else list(range(x.ndim))
        return function(x, dim=axes, keepdim=given.constant("keep_dims", False))

    return reduce


TABLE["reduce_sum"] = _reduction(torch.sum)
TABLE["reduce_mean"] = _reduction(torch.mean)
TABLE["reduce_max"] = _reduction(torch.amax)
TABLE["reduce_min"] = _reduction(torch.amin)


@operator("reduce_argmax")
def _argmax(given: Arguments) -> Tensor:
    return torch.argmax(given["x"], given.constant("axis"), given.constant("keep_dims", True)).to(torch.int32)


@operator("matmul")
def _matmul(given: Arguments) -> Tensor:
    x, y = given["x"], given["y"]
    if given.constant("transpose_x", False):
        x = x.transpose(-1, -2)
    if given.constant("transpose_y", False):
        y = y.transpose(-1, -2)
    return x @ y


@operator("linear")
def _linear(given: Arguments) -> Tensor:
    return F.linear(given["x"], given["weight"], given.maybe("bias"))


@operator("einsum")
def _einsum(given: Arguments) -> Tensor:
    return torch.einsum(given.constant("equation"), *given.many("values"))


@operator("scaled_dot_product_attention")
def _attention(given: Arguments) -> Tensor:
    return F.scaled_dot_product_attention(given["query"], given["key"], given["value"], given.maybe("attn_mask"))


@operator("cumsum")
def _cumsum(given: Arguments) -> Tensor:
    x, axis = given["x"], given.constant("axis", 0)
    if given.constant("exclusive", False) or given.constant("reverse", False):
        raise NotImplementedError("exclusive and reverse")
    return torch.cumsum(x, axis)


@operator("quantize")
def _quantize(given: Arguments) -> Tensor:
    x, kind = given["input"], given.constant("output_dtype")
    scale, zero = _per_axis(given, x)
    low, high = (0, 255) if kind == "uint8" else (-128, 127)
    return torch.clamp(torch.round(x / scale) + zero, low, high).to(_TYPES[kind])


@operator("dequantize")
def _dequantize(given: Arguments) -> Tensor:
    x = given["input"]
    scale, zero = _per_axis(given, x)
    return (x.to(torch.float32) - zero) * scale


def _per_axis(given: Arguments, x: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and zero point, ready to be broadcast."""
    zero = given.maybe("zero_point")
    pair = (given["scale"], torch.zeros(()) if zero is None else zero.to(torch.float32))
    axis = given.constant("axis")
    if axis is None:
        return pair
    shape = [-1 if each == axis % x.ndim else 1 for each in range(x.ndim)]
    scale, zero_point = (each.reshape(shape) if each.ndim else each for each in pair)
    return scale, zero_point


@operator("read_state")
def _read_state(given: Arguments) -> Tensor:
    return given["input"]


@operator("coreml_update_state")
def _update_state(given: Arguments) -> Tensor:
    return given["value"]
