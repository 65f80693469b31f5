"""What can be said about any Core ML package without a Mac: whether it can be interpreted, and what comes of it.

The advice is that of Apple's published rules for the Neural Engine: ``neural_engine_rules.md`` (apple/coreai-models),
the research note on transformers, and the compute plans that were published for whole models. Which operator really
runs where is for the device to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p3m_edge.arrays import Array
from p3m_edge.errors import P3MEdgeError
from p3m_edge.export.formats.coreml.mil.interpreter import (
    Interpreter,
    Magnitude,
    computing,
    numpy_type,
    unknown_operators,
)
from p3m_edge.export.formats.coreml.mil.package import Operation, Package, read

_SEED = 20211021
_SHOWN = 3
_MAX_RANK = 5
_PLAIN = 6**8  # divided by every stride that has the factors 2 and 3 alone
_GATHERING = ("gather", "gather_along_axis", "gather_nd", "scatter", "scatter_nd")


@dataclass(frozen=True)
class OutputDifference:
    """How far an output in the program's precision is from the same in float32, for one input: mean and largest."""

    name: str
    mean: float
    largest: float


@dataclass(frozen=True)
class Advice:
    """One rule that operations of a program do not keep: how many they are, and some of them by name."""

    rule: str
    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class FunctionReport:
    """One function of a package.

    Attributes
    ----------
    inputs
        Names and shapes; None: an open size.
    operators, unknown
        How often each occurs; those that the interpreter does not know: then the function was not run.
    failure
        Why it could not be run otherwise.
    outputs, overflows
        What rounding does to each, and results that half precision cannot hold.
    headroom
        How many times larger all results could be before one overflows; None without half precision.
    advice
        What Apple's rules say about the Neural Engine.
    """

    name: str
    inputs: dict[str, tuple[int | None, ...]] = field(default_factory=dict)
    operators: dict[str, int] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    failure: str | None = None
    outputs: tuple[OutputDifference, ...] = ()
    overflows: tuple[Magnitude, ...] = ()
    headroom: float | None = None
    advice: tuple[Advice, ...] = ()

    @property
    def sound(self) -> bool:
        """Whether it ran, and nothing overflowed."""
        return not (self.unknown or self.failure or self.overflows)


def examine(path: Path) -> tuple[FunctionReport, ...]:
    """Interpret every function of a ``*.mlpackage`` on noise, in both modes; it raises what ``package.read`` raises."""
    package = read(path)
    return tuple(_function(package, name) for name in package.functions)


def _function(package: Package, name: str) -> FunctionReport:
    operations = list(package.program.functions[name].operations)
    report = FunctionReport(name, unknown=unknown_operators(operations), advice=_advice(operations))
    if report.unknown:
        return report
    interpreter = Interpreter(package, name)
    report = replace(report, inputs=interpreter.inputs, operators=interpreter.operators)
    images = {each.name for each in package.specification.description.input if each.type.HasField("imageType")}
    try:
        given = {name: _noise(shape, image=name in images) for name, shape in interpreter.inputs.items()}
        exact, typed = interpreter.run(given, "exact"), interpreter.run(given, "typed")
    except P3MEdgeError as error:
        return replace(report, failure=str(error))
    outputs = tuple(_difference(name, exact.outputs[name], typed.outputs[name]) for name in exact.outputs)
    headroom = exact.headroom if exact.largest_at else None
    return replace(report, outputs=outputs, overflows=exact.overflows, headroom=headroom)


def _noise(shape: tuple[int | None, ...], *, image: bool) -> NDArray[np.float32]:
    sides = tuple(side for side in shape if side is not None)
    if len(sides) < len(shape):
        raise P3MEdgeError("an input has an open size, and is not run")
    generator = np.random.default_rng(_SEED)
    values = generator.integers(0, 256, sides) if image else generator.random(sides)
    return values.astype(np.float32)


def _difference(name: str, exact: Array, typed: Array) -> OutputDifference:
    difference = np.abs(exact.astype(np.float64) - typed)
    return OutputDifference(name, float(difference.mean()), float(difference.max()))


def _advice(operations: Iterable[Operation]) -> tuple[Advice, ...]:
    """The rules that operations of a function do not keep, in the order of :data:`RULES`."""
    known = computing(operations)
    broken = {rule: [each.name for each in known if breaks(each)] for rule, breaks in RULES.items()}
    return tuple(Advice(rule, len(names), tuple(names[:_SHOWN])) for rule, names in broken.items() if names)


def _numbers(operation: Operation, name: str, *kinds: str) -> list[float]:
    """A constant of an operation, if that is of one of these kinds."""
    value = getattr(operation, name, None) if operation.op_type in kinds else None
    return [] if value is None or value.val is None else [float(each) for each in np.atleast_1d(value.val)]


def _large_kernel(operation: Operation) -> bool:
    if operation.op_type != "conv":
        return False
    kernel, given = (getattr(operation, name).shape[2:] for name in ("weight", "x"))
    return bool(max(kernel) > 5 and max(given) >= 256)


def _pad_axes(operation: Operation) -> bool:
    pad = _numbers(operation, "pad", "pad")
    return sum(bool(before or after) for before, after in zip(pad[::2], pad[1::2], strict=True)) > 1


def _thin(operation: Operation) -> bool:
    shape = operation.outputs[0].shape
    return operation.op_type in ("matmul", "linear", "softmax") and bool(shape) and bool(shape[-1] < 32)


def _upsampling(operation: Operation) -> bool:
    kinds = [operation.op_type] if operation.op_type.startswith("upsample_") else []
    return any(
        factor >= 8 for side in ("height", "width") for factor in _numbers(operation, f"scale_factor_{side}", *kinds)
    )


RULES: dict[str, Callable[[Operation], bool]] = {
    "float32 leaves the Neural Engine, which computes in half precision and 8-bit integers": (
        lambda each: each.op_type != "cast" and any(numpy_type(var) == np.float32 for var in each.outputs)
    ),
    "a rank above 5 is not supported": lambda each: any(len(var.shape) > _MAX_RANK for var in each.outputs),
    "open sizes keep a program off the Neural Engine": (
        lambda each: any(not isinstance(side, (int, np.integer)) for var in each.outputs for side in var.shape)
    ),
    "pooling runs with a stride of 2 or 4": (
        lambda each: not {1, 2, 4}.issuperset(_numbers(each, "strides", "max_pool", "avg_pool"))
    ),
    "a convolution's stride has the factors 2 and 3 alone": (
        lambda each: any(_PLAIN % side for side in _numbers(each, "strides", "conv"))
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
