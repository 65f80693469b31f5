"""What can be said about any Core ML package without a Mac: whether it can be interpreted, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p3m_edge.errors import P3MEdgeError
from p3m_edge.export.mil.interpreter import Interpreter, Overflow, unknown_operators
from p3m_edge.export.mil.lint import Advice, advice
from p3m_edge.export.mil.package import Package, read

_SEED = 20211021


@dataclass(frozen=True)
class OutputError:
    """How far an output in the program's precision is from the same in float32, for one input: mean and largest."""

    name: str
    mean: float
    largest: float


@dataclass(frozen=True)
class FunctionReport:
    """One function of a package.

    Attributes
    ----------
    inputs
        Names and shapes; None: an open size.
    operators
        How often each occurs.
    unknown
        Those that the interpreter does not know: the function was not run.
    failure
        Why it could not be run otherwise.
    outputs
        What rounding does to each.
    overflows
        Results that half precision cannot hold.
    headroom
        How many times larger all results could be before one overflows; None without half precision.
    advice
        What Apple's rules say about the Neural Engine.
    """

    name: str
    inputs: dict[str, tuple[int | None, ...]]
    operators: dict[str, int]
    unknown: tuple[str, ...]
    failure: str | None
    outputs: tuple[OutputError, ...]
    overflows: tuple[Overflow, ...]
    headroom: float | None
    advice: tuple[Advice, ...]

    @property
    def sound(self) -> bool:
        """Whether it ran, and nothing overflowed."""
        return not (self.unknown or self.failure or self.overflows)


def examine(path: Path, tell: Callable[[str], None] = lambda name: None) -> tuple[FunctionReport, ...]:
    """Interpret every function of a package on noise, in both modes.

    Parameters
    ----------
    path
        A ``*.mlpackage``.
    tell
        Told of each function before it is run.

    Raises
    ------
    MissingError, ArtefactError
        As :func:`p3m_edge.export.mil.package.read`.
    """
    package = read(path)
    reports = []
    for name in package.functions:
        tell(name)
        reports.append(_function(package, name))
    return tuple(reports)


def _function(package: Package, name: str) -> FunctionReport:
    operations = list(package.program.functions[name].operations)
    said = advice(operations)
    unknown = unknown_operators(operations)
    if unknown:
        return FunctionReport(name, {}, {}, unknown, None, (), (), None, said)
    interpreter = Interpreter(package, name)
    images = {each.name for each in package.specification.description.input if each.type.HasField("imageType")}
    failure: str | None = None
    outputs: tuple[OutputError, ...] = ()
    overflows: tuple[Overflow, ...] = ()
    headroom: float | None = None
    try:
        given = {name: _noise(shape, image=name in images) for name, shape in interpreter.inputs.items()}
        exact, typed = interpreter.run(given, "exact"), interpreter.run(given, "typed")
        outputs = tuple(_error(name, exact.outputs[name], typed.outputs[name]) for name in exact.outputs)
        overflows, headroom = exact.overflows, exact.headroom if exact.largest_at else None
    except P3MEdgeError as error:
        failure = str(error)
    return FunctionReport(
        name, interpreter.inputs, interpreter.operators, (), failure, outputs, overflows, headroom, said
    )  # fmt: skip


def _noise(shape: tuple[int | None, ...], *, image: bool) -> NDArray[np.float32]:
    sides = tuple(side for side in shape if side is not None)
    if len(sides) < len(shape):
        raise P3MEdgeError("an input has an open size, and is not run")
    generator = np.random.default_rng(_SEED)
    values = generator.integers(0, 256, sides) if image else generator.random(sides)
    return values.astype(np.float32)


def _error(name: str, exact: NDArray[Any], typed: NDArray[Any]) -> OutputError:
    difference = np.abs(exact.astype(np.float64) - typed)
    return OutputError(name, float(difference.mean()), float(difference.max()))
