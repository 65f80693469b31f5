"""An ML Program run operator by operator, where Core ML cannot run.

Two modes. ``exact``: all floating-point values are float32, whatever the program says; it proves the graph. ``typed``:
every result that the program types as half precision is rounded to it, and what overflows is listed; it shows what half
precision costs. Neither shows what a device does: its order of sums, its internal precision, its compiler.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from p3m_edge.arrays import Array
from p3m_edge.errors import ArtefactError, P3MEdgeError
from p3m_edge.export.formats.coreml.mil import arithmetic, layers, shaping
from p3m_edge.export.formats.coreml.mil.arguments import Arguments, Handler, tensor
from p3m_edge.export.formats.coreml.mil.package import Operation, Package, Var
from p3m_edge.export.quiet import quiet

OPERATORS: dict[str, Handler] = {**arithmetic.TABLE, **layers.TABLE, **shaping.TABLE}
"""What the operators compute, by their names in MIL and as coremltools' reference states it, in float32 throughout."""
MOVING = frozenset(shaping.TABLE)
"""Operators that move values, and give none that was not there."""
Mode = Literal["exact", "typed"]
HALF_MAX = 65504.0
"""The largest number in half precision."""
_CONSTANT, _COMPRESSED = "const", "constexpr_"
_TYPES = {"f": torch.float32, "i": torch.int32, "u": torch.int32, "b": torch.bool}
_KINDS = {"f": "float", "i": "int", "u": "int", "b": "bool"}


@dataclass(frozen=True)
class Magnitude:
    """The largest magnitude of a result that is typed as half precision: which operation has it, and its operator."""

    name: str
    op_type: str
    largest: float


@dataclass(frozen=True)
class Interpretation:
    """What a run gave: outputs and states by name, float32 where the program has floating-point numbers of any width.

    ``overflows`` are results typed as half precision beyond its range, in both modes. ``largest`` is the largest
    magnitude among all that are computed and not just moved, 0 without any; the operation ``largest_at`` has it.
    """

    outputs: dict[str, Array]
    states: dict[str, Array]
    overflows: tuple[Magnitude, ...]
    largest: float
    largest_at: str

    @property
    def headroom(self) -> float:
        """How many times larger all results could be before one overflows."""
        return HALF_MAX / self.largest if self.largest else math.inf


