"""What the operators of an ML Program compute, in PyTorch.

The semantics are those that coremltools' reference of the MIL operators states. Floating-point values are float32 here,
whatever their type in the program: :mod:`p3m_edge.export.mil.interpreter` rounds the results where that is wanted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


class Arguments:
    """The inputs of one operation by name: tensors that were computed, and constants."""

    def __init__(self, op_type: str, values: dict[str, Any]) -> None:
        self.op_type, self._values = op_type, values

    def __getitem__(self, name: str) -> Tensor:
        """As a tensor."""
        value = self._values[name]
        return value if isinstance(value, Tensor) else tensor(value)

    def maybe(self, name: str) -> Tensor | None:
        """As a tensor, if it was given."""
        return self[name] if self._values.get(name) is not None else None

    def many(self, name: str) -> list[Tensor]:
        """A tuple of tensors."""
        return [value if isinstance(value, Tensor) else tensor(value) for value in self._values[name]]

    def constant(self, name: str, default: Any = None) -> Any:
        """As a number, a string, a boolean or a list of numbers."""
        value = self._values.get(name)
        if value is None:
            return default
        if isinstance(value, (Tensor, np.ndarray, np.generic)):
            return value.tolist()
        return value

    def integers(self, name: str) -> list[int]:
        """As a list of integers, also from one number."""
        value = self.constant(name)
        return [int(each) for each in (value if isinstance(value, list) else [value])]


Handler = Callable[[Arguments], Any]
MOVING = set[str]()
"""Operators that move values, and give none that was not there."""
OPERATORS: dict[str, Handler] = {}
"""By the operator's name in MIL; each gives a tensor, or several where the operator has several results."""


def operator(name: str, *, moves: bool = False) -> Callable[[Handler], Handler]:
    """Enter a function into :data:`OPERATORS`."""

    def enter(function: Handler) -> Handler:
        OPERATORS[name] = function
        if moves:
            MOVING.add(name)
        return function

    return enter


def tensor(value: Any) -> Tensor:
    """A constant as a tensor; half precision becomes float32."""
    array = np.asarray(value)
    if array.dtype.kind == "f":
        array = array.astype(np.float32)
    elif array.dtype == np.uint16:
        array = array.astype(np.int32)
    return torch.from_numpy(array.copy() if not array.flags.writeable or array.ndim == 0 else array)


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


OPERATORS.update({name: _binary(function) for name, function in _BINARY.items()})
OPERATORS.update({name: _unary(function) for name, function in _UNARY.items()})


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


OPERATORS["reduce_sum"] = _reduction(torch.sum)
OPERATORS["reduce_mean"] = _reduction(torch.mean)
OPERATORS["reduce_max"] = _reduction(torch.amax)
OPERATORS["reduce_min"] = _reduction(torch.amin)


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


def _padding(
    given: Arguments, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], steps: Sequence[int]
) -> list[tuple[int, int]]:
    """What is put before and after each spatial axis."""
    kind = given.constant("pad_type", "valid")
    if kind == "custom":
        pad = given.integers("pad")
        return list(zip(pad[::2], pad[1::2], strict=True))
    if kind == "valid":
        return [(0, 0)] * len(sizes)
    found = []
    for size, side, stride, step in zip(sizes, kernel, strides, steps, strict=True):
        total = max((math.ceil(size / stride) - 1) * stride + (side - 1) * step + 1 - size, 0)
        less, more = total // 2, total - total // 2
        found.append((less, more) if kind == "same" else (more, less))
    return found


def _padded(x: Tensor, padding: Iterable[tuple[int, int]], value: float = 0.0) -> Tensor:
    flat = [side for pair in reversed(list(padding)) for side in pair]
    return F.pad(x, flat, value=value) if any(flat) else x


@operator("conv")
def _conv(given: Arguments) -> Tensor:
    x, weight = given["x"], given["weight"]
    spatial = weight.ndim - 2
    strides = given.integers("strides") if given.constant("strides") else [1] * spatial
    steps = given.integers("dilations") if given.constant("dilations") else [1] * spatial
    padding = _padding(given, x.shape[2:], weight.shape[2:], strides, steps)
    function: Any = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[spatial]
    # PyTorch takes another order of sums for a padded copy: its own padding where both sides are alike.
    if all(before == after for before, after in padding):
        own = [before for before, _ in padding]
    else:
        x, own = _padded(x, padding), [0] * spatial
    result: Tensor = function(x, weight, given.maybe("bias"), strides, own, steps, given.constant("groups", 1))
    return result


@operator("conv_transpose")
def _conv_transpose(given: Arguments) -> Tensor:
    x, weight = given["x"], given["weight"]
    spatial = weight.ndim - 2
    strides = given.integers("strides") if given.constant("strides") else [1] * spatial
    steps = given.integers("dilations") if given.constant("dilations") else [1] * spatial
    function: Any = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}[spatial]
    groups = given.constant("groups", 1)
    whole: Tensor = function(x, weight, given.maybe("bias"), strides, 0, 0, groups, steps)
    shape = given.constant("output_shape")
    cut = _padding(given, x.shape[2:], weight.shape[2:], strides, steps)
    for axis, (before, after) in enumerate(cut, start=2):
        length = shape[axis] if shape is not None else whole.shape[axis] - before - after
        missing = before + length - whole.shape[axis]
        if missing > 0:
            whole = F.pad(whole, [0, 0] * (whole.ndim - 1 - axis) + [0, missing])
        whole = whole.narrow(axis, before, length)
    return whole


