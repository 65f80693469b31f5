"""What the operators of an ML Program are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

Constant = Any
"""A number, a string, a boolean or a list of numbers, by the operator and the option."""


class Arguments:
    """The inputs of one operation by name: tensors that were computed, and constants."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = values

    def __getitem__(self, name: str) -> Tensor:
        """As a tensor."""
        return tensor(self._values[name])

    def maybe(self, name: str) -> Tensor | None:
        """As a tensor, if it was given."""
        return self[name] if self._values.get(name) is not None else None

    def many(self, name: str) -> list[Tensor]:
        """A tuple of tensors."""
        values = self._values[name]
        assert isinstance(values, list)
        return [tensor(value) for value in values]

    def constant(self, name: str, default: Constant = None) -> Constant:
        """As a number, a string, a boolean or a list of numbers."""
        value = self._values.get(name)
        if value is None:
            return default
        return value.tolist() if isinstance(value, (Tensor, np.ndarray, np.generic)) else value

    def integers(self, name: str) -> list[int]:
        """As a list of integers, also from one number."""
        value = self.constant(name)
        return [int(each) for each in (value if isinstance(value, list) else [value])]

    def axes(self, name: str) -> list[int]:
        """Axes of the operand ``x``, counted from the first one; all where they are not given."""
        rank = self["x"].ndim
        given = self.integers(name) if self.constant(name) is not None else range(rank)
        return [axis % rank for axis in given]


Handler = Callable[[Arguments], Tensor | Sequence[Tensor]]
"""Computes an operator: gives a tensor, or several where the operator has several results."""


def tensor(value: object) -> Tensor:
    """A tensor as it is, a constant as a tensor; half precision becomes float32."""
    if isinstance(value, Tensor):
        return value
    array = np.asarray(value)
    if array.dtype.kind == "f":
        array = array.astype(np.float32)
    elif array.dtype == np.uint16:
        array = array.astype(np.int32)
    return torch.from_numpy(array.copy() if not array.flags.writeable or array.ndim == 0 else array)


def flat_padding(pairs: Sequence[tuple[int, int]]) -> list[int]:
    """Before and after each axis as PyTorch wants them: the last axis first."""
    return [side for pair in reversed(pairs) for side in pair]