class Interpreter:
    """One function of a package by its name; None: the default one.

    Raises
    ------
    ArtefactError
        There is no such function.
    P3MEdgeError
        It has operators that are not known here; the message names them all.
    """

    def __init__(self, package: Package, function: str | None = None) -> None:
        name = function or package.functions[0]
        if name not in package.functions:
            raise ArtefactError(
                f"{package.path} has no function {name!r}", hint=f"it has {', '.join(package.functions)}"
            )
        self._function = package.program.functions[name]
        self._operations = list(self._function.operations)
        unknown = unknown_operators(self._operations)
        if unknown:
            raise P3MEdgeError(
                f"{package.path.name} cannot be interpreted: {', '.join(unknown)}",
                hint="these operators are not known here; it may still run on a device",
            )
        self._constants: dict[str, object] = {}
        self._uses = Counter(var.name for each in self._operations for var in _sources(each))

    @property
    def inputs(self) -> dict[str, tuple[int | None, ...]]:
        """Names and shapes of the inputs, states aside; None: an open size."""
        return {name: _shape(var) for name, var in self._function.inputs.items() if not _is_state(var)}

    @property
    def outputs(self) -> frozenset[str]:
        """Names of the outputs."""
        return frozenset(var.name for var in self._function.outputs)

    @property
    def operators(self) -> dict[str, int]:
        """How often each operator occurs; constants are none."""
        return dict(Counter(each.op_type for each in self._operations if each.op_type != _CONSTANT).most_common())

    def run(
        self,
        inputs: Mapping[str, Array],
        mode: Mode = "exact",
        states: Mapping[str, Array] | None = None,
        watch: Callable[[str, str, Array], None] | None = None,
    ) -> Interpretation:
        """Run it once.

        Parameters
        ----------
        inputs
            By name. Images are ``[1, 3, H, W]`` with values of 0 to 255, since their scale is in the program.
        mode
            ``exact`` or ``typed``.
        states
            What an earlier run gave; None: zeros.
        watch
            Told of every result: the operation's name, its operator, the values.

        Raises
        ------
        P3MEdgeError
            An input is missing or of another shape; an operator is used in a way that is not known here.
        ArtefactError
            A result has another shape or kind than the program says.
        """
        values = self._begin(inputs, states or {}, mode)
        left, magnitudes = Counter(self._uses), list[Magnitude]()
        held = {name: name for name, var in self._function.inputs.items() if _is_state(var)}
        kept = {*self.outputs, *held}
        with torch.inference_mode():
            for each in computing(self._operations):
                for var, result in zip(each.outputs, self._computed(each, values), strict=True):
                    _check(each, var, result)
                    half = result.is_floating_point() and numpy_type(var) == np.float16
                    if half and result.numel() and each.op_type not in MOVING:
                        magnitudes.append(Magnitude(each.name, each.op_type, float(result.abs().amax())))
                    values[var.name] = result.half().float() if half and mode == "typed" else result
                    if watch is not None:
                        watch(var.name, each.op_type, values[var.name].numpy())
                sources = _sources(each)
                if each.op_type == "coreml_update_state":
                    (state,) = (var for var in sources if var.name in held)
                    values[state.name] = values[each.outputs[0].name]
                for var in sources:
                    left[var.name] -= 1
                    if not left[var.name] and var.name not in kept:
                        values.pop(var.name, None)
        overflows = tuple(each for each in magnitudes if not each.largest <= HALF_MAX)  # also what is no number
        peak = max(
            magnitudes,
            key=lambda each: math.inf if math.isnan(each.largest) else each.largest,
            default=Magnitude("", "", 0.0),
        )
        return Interpretation(
            {var.name: tensor(self._value(var, values)).numpy() for var in self._function.outputs},
            {name: values[name].numpy() for name in held}, overflows, peak.largest, peak.name,
        )  # fmt: skip

    def _begin(self, inputs: Mapping[str, Array], states: Mapping[str, Array], mode: Mode) -> dict[str, Tensor]:
        """The inputs and states as tensors."""
        values: dict[str, Tensor] = {}
        for name, var in self._function.inputs.items():
            if _is_state(var):
                values[name] = tensor(states[name]) if name in states else torch.zeros(var.shape)
                continue
            if name not in inputs:
                raise P3MEdgeError(f"the input {name!r} is missing")
            value = tensor(inputs[name])
            if not _fits(value.shape, var):
                raise P3MEdgeError(f"the input {name!r} has the shape {list(value.shape)}, not {list(var.shape)}")
            value = value.to(_TYPES[numpy_type(var).kind])
            values[name] = value.half().float() if mode == "typed" and numpy_type(var) == np.float16 else value
        return values

    def _computed(self, operation: Operation, values: Mapping[str, Tensor]) -> Sequence[Tensor]:
        given: dict[str, object] = {}
        for name, value in operation.inputs.items():
            if isinstance(value, (list, tuple)):
                given[name] = [self._value(each, values) for each in value]
            else:
                given[name] = self._value(value, values)
        given |= {name: value for name, value in operation.default_inputs().items() if given.get(name) is None}
        try:
            result = OPERATORS[operation.op_type](Arguments(given))
        except NotImplementedError as error:
            raise P3MEdgeError(f"{operation.name}: {operation.op_type} with {error} is not known here") from error
        except Exception as error:  # PyTorch's and NumPy's, for arguments that they cannot take
            reason = " ".join(str(error).split()) or type(error).__name__
            raise P3MEdgeError(f"{operation.name}: {operation.op_type} cannot be computed: {reason}") from error
        return [result] if isinstance(result, Tensor) else result

    def _value(self, var: Var | None, values: Mapping[str, Tensor]) -> object:
        """A computed tensor, or a constant; weights are decompressed once and kept as tensors."""
        if var is None or var.name in values:
            return None if var is None else values[var.name]
        if var.name not in self._constants:
            value = var.val
            if var.op is not None and var.op.op_type.startswith(_COMPRESSED):
                with quiet(stderr=True):
                    value = var.op.materialized_val_inference()
            large = isinstance(value, np.ndarray) and value.ndim
            self._constants[var.name] = tensor(value) if large else value
        return self._constants[var.name]


def computing(operations: Iterable[Operation]) -> list[Operation]:
    """The operations that are no constants, plain or compressed."""
    return [each for each in operations if each.op_type != _CONSTANT and not each.op_type.startswith(_COMPRESSED)]


def unknown_operators(operations: Iterable[Operation]) -> tuple[str, ...]:
    """The operators that are not known here, by name."""
    return tuple(sorted({each.op_type for each in computing(operations)} - OPERATORS.keys()))


def _sources(operation: Operation) -> list[Var]:
    """The inputs of an operation, tuples opened."""
    found: list[Var | None] = []
    for value in operation.inputs.values():
        found.extend(value if isinstance(value, (list, tuple)) else [value])
    return [var for var in found if var is not None]


def _is_state(var: Var) -> bool:
    from coremltools.converters.mil.mil import types

    return bool(types.is_state(var.sym_type))


def numpy_type(var: Var) -> np.dtype[np.generic]:
    """The type of a value as NumPy has it."""
    from coremltools.converters.mil.mil import types

    found: np.dtype[np.generic] = np.dtype(types.nptype_from_builtin(var.dtype))
    return found


def _shape(var: Var) -> tuple[int | None, ...]:
    """The shape in the program, where open sizes are symbols; None stands for them."""
    return tuple(int(side) if isinstance(side, (int, np.integer)) else None for side in var.shape)


def _fits(shape: Sequence[int], var: Var) -> bool:
    """Whether a shape is the one of the program."""
    wanted = _shape(var)
    return len(shape) == len(wanted) and all(want in (None, size) for size, want in zip(shape, wanted, strict=True))


def _check(operation: Operation, var: Var, result: Tensor) -> None:
    """Raise an error where a result has not the shape and the kind that the program says."""
    kind = "bool" if result.dtype == torch.bool else "float" if result.is_floating_point() else "int"
    wanted = _KINDS[numpy_type(var).kind]
    if not _fits(result.shape, var) or kind != wanted:
        raise ArtefactError(
            f"{operation.name}: {operation.op_type} gives {kind} {list(result.shape)}, "
            f"and the program says {wanted} {list(var.shape)}"
        )
