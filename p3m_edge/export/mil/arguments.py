"""What the operators of an ML Program are given, and the tables that they are entered into."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
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
"""Computes an operator: gives a tensor, or several where the operator has several results."""


def entering(table: dict[str, Handler]) -> Callable[[str], Callable[[Handler], Handler]]:
    """A decorator that enters functions into a table, by the operator's name in MIL."""

    def operator(name: str) -> Callable[[Handler], Handler]:
        def enter(function: Handler) -> Handler:
            table[name] = function
            return function

        return enter

    return operator


def tensor(value: Any) -> Tensor:
    """A constant as a tensor; half precision becomes float32."""
    array = np.asarray(value)
    if array.dtype.kind == "f":
        array = array.astype(np.float32)
    elif array.dtype == np.uint16:
        array = array.astype(np.int32)
    return torch.from_numpy(array.copy() if not array.flags.writeable or array.ndim == 0 else array)
