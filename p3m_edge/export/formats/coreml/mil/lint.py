"""What Apple's published rules say about a program and the Neural Engine: advice, found without a device.

The rules are those of Apple's ``neural_engine_rules.md`` (apple/coreai-models), of its research note on transformers
for the Neural Engine, and of the compute plans that were published for whole models. Which operator really runs where
is for the device to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from p3m_edge.export.formats.coreml.mil.interpreter import computing, numpy_type

_SHOWN = 3
_MAX_RANK = 5
_PLAIN = 6**8  # divided by every stride that has the factors 2 and 3 alone
_GATHERING = ("gather", "gather_along_axis", "gather_nd", "scatter", "scatter_nd")


@dataclass(frozen=True)
class Advice:
    """One rule that operations of a program do not keep: how many they are, and some of them by name."""

    rule: str
    count: int
    examples: tuple[str, ...]


def advice(operations: Iterable[Any]) -> tuple[Advice, ...]:
    """The rules that operations of a function do not keep, in the order of :data:`RULES`."""
    known = computing(operations)
    broken = {rule: [each.name for each in known if breaks(each)] for rule, breaks in RULES.items()}
    return tuple(Advice(rule, len(names), tuple(names[:_SHOWN])) for rule, names in broken.items() if names)


def _list(operation: Any, name: str, *kinds: str) -> list[int]:
    """A constant of an operation, if that is of one of these kinds."""
    var = getattr(operation, name, None) if operation.op_type in kinds else None
    return [] if var is None or var.val is None else [int(side) for side in np.atleast_1d(var.val)]


def _open(operation: Any) -> bool:
    return any(not isinstance(side, (int, np.integer)) for var in operation.outputs for side in var.shape)


def _large_kernel(operation: Any) -> bool:
    if operation.op_type != "conv":
        return False
    return bool(max(operation.weight.shape[2:]) > 5 and max(operation.x.shape[2:]) >= 256)


def _pad_axes(operation: Any) -> bool:
    pad = _list(operation, "pad", "pad")
    return sum(bool(before or after) for before, after in zip(pad[::2], pad[1::2], strict=True)) > 1


def _thin(operation: Any) -> bool:
    shape = operation.outputs[0].shape
    return operation.op_type in ("matmul", "linear", "softmax") and bool(shape) and shape[-1] < 32


def _upsampling(operation: Any) -> bool:
    if not operation.op_type.startswith("upsample_"):
        return False
    factors = (getattr(operation, f"scale_factor_{side}", None) for side in ("height", "width"))
    return any(var is not None and float(var.val) >= 8 for var in factors)


RULES: dict[str, Callable[[Any], bool]] = {
    "float32 leaves the Neural Engine, which computes in half precision and 8-bit integers": (
        lambda each: each.op_type != "cast" and any(numpy_type(var) == np.float32 for var in each.outputs)
    ),
    "a rank above 5 is not supported": lambda each: any(len(var.shape) > _MAX_RANK for var in each.outputs),
    "open sizes keep a program off the Neural Engine": _open,
    "pooling runs with a stride of 2 or 4": (
        lambda each: not {1, 2, 4}.issuperset(_list(each, "strides", "max_pool", "avg_pool"))
    ),
    "a convolution's stride has the factors 2 and 3 alone": (
        lambda each: any(_PLAIN % side for side in _list(each, "strides", "conv"))
    ),
    "a kernel above 5 on a large map is slow": _large_kernel,
    "gathering and scattering ran on the processor in published compute plans": (
        lambda each: each.op_type in _GATHERING
    ),
    "padding of several axes at once ran on the processor in published compute plans": _pad_axes,
    "a last axis below 32 wastes memory: it is padded to 64 bytes": _thin,
    "upsampling by 8 or more in one step has pushed programs to the processor": _upsampling,
}
"""By what is said of it: whether an operation breaks the rule."""
