"""Operators of an ML Program that are layers: convolutions, poolings, normalisations, upsampling."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from p3m_edge.export.mil.arguments import Arguments, Handler, entering

TABLE: dict[str, Handler] = {}
operator = entering(TABLE)


def _each(given: Arguments, name: str, axes: int) -> list[int]:
    """An option with a number for each spatial axis; 1 where it is not given."""
    return given.integers(name) if given.constant(name) else [1] * axes


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
    strides, steps = (_each(given, name, spatial) for name in ("strides", "dilations"))
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
    strides, steps = (_each(given, name, spatial) for name in ("strides", "dilations"))
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
    strides = _each(given, "strides", len(kernel))
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
