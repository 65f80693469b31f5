"""Operators of an ML Program that move values and change none."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from p3m_edge.export.mil.arguments import Arguments, Handler, entering

TABLE: dict[str, Handler] = {}
operator = entering(TABLE)


@operator("reshape")
def _reshape(given: Arguments) -> Tensor:
    x = given["x"]
    shape = [x.shape[axis] if size == 0 else size for axis, size in enumerate(given.integers("shape"))]
    return x.reshape(shape)


@operator("transpose")
def _transpose(given: Arguments) -> Tensor:
    return given["x"].permute(given.integers("perm"))


@operator("expand_dims")
def _expand_dims(given: Arguments) -> Tensor:
    x, axes = given["x"], given.integers("axes")
    for axis in sorted(axis % (x.ndim + len(axes)) for axis in axes):
        x = x.unsqueeze(axis)
    return x


@operator("squeeze")
def _squeeze(given: Arguments) -> Tensor:
    x, axes = given["x"], given.constant("axes")
    if axes is None:
        return x.squeeze()
    return x.squeeze(tuple(axis % x.ndim for axis in given.integers("axes")))


@operator("concat")
def _concat(given: Arguments) -> Tensor:
    values, axis = given.many("values"), given.constant("axis")
    if given.constant("interleave", False):
        return torch.stack(values, axis % values[0].ndim + 1).flatten(axis % values[0].ndim, axis % values[0].ndim + 1)
    return torch.cat(values, axis)


@operator("stack")
def _stack(given: Arguments) -> Tensor:
    return torch.stack(given.many("values"), given.constant("axis"))


@operator("split")
def _split(given: Arguments) -> tuple[Tensor, ...]:
    x, axis, sizes = given["x"], given.constant("axis"), given.constant("split_sizes")
    if sizes is None:
        sizes = x.shape[axis] // given.constant("num_splits")
    return torch.split(x, sizes, axis)


@operator("slice_by_index")
def _slice_by_index(given: Arguments) -> Tensor:
    x = given["x"]
    return torch.from_numpy(np.ascontiguousarray(x.numpy()[_index(given, x.ndim)]))  # PyTorch has no negative steps


@operator("slice_update")
def _slice_update(given: Arguments) -> Tensor:
    x = given["x"].numpy().copy()
    x[_index(given, x.ndim)] = given["update"].numpy()
    return torch.from_numpy(x)


def _index(given: Arguments, rank: int) -> tuple[Any, ...]:
    """Begin, end, stride and their masks as NumPy's index."""
    begin, end = given.integers("begin"), given.integers("end")
    steps = given.integers("stride") if given.constant("stride") is not None else [1] * rank
    masks = [given.constant(name) or [False] * rank for name in ("begin_mask", "end_mask", "squeeze_mask")]
    chosen: list[Any] = []
    for first, last, step, from_start, to_end, one in zip(begin, end, steps, *masks, strict=True):
        chosen.append(first if one else slice(None if from_start else first, None if to_end else last, step))
    return tuple(chosen)


@operator("crop")
def _crop(given: Arguments) -> Tensor:
    x, (top, bottom), (left, right) = given["x"], given.integers("crop_height"), given.integers("crop_width")
    return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]


@operator("slice_by_size")
def _slice_by_size(given: Arguments) -> Tensor:
    x = given["x"]
    for axis, (begin, size) in enumerate(zip(given.integers("begin"), given.integers("size"), strict=True)):
        first = begin % x.shape[axis] if begin < 0 else begin
        x = x.narrow(axis, first, x.shape[axis] - first if size == -1 else size)
    return x


@operator("pad")
def _pad(given: Arguments) -> Tensor:
    x, pad, mode = given["x"], given.integers("pad"), given.constant("mode", "constant")
    pairs = list(zip(pad[::2], pad[1::2], strict=True))
    if mode == "constant":
        flat = [side for pair in reversed(pairs) for side in pair]
        return F.pad(x, flat, value=given.constant("constant_val", 0.0))
    inner = [(0, 0)] * (x.ndim - len(pairs)) + pairs
    return torch.from_numpy(np.pad(x.numpy(), inner, "reflect" if mode == "reflect" else "edge"))


@operator("tile")
def _tile(given: Arguments) -> Tensor:
    return given["x"].repeat(given.integers("reps"))


@operator("gather")
def _gather(given: Arguments) -> Tensor:
    x, indices, axis = given["x"], given["indices"].to(torch.int64), given.constant("axis", 0)
    if given.constant("batch_dims", 0):
        raise NotImplementedError("batch_dims")
    axis %= x.ndim
    flat = x.index_select(axis, indices.remainder(x.shape[axis]).flatten())
    return flat.reshape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


@operator("gather_along_axis")
def _gather_along_axis(given: Arguments) -> Tensor:
    x, axis = given["x"], given.constant("axis", 0)
    return torch.gather(x, axis, given["indices"].to(torch.int64).remainder(x.shape[axis]))


@operator("fill")
def _fill(given: Arguments) -> Tensor:
    return given["value"].expand(given.integers("shape")).clone()


@operator("reverse")
def _reverse(given: Arguments) -> Tensor:
    x = given["x"]
    return x.flip(given.integers("axes") if given.constant("axes") is not None else list(range(x.ndim)))


@operator("flatten2d")
def _flatten(given: Arguments) -> Tensor:
    x, axis = given["x"], given.constant("axis", 1)
    return x.reshape(int(np.prod(x.shape[:axis], dtype=int)), -1)


@operator("pixel_shuffle")
def _pixel_shuffle(given: Arguments) -> Tensor:
    return F.pixel_shuffle(given["x"], given.constant("upscale_factor"))


@operator("pixel_unshuffle")
def _pixel_unshuffle(given: Arguments) -> Tensor:
    return F.pixel_unshuffle(given["x"], given.constant("downscale_factor"))


@operator("depth_to_space")
def _depth_to_space(given: Arguments) -> Tensor:
    x, block = given["x"], given.constant("block_size")
    batch, channels, height, width = x.shape
    blocks = x.reshape(batch, block, block, channels // block**2, height, width)
    return blocks.permute(0, 3, 4, 1, 5, 2).reshape(batch, channels // block**2, height * block, width * block)


@operator("space_to_depth")
def _space_to_depth(given: Arguments) -> Tensor:
    x, block = given["x"], given.constant("block_size")
    batch, channels, height, width = x.shape
    blocks = x.reshape(batch, channels, height // block, block, width // block, block)
    return blocks.permute(0, 3, 5, 1, 2, 4).reshape(batch, channels * block**2, height // block, width // block)
