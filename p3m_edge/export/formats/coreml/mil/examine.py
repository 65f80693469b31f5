"""What can be said about any Core ML package without a Mac: whether it can be interpreted, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p3m_edge.errors import P3MEdgeError
from p3m_edge.export.formats.coreml.mil.interpreter import Interpreter, Overflow, unknown_operators
from p3m_edge.export.formats.coreml.mil.lint import Advice, advice
from p3m_edge.export.formats.coreml.mil.package import Package, read

_SEED = 20211021


@dataclass(frozen=True)
class OutputDifference:
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
    overflows: tuple[Overflow, ...] = ()
    headroom: float | None = None
    advice: tuple[Advice, ...] = ()

    @property
    def sound(self) -> bool:
        """Whether it ran, and nothing overflowed."""
        return not (self.unknown or self.failure or self.overflows)


def examine(path: Path) -> tuple[FunctionReport, ...]:
    """Interpret every function of a ``*.mlpackage`` on noise, in both modes.

    Raises
    ------
    MissingError, ArtefactError
        As :func:`p3m_edge.export.formats.coreml.mil.package.read`.
    """
    package = read(path)
    return tuple(_function(package, name) for name in package.functions)


def _function(package: Package, name: str) -> FunctionReport:
    operations = list(package.program.functions[name].operations)
    report = FunctionReport(name, unknown=unknown_operators(operations), advice=advice(operations))
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


def _difference(name: str, exact: NDArray[Any], typed: NDArray[Any]) -> OutputDifference:
    difference = np.abs(exact.astype(np.float64) - typed)
    return OutputDifference(name, float(difference.mean()), float(difference.max()))