def _windows(given: Arguments) -> tuple[Tensor, list[int], list[int], list[tuple[int, int]]]:
    """The input of a pooling, its kernel, strides and padding, as ``ceil_mode`` wants it too."""
    x, kernel = given["x"], given.integers("kernel_sizes")
    strides = given.integers("strides") if given.constant("strides") else [1] * len(kernel)
    padding = _padding(given, x.shape[2:], kernel, strides, [1] * len(kernel))
    return x, kernel, strides, padding


def _ceiled(x: Tensor, kernel: list[int], strides: list[int], padding: list[tuple[int, int]]) -> list[int]:
    """What a last window that is cut off lacks, for each axis; none begins in the padding after."""
    found = []
    for size, side, stride, (before, after) in zip(x.shape[2:], kernel, strides, padding, strict=True):
        room = size + before + after - side
        extra = -room % stride
        starts = (room + extra) // stride
        found.append(extra if extra and starts * stride < size + before else 0)
    return found


@operator("max_pool")
def _max_pool(given: Arguments) -> Tensor:
    x, kernel, strides, padding = _windows(given)
    extra = _ceiled(x, kernel, strides, padding) if given.constant("ceil_mode", False) else [0] * len(kernel)
    sides = [(before, after + more) for (before, after), more in zip(padding, extra, strict=True)]
    function: Any = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[len(kernel)]
    result: Tensor = function(_padded(x, sides, -math.inf), kernel, strides)
    return result


@operator("avg_pool")
def _avg_pool(given: Arguments) -> Tensor:
    x, kernel, strides, padding = _windows(given)
    extra = _ceiled(x, kernel, strides, padding) if given.constant("ceil_mode", False) else [0] * len(kernel)
    function: Any = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}[len(kernel)]
    # Means of the values and of what counts as a value: what lies beyond ceil_mode's edge never does.
    counted = torch.ones_like(x[:1, :1])
    if not given.constant("exclude_padding_from_average", False):
        counted, inner = _padded(counted, padding, 1.0), _padded(x, padding)
        padding = [(0, 0)] * len(kernel)
    else:
        inner = x
    sides = [(before, after + more) for (before, after), more in zip(padding, extra, strict=True)]
    means: Tensor = function(_padded(inner, sides), kernel, strides)
    shares: Tensor = function(_padded(counted, sides), kernel, strides)
    return means / shares


@operator("batch_norm")
def _batch_norm(given: Arguments) -> Tensor:
    return F.batch_norm(
        given["x"], given["mean"], given["variance"], given.maybe("gamma"), given.maybe("beta"),
        eps=given.constant("epsilon", 1e-5),
    )  # fmt: skip


@operator("instance_norm")
def _instance_norm(given: Arguments) -> Tensor:
    gamma, beta = given.maybe("gamma"), given.maybe("beta")
    return F.instance_norm(given["x"], weight=gamma, bias=beta, eps=given.constant("epsilon", 1e-5))


@operator("layer_norm")
def _layer_norm(given: Arguments) -> Tensor:
    x = given["x"]
    axes = sorted(axis % x.ndim for axis in (given.integers("axes") if given.constant("axes") else range(x.ndim)))
    epsilon, gamma, beta = given.constant("epsilon", 1e-5), given.maybe("gamma"), given.maybe("beta")
    if axes == list(range(x.ndim - len(axes), x.ndim)):
        return F.layer_norm(x, x.shape[-len(axes) :], gamma, beta, epsilon)
    shape = [size if axis in axes else 1 for axis, size in enumerate(x.shape)]
    variance, mean = torch.var_mean(x, dim=axes, correction=0, keepdim=True)
    result = (x - mean) * torch.rsqrt(variance + epsilon)
    result = result if gamma is None else result * gamma.reshape(shape)
    return result if beta is None else result + beta.reshape(shape)


@operator("upsample_bilinear")
def _upsample_bilinear(given: Arguments) -> Tensor:
    x, aligned = given["x"], given.constant("align_corners", True)
    size = _scaled(given, x)
    half = given.constant("half_pixel_centers")
    if half is not None and half == aligned:
        raise NotImplementedError(f"align_corners={aligned} with half_pixel_centers={half}")
    return F.interpolate(x, size=size, mode="bilinear", align_corners=aligned)


@operator("upsample_nearest_neighbor")
def _upsample_nearest(given: Arguments) -> Tensor:
    x = given["x"]
    return F.interpolate(x, size=_scaled(given, x), mode="nearest")


def _scaled(given: Arguments, x: Tensor) -> list[int]:
    """Height and width times their factors."""
    factors = (given.constant("scale_factor_height", 1), given.constant("scale_factor_width", 1))
    return [math.floor(side * factor + 1e-6) for side, factor in zip(x.shape[-2:], factors, strict=True)]


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
