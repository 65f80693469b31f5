"""Max-pooling that remembers its winners, and the unpooling that puts values back there.

``torch.nn.functional.max_unpool2d`` has no counterpart in TensorRT, OpenVINO or Core ML, and where pooling windows
overlap (ResNet-34: 3x3, stride 2, padding 1) its indices repeat, so a scatter is undefined on a GPU. What PyTorch
computes on one CPU thread (the first maximum in raster order wins a window, the last window in raster order wins a
pixel) follows from comparisons and masks alone:

* a picture is held as four *phases*, ``x[..., p::2, q::2]`` for p, q in {0, 1}, each ``[B, C, H/2, W/2]``: every tap
  of a pooling window is then one phase, shifted by at most one cell;
* the maximum of a 3x3 window is taken along its rows, then over its three rows; a strict ``greater`` against the
  running maximum decides the winner, so exactly one tap wins in any precision;
* the *winners* are boolean masks ``[B, C, h, w]``, one per place of the window in raster order;
* an output phase of the unpooling is a masked sum over the windows that can reach it.

Masks are one byte wide and shifts are pads with a negative side: on CPUs this is several times faster than a scatter
or than selects (ONNX Runtime takes 25 times as long for a ``Where`` as for a ``Mul``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

import torch
import torch.nn.functional as functional
from torch import Tensor

Kernel = Literal[2, 3]
Lowering = Literal["select", "native", "nearest"]
Phases = tuple[Tensor, Tensor, Tensor, Tensor]
Winners = tuple[Tensor, ...]
"""``kernel**2`` boolean masks ``[B, C, h, w]``, by place in the window in raster order; exactly one is true."""

_LOWEST = float("-inf")
_lowering: ContextVar[Lowering] = ContextVar("lowering", default="select")


@contextmanager
def lowering(name: Lowering) -> Iterator[None]:
    """Trace :func:`max_pool` and :func:`max_unpool` in another form, for an export.

    ``select`` is the form described above. ``native`` writes ONNX ``MaxPool`` with indices and ``MaxUnpool``, which
    only ONNX Runtime has. ``nearest`` is plain pooling and nearest upsampling: another network, the floor of speed.
    """
    token = _lowering.set(name)
    try:
        yield
    finally:
        _lowering.reset(token)


def to_phases(x: Tensor) -> Phases:
    """Split ``[B, C, H, W]`` (H, W even) into four phases ``[B, C, H/2, W/2]``: (even, even), (even, odd), ..."""
    return x[..., 0::2, 0::2], x[..., 0::2, 1::2], x[..., 1::2, 0::2], x[..., 1::2, 1::2]


def from_phases(phases: Sequence[Tensor]) -> Tensor:
    """Interleave four phases ``[B, C, h, w]`` into ``[B, C, 2h, 2w]``."""
    batch, channels, height, width = phases[0].shape
    stacked = torch.stack(tuple(phases), dim=2).reshape(batch, 4 * channels, height, width)
    return functional.pixel_shuffle(stacked, 2)


def pool_phases(phases: Phases, kernel: Kernel) -> tuple[Tensor, Winners]:
    """Max-pool a picture given as phases, with stride 2; the kernel is 2 (no padding) or 3 (padding 1).

    Returns the maxima, ``[B, C, h, w]`` like the phases, and the winners.
    """
    ee, eo, oe, oo = phases
    if kernel == 2:
        top, (ee_wins, eo_wins) = _first_maximum(ee, eo)
        bottom, (oe_wins, oo_wins) = _first_maximum(oe, oo)
        maximum, (top_wins, bottom_wins) = _first_maximum(top, bottom)
        pairs = ((top_wins, ee_wins), (top_wins, eo_wins), (bottom_wins, oe_wins), (bottom_wins, oo_wins))
        return maximum, tuple(torch.logical_and(row, column) for row, column in pairs)
    even, even_wins = _first_maximum(_shift(eo, right=1, fill=_LOWEST), ee, eo)
    odd, odd_wins = _first_maximum(_shift(oo, right=1, fill=_LOWEST), oe, oo)
    maximum, row_wins = _first_maximum(_shift(odd, down=1, fill=_LOWEST), even, odd)
    # The window's first row is the odd row above; where it lies outside, its row never wins.
    above_wins = tuple(_shift(wins, down=1) for wins in odd_wins)
    places = zip(row_wins, (above_wins, even_wins, odd_wins), strict=True)
    return maximum, tuple(torch.logical_and(row, column) for row, columns in places for column in columns)


def _first_maximum(first: Tensor, *others: Tensor) -> tuple[Tensor, Winners]:
    """The maximum of two or three tensors, and masks that say which of them held it first."""
    maximum, beats = first, []
    for other in others:
        wins = other > maximum
        beats.append(wins)
        # The gradient belongs to the winner alone; `maximum` would split it on a tie.
        grad = torch.is_grad_enabled()
        maximum = torch.where(wins, other, maximum) if grad else torch.maximum(maximum, other)
    if len(beats) == 1:
        return maximum, (torch.logical_not(beats[0]), beats[0])
    second, third = beats
    neither = torch.logical_not(torch.logical_or(second, third))
    return maximum, (neither, torch.logical_and(second, torch.logical_not(third)), third)


def unpool_phases(y: Tensor, winners: Winners, kernel: Kernel) -> Phases:
    """Put each value of ``y``, ``[B, C, h, w]``, where its window's maximum stood, zeros elsewhere; four phases.

    ``winners`` are those of :func:`pool_phases` with the same kernel.
    """
    if kernel == 2:
        ee, eo, oe, oo = (_overlay((y, wins)) for wins in winners)
        return ee, eo, oe, oo
    up_left, up, up_right, left, centre, right, down_left, down, down_right = winners
    y_east, y_south = _shift(y, right=-1), _shift(y, down=-1)
    y_south_east = _shift(y_south, right=-1)
    # Which windows reach a pixel, the last in raster order first: the later one wins.
    ee = _overlay((y, centre))
    eo = _overlay((y_east, _shift(left, right=-1)), (y, right))
    oe = _overlay((y_south, _shift(up, down=-1)), (y, down))
    oo = _overlay(
        (y_south_east, _shift(_shift(up_left, down=-1), right=-1)),
        (y_south, _shift(up_right, down=-1)),
        (y_east, _shift(down_left, right=-1)),
        (y, down_right),
    )
    return ee, eo, oe, oo


def _overlay(*layers: tuple[Tensor, Tensor]) -> Tensor:
    """For every cell the value of the first layer ``(value, mask)`` whose mask is true, else zero."""
    if torch.is_grad_enabled():  # selects keep the masks for the backward pass, not a float copy of them
        result = torch.zeros_like(layers[0][0])
        for value, mask in reversed(layers):
            result = torch.where(mask, value, result)
        return result
    (value, taken), *rest = layers
    result = value * taken.to(value.dtype)
    for value, mask in rest:
        visible = torch.logical_and(mask, torch.logical_not(taken))
        result = result + value * visible.to(value.dtype)
        taken = torch.logical_or(taken, mask)
    return result


def max_pool(x: Tensor, kernel: Kernel) -> tuple[Tensor, Winners]:
    """Max-pool ``[B, C, H, W]`` with stride 2 (kernel 2: no padding; kernel 3: padding 1); maxima and winners.

    The maxima are ``[B, C, ceil(H/2), ceil(W/2)]``; kernel 2 needs even H and W.
    """
    match _lowering.get():
        case "native":
            return _native_pool(x, kernel)
        case "nearest":
            return functional.max_pool2d(x, kernel, 2, kernel - 2), ()
    height, width = x.shape[-2:]
    if kernel == 3 and (height % 2 or width % 2):
        x = functional.pad(x, (0, width % 2, 0, height % 2), value=_LOWEST)
    return pool_phases(to_phases(x), kernel)


def max_unpool(y: Tensor, winners: Winners, kernel: Kernel) -> Tensor:
    """Unpool ``[B, C, h, w]`` to ``[B, C, 2h, 2w]`` with the winners of :func:`max_pool`."""
    match _lowering.get():
        case "native":
            return _native_unpool(y, winners)
        case "nearest":
            return functional.interpolate(y, scale_factor=2.0, mode="nearest")
    return from_phases(unpool_phases(y, winners, kernel))


def _native_pool(x: Tensor, kernel: Kernel) -> tuple[Tensor, Winners]:
    batch, channels, height, width = x.shape
    pad = kernel - 2
    pooled, indices = torch.onnx.ops.symbolic_multi_out(
        "MaxPool",
        (x,),
        attrs={"kernel_shape": [kernel] * 2, "strides": [2, 2], "pads": [pad] * 4},
        dtypes=(x.dtype, torch.int64),
        shapes=((batch, channels, height // 2, width // 2),) * 2,
        version=18,
    )
    return pooled, (indices,)


def _native_unpool(y: Tensor, winners: Winners) -> Tensor:
    batch, channels, height, width = y.shape
    return torch.onnx.ops.symbolic(
        "MaxUnpool",
        (y, *winners),
        attrs={"kernel_shape": [2, 2], "strides": [2, 2]},
        dtype=y.dtype,
        shape=(batch, channels, 2 * height, 2 * width),
        version=18,
    )


def _shift(x: Tensor, *, right: int = 0, down: int = 0, fill: float = 0.0) -> Tensor:
    """Shift by cells to the right and down (negative: left, up); what comes in from outside is ``fill``."""
    return functional.pad(x, (right, -right, down, -down), value=fill)
