"""Operators of an ML Program that compute value by value, sum up, multiply matrices, quantise, or hold a state."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from p3m_edge.export.formats.coreml.mil.arguments import Arguments, Handler

_BINARY: dict[str, Callable[..., Tensor]] = {
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "real_div": torch.div, "floor_div": torch.floor_divide,
    "mod": torch.remainder, "pow": torch.pow, "maximum": torch.maximum, "minimum": torch.minimum,
    "equal": torch.eq, "not_equal": torch.ne, "greater": torch.gt, "greater_equal": torch.ge, "less": torch.lt,
    "less_equal": torch.le, "logical_and": torch.logical_and, "logical_or": torch.logical_or,
    "logical_xor": torch.logical_xor,
}  # fmt: skip
_UNARY: dict[str, Callable[..., Tensor]] = {
    "abs": torch.abs, "acos": torch.acos, "asin": torch.asin, "atan": torch.atan, "atanh": torch.atanh,
    "ceil": torch.ceil, "cos": torch.cos, "cosh": torch.cosh, "erf": torch.erf, "exp": torch.exp, "exp2": torch.exp2,
    "floor": torch.floor, "identity": torch.clone, "logical_not": torch.logical_not, "relu": torch.relu,
    "relu6": F.relu6, "round": torch.round, "sigmoid": torch.sigmoid, "sign": torch.sign, "silu": F.silu,
    "sin": torch.sin, "sinh": torch.sinh, "softplus": F.softplus, "softsign": F.softsign, "sqrt": torch.sqrt,
    "square": torch.square, "tan": torch.tan, "tanh": torch.tanh,
}  # fmt: skip
_REDUCTIONS: dict[str, Callable[..., Tensor]] = {
    "reduce_sum": torch.sum, "reduce_mean": torch.mean, "reduce_max": torch.amax, "reduce_min": torch.amin,
}  # fmt: skip
_TYPES = {
    "fp16": torch.float32, "fp32": torch.float32, "int32": torch.int32, "int16": torch.int16, "int8": torch.int8,
    "uint8": torch.uint8, "uint16": torch.int32, "bool": torch.bool,
}  # fmt: skip


def _call(function: Callable[..., Tensor], *names: str) -> Handler:
    return lambda given: function(*(given[name] for name in names))


def _shifted(function: Callable[[Tensor], Tensor]) -> Handler:
    return lambda given: function(given["x"] + given.constant("epsilon", 0.0))


def _linear_of(given: Arguments) -> Tensor:
    return given["x"] * float(given.constant("alpha")) + float(given.constant("beta"))


def _gelu(given: Arguments) -> Tensor:
    x, mode = given["x"], given.constant("mode", "EXACT")
    if mode == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(1.702 * x)
    return F.gelu(x, approximate="tanh" if mode == "TANH_APPROXIMATION" else "none")


def _reduction(function: Callable[..., Tensor]) -> Handler:
    return lambda given: function(given["x"], dim=given.axes("axes"), keepdim=given.constant("keep_dims", False))


def _matmul(given: Arguments) -> Tensor:
    x, y = (
        given[name].transpose(-1, -2) if given.constant(f"transpose_{name}", False) else given[name] for name in "xy"
    )
    return x @ y


def _cumsum(given: Arguments) -> Tensor:
    if given.constant("exclusive", False) or given.constant("reverse", False):
        raise NotImplementedError("exclusive and reverse")
    return torch.cumsum(given["x"], given.constant("axis", 0))


def _quantize(given: Arguments) -> Tensor:
    kind, (x, scale, zero) = given.constant("output_dtype"), _affine(given)
    low, high = (0, 255) if kind == "uint8" else (-128, 127)
    return torch.clamp(torch.round(x / scale) + zero, low, high).to(_TYPES[kind])


def _dequantize(given: Arguments) -> Tensor:
    x, scale, zero = _affine(given)
    return (x.to(torch.float32) - zero) * scale


def _affine(given: Arguments) -> tuple[Tensor, Tensor, Tensor]:
    """The operand, and scale and zero point, ready to be broadcast."""
    x, axis, zero = given["input"], given.constant("axis"), given.maybe("zero_point")
    scale, zero = given["scale"], torch.zeros(()) if zero is None else zero.to(torch.float32)
    if axis is None:
        return x, scale, zero
    shape = [-1 if each == axis % x.ndim else 1 for each in range(x.ndim)]
    return x, scale.reshape(shape) if scale.ndim else scale, zero.reshape(shape) if zero.ndim else zero


TABLE: dict[str, Handler] = {
    **{name: _call(function, "x", "y") for name, function in _BINARY.items()},
    **{name: _call(function, "x") for name, function in _UNARY.items()},
    **{name: _reduction(function) for name, function in _REDUCTIONS.items()},
    "log": _shifted(torch.log),
    "rsqrt": _shifted(torch.rsqrt),
    "inverse": _shifted(torch.reciprocal),
    "clip": lambda given: given["x"].clamp(given.constant("alpha"), given.constant("beta")),
    "threshold": lambda given: given["x"].clamp_min(given.constant("alpha")),
    "leaky_relu": lambda given: F.leaky_relu(given["x"], given.constant("alpha")),
    "prelu": _call(F.prelu, "x", "alpha"),
    "elu": lambda given: F.elu(given["x"], given.constant("alpha")),
    "sigmoid_hard": lambda given: torch.clamp(_linear_of(given), 0, 1),
    "linear_activation": _linear_of,
    "gelu": _gelu,
    "softmax": lambda given: torch.softmax(given["x"], given.constant("axis")),
    "cast": lambda given: given["x"].to(_TYPES[given.constant("dtype")]),
    "select": _call(torch.where, "cond", "a", "b"),
    "reduce_argmax": lambda given: torch.argmax(
        given["x"], given.constant("axis"), given.constant("keep_dims", True)
    ).to(torch.int32),
    "matmul": _matmul,
    "linear": lambda given: F.linear(given["x"], given["weight"], given.maybe("bias")),
    "einsum": lambda given: torch.einsum(given.constant("equation"), *given.many("values")),
    "scaled_dot_product_attention": lambda given: F.scaled_dot_product_attention(
        given["query"], given["key"], given["value"], given.maybe("attn_mask")
    ),
    "cumsum": _cumsum,
    "quantize": _quantize,
    "dequantize": _dequantize,
    "read_state": lambda given: given["input"],
    "coreml_update_state": lambda given: given["value"],
}
