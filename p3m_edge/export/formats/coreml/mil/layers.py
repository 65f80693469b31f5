"""Operators of an ML Program that are layers: convolutions, poolings, normalisations, upsampling."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from p3m_edge.export.formats.coreml.mil.arguments import Arguments, Handler, flat_padding

_Function = Callable[..., Tensor]
_CONVOLUTIONS: dict[int, _Function] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED: dict[int, _Function] = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
_MAXIMA: dict[int, _Function] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_MEANS: dict[int, _Function] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_Pairs = list[tuple[int, int]]
"""What is before and after each spatial axis."""


def _each(given: Arguments, name: str, axes: int) -> list[int]:
    """An option with a number for each spatial axis; 1 where it is not given."""
    return given.integers(name) if given.constant(name) else [1] * axes


def _padding(
    given: Arguments, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], steps: Sequence[int]
) -> _Pairs:
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


def _padded(x: Tensor, padding: _Pairs, value: float = 0.0) -> Tensor:
    flat = flat_padding(padding)
    return F.pad(x, flat, value=value) if any(flat) else x


def _conv(given: Arguments) -> Tensor:
    x, weight = given["x"], given["weight"]
    spatial = weight.ndim - 2
    strides, steps = (_each(given, name, spatial) for name in ("strides", "dilations"))
    padding = _padding(given, x.shape[2:], weight.shape[2:], strides, steps)
    # PyTorch takes another order of sums for a padded copy: its own padding where both sides are alike.
    if all(before == after for before, after in padding):
        own = [before for before, _ in padding]
    else:
        x, own = _padded(x, padding), [0] * spatial
    groups = given.constant("groups", 1)
    return _CONVOLUTIONS[spatial](x, weight, given.maybe("bias"), strides, own, steps, groups)


def _conv_transpose(given: Arguments) -> Tensor:
    x, weight = given["x"], given["weight"]
    spatial = weight.ndim - 2
    strides, steps = (_each(given, name, spatial) for name in ("strides", "dilations"))
    groups, shape = given.constant("groups", 1), given.constant("output_shape")
    whole = _TRANSPOSED[spatial](x, weight, given.maybe("bias"), strides, 0, 0, groups, steps)
    cut = _padding(given, x.shape[2:], weight.shape[2:], strides, steps)
    for axis, (before, after) in enumerate(cut, start=2):
        length = shape[axis] if shape is not None else whole.shape[axis] - before - after
        missing = before + length - whole.shape[axis]
        if missing > 0:
            whole = F.pad(whole, [0, 0] * (whole.ndim - 1 - axis) + [0, missing])
        whole = whole.narrow(axis, before, length)
    return whole


def _windows(given: Arguments) -> tuple[Tensor, list[int], list[int], _Pairs, _Pairs]:
    """The input of a pooling, its kernel, strides and padding, and the same as ``ceil_mode`` extends it.

    A last window that is cut off is filled up; none begins in the padding after.
    """
    x, kernel = given["x"], given.integers("kernel_sizes")
    strides = _each(given, "strides", len(kernel))
    padding = _padding(given, x.shape[2:], kernel, strides, [1] * len(kernel))
    if not given.constant("ceil_mode", False):
        return x, kernel, strides, padding, padding
    ceiled = []
    for size, side, stride, (before, after) in zip(x.shape[2:], kernel, strides, padding, strict=True):
        room = size + before + after - side
        extra = -room % stride
        starts = (room + extra) // stride
        ceiled.append((before, after + (extra if starts * stride < size + before else 0)))
    return x, kernel, strides, padding, ceiled


def _max_pool(given: Arguments) -> Tensor:
    x, kernel, strides, _, sides = _windows(given)
    return _MAXIMA[len(kernel)](_padded(x, sides, -math.inf), kernel, strides)


def _avg_pool(given: Arguments) -> Tensor:
    x, kernel, strides, padding, sides = _windows(given)
    # Means of the values and of what counts as a value: what lies beyond ceil_mode's edge never does.
    counted = torch.ones_like(x[:1, :1])
    if not given.constant("exclude_padding_from_average", False):
        counted, x = _padded(counted, padding, 1.0), _padded(x, padding)
        sides = [(0, whole - own) for (_, own), (_, whole) in zip(padding, sides, strict=True)]
    mean = _MEANS[len(kernel)]
    return mean(_padded(x, sides), kernel, strides) / mean(_padded(counted, sides), kernel, strides)


def _batch_norm(given: Arguments) -> Tensor:
    scale = given.maybe("gamma"), given.maybe("beta")
    return F.batch_norm(given["x"], given["mean"], given["variance"], *scale, eps=given.constant("epsilon", 1e-5))


def _instance_norm(given: Arguments) -> Tensor:
    gamma, beta = given.maybe("gamma"), given.maybe("beta")
    return F.instance_norm(given["x"], weight=gamma, bias=beta, eps=given.constant("epsilon", 1e-5))


def _layer_norm(given: Arguments) -> Tensor:
    x, axes = given["x"], sorted(given.axes("axes"))
    epsilon, gamma, beta = given.constant("epsilon", 1e-5), given.maybe("gamma"), given.maybe("beta")
    if axes == list(range(x.ndim - len(axes), x.ndim)):
        return F.layer_norm(x, x.shape[-len(axes) :], gamma, beta, epsilon)
    shape = [size if axis in axes else 1 for axis, size in enumerate(x.shape)]
    variance, mean = torch.var_mean(x, dim=axes, correction=0, keepdim=True)
    result = (x - mean) * torch.rsqrt(variance + epsilon)
    result = result if gamma is None else result * gamma.reshape(shape)
    return result if beta is None else result + beta.reshape(shape)


def _upsample_bilinear(given: Arguments) -> Tensor:
    x, aligned = given["x"], given.constant("align_corners", True)
    half = given.constant("half_pixel_centers")
    if half is not None and half == aligned:
        raise NotImplementedError(f"align_corners={aligned} with half_pixel_centers={half}")
    return F.interpolate(x, size=_scaled(given, x), mode="bilinear", align_corners=aligned)


def _scaled(given: Arguments, x: Tensor) -> list[int]:
    """Height and width times their factors."""
    factors = (given.constant("scale_factor_height", 1), given.constant("scale_factor_width", 1))
    return [math.floor(side * factor + 1e-6) for side, factor in zip(x.shape[-2:], factors, strict=True)]


TABLE: dict[str, Handler] = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "batch_norm": _batch_norm,
    "instance_norm": _instance_norm,
    "layer_norm": _layer_norm,
    "upsample_bilinear": _upsample_bilinear,
    "upsample_nearest_neighbor": lambda given: F.interpolate(
        given["x"], size=_scaled(given, given["x"]), mode="nearest"
    ),
}
