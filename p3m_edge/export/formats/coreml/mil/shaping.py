"""Operators of an ML Program that move values and change none."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from p3m_edge.export.formats.coreml.mil.arguments import Arguments, Handler, flat_padding


def _expand_dims(given: Arguments) -> Tensor:
    x, axes = given["x"], given.integers("axes")
    for axis in sorted(axis % (x.ndim + len(axes)) for axis in axes):
        x = x.unsqueeze(axis)
    return x


def _concat(given: Arguments) -> Tensor:
    values, axis = given.many("values"), given.constant("axis")
    if given.constant("interleave", False):
        axis %= values[0].ndim
        return torch.stack(values, axis + 1).flatten(axis, axis + 1)
    return torch.cat(values, axis)


def _split(given: Arguments) -> tuple[Tensor, ...]:
    x, axis, sizes = given["x"], given.constant("axis"), given.constant("split_sizes")
    return torch.split(x, x.shape[axis] // given.constant("num_splits") if sizes is None else sizes, axis)


def _slice_by_index(given: Arguments) -> Tensor:
    x = given["x"].numpy()  # PyTorch has no negative steps
    return torch.from_numpy(np.ascontiguousarray(x[_index(given, x.ndim)]))


def _slice_update(given: Arguments) -> Tensor:
    x = given["x"].numpy().copy()
    x[_index(given, x.ndim)] = given["update"].numpy()
    return torch.from_numpy(x)


def _index(given: Arguments, rank: int) -> tuple[int | slice, ...]:
    """Begin, end, stride and their masks as NumPy's index."""
    begin, end = given.integers("begin"), given.integers("end")
    steps = given.integers("stride") if given.constant("stride") is not None else [1] * rank
    masks = [given.constant(name) or [False] * rank for name in ("begin_mask", "end_mask", "squeeze_mask")]
    return tuple(
        first if one else slice(None if from_start else first, None if to_end else last, step)
        for first, last, step, from_start, to_end, one in zip(begin, end, steps, *masks, strict=True)
    )


def _crop(given: Arguments) -> Tensor:
    x, (top, bottom), (left, right) = given["x"], given.integers("crop_height"), given.integers("crop_width")
    return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]


def _slice_by_size(given: Arguments) -> Tensor:
    x = given["x"]
    for axis, (begin, size) in enumerate(zip(given.integers("begin"), given.integers("size"), strict=True)):
        first = begin % x.shape[axis] if begin < 0 else begin
        x = x.narrow(axis, first, x.shape[axis] - first if size == -1 else size)
    return x


def _pad(given: Arguments) -> Tensor:
    x, pad, mode = given["x"], given.integers("pad"), given.constant("mode", "constant")
    pairs = list(zip(pad[::2], pad[1::2], strict=True))
    if mode == "constant":
        return F.pad(x, flat_padding(pairs), value=given.constant("constant_val", 0.0))
    inner = [(0, 0)] * (x.ndim - len(pairs)) + pairs
    return torch.from_numpy(np.pad(x.numpy(), inner, "reflect" if mode == "reflect" else "edge"))


def _gather(given: Arguments) -> Tensor:
    x, indices, axis = given["x"], given["indices"].to(torch.int64), given.constant("axis", 0)
    if given.constant("batch_dims", 0):
        raise NotImplementedError("batch_dims")
    axis %= x.ndim
    flat = x.index_select(axis, indices.remainder(x.shape[axis]).flatten())
    return flat.reshape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


def _gather_along_axis(given: Arguments) -> Tensor:
    x, axis = given["x"], given.constant("axis", 0)
    return torch.gather(x, axis, given["indices"].to(torch.int64).remainder(x.shape[axis]))


def _depth_to_space(given: Arguments) -> Tensor:
    x, block = given["x"], given.constant("block_size")
    batch, channels, height, width = x.shape
    blocks = x.reshape(batch, block, block, channels // block**2, height, width)
    return blocks.permute(0, 3, 4, 1, 5, 2).reshape(batch, channels // block**2, height * block, width * block)


def _space_to_depth(given: Arguments) -> Tensor:
    x, block = given["x"], given.constant("block_size")
    batch, channels, height, width = x.shape
    blocks = x.reshape(batch, channels, height // block, block, width // block, block)
    return blocks.permute(0, 3, 5, 1, 2, 4).reshape(batch, channels * block**2, height // block, width // block)


TABLE: dict[str, Handler] = {
    "reshape": lambda given: given["x"].reshape(
        [size or given["x"].shape[axis] for axis, size in enumerate(given.integers("shape"))]
    ),
    "transpose": lambda given: given["x"].permute(given.integers("perm")),
    "expand_dims": _expand_dims,
    "squeeze": lambda given: given["x"].squeeze(tuple(given.axes("axes"))),
    "concat": _concat,
    "stack": lambda given: torch.stack(given.many("values"), given.constant("axis")),
    "split": _split,
    "slice_by_index": _slice_by_index,
    "slice_update": _slice_update,
    "crop": _crop,
    "slice_by_size": _slice_by_size,
    "pad": _pad,
    "tile": lambda given: given["x"].repeat(given.integers("reps")),
    "gather": _gather,
    "gather_along_axis": _gather_along_axis,
    "fill": lambda given: given["value"].expand(given.integers("shape")).clone(),
    "reverse": lambda given: given["x"].flip(given.axes("axes")),
    "flatten2d": lambda given: given["x"].reshape(math.prod(given["x"].shape[: given.constant("axis", 1)]), -1),
    "pixel_shuffle": lambda given: F.pixel_shuffle(given["x"], given.constant("upscale_factor")),
    "pixel_unshuffle": lambda given: F.pixel_unshuffle(given["x"], given.constant("downscale_factor")),
    "depth_to_space": _depth_to_space,
    "space_to_depth": _space_to_depth,
}
