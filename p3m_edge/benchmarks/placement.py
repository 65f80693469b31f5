"""Core ML's compute plan: where it means to run each operator, and what share of the work that is.

Asked for on a Mac (macOS 14.4 or newer). Not run on a device.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from p3m_edge.benchmarks.statistics import Share
from p3m_edge.runtimes.engines import coreml
from p3m_edge.temporary import temporary_folder

Device = Literal["CPU", "GPU", "NE"]
NEURAL_ENGINE: Device = "NE"
_DEVICES: dict[str, Device] = {
    "MLCPUComputeDevice": "CPU", "MLGPUComputeDevice": "GPU", "MLNeuralEngineComputeDevice": "NE",
}  # fmt: skip
_ROUNDING = 1e-2  # of the shares of some hundred operators, added up


@dataclass(frozen=True)
class Operator:
    """One operation of the program; None: Core ML does not say.

    Attributes
    ----------
    name, kind
        Of its first output, and the operator's as Core ML calls it (``ios16.conv``).
    device, supported
        What Core ML prefers, and what could run it, of the units that were allowed.
    cost
        Its estimated share of the work.
    """

    name: str
    kind: str
    device: Device | None
    supported: tuple[Device, ...]
    cost: Share | None


@dataclass(frozen=True)
class Placement:
    """Every operation but the constants, in order; without any, ``reason`` says why."""

    operators: tuple[Operator, ...]
    reason: str | None = None


def plan(package: Path, unit: str, function: str | None = None) -> Placement:
    """Ask Core ML for its plan; an error becomes the reason for having none.

    Parameters
    ----------
    package, function
        The ``*.mlpackage``, which is compiled into a temporary folder, and one of several functions in it.
    unit
        What may do the work: a key of :data:`p3m_edge.runtimes.engines.coreml.UNITS`.

    Raises
    ------
    MissingError
        This is no Mac, or coremltools is absent.
    """
    coremltools = coreml.require()
    try:
        plans = importlib.import_module("coremltools.models.compute_plan")
        with temporary_folder() as folder:
            compiled = coremltools.models.utils.compile_model(str(package), str(folder / "model.mlmodelc"))
            units = coremltools.ComputeUnit[coreml.UNITS[unit.upper()]]
            found = plans.MLComputePlan.load_from_path(path=compiled, compute_units=units)
            return Placement(tuple(_operators(found, function)))
    except Exception as error:  # noqa: BLE001 - an older macOS or coremltools, or Core ML's own
        return Placement((), " ".join(f"{type(error).__name__}: {error}".split()))


def _operators(found: Any, function: str | None) -> Iterator[Operator]:
    for operation in found.model_structure.program.functions[function or "main"].block.operations:
        if operation.operator_name.rpartition(".")[2] == "const":
            continue
        usage = found.get_compute_device_usage_for_mlprogram_operation(operation)
        cost = found.get_estimated_cost_for_mlprogram_operation(operation)
        supported = [] if usage is None else map(_device, usage.supported_compute_devices)
        yield Operator(
            name=operation.outputs[0].name if operation.outputs else "",
            kind=operation.operator_name,
            device=None if usage is None else _device(usage.preferred_compute_device),
            supported=tuple(device for device in supported if device is not None),
            cost=None if cost is None else float(cost.weight),
        )


def _device(found: object) -> Device | None:
    return _DEVICES.get(type(found).__name__)


def problems(placement: Placement) -> Iterator[str]:
    """How a plan that was read from a file contradicts itself."""
    if bool(placement.operators) == (placement.reason is not None):
        yield "a compute plan needs operators, or a reason for having none"
    if math.fsum(operator.cost or 0.0 for operator in placement.operators) > 1 + _ROUNDING:
        yield "the costs of its compute plan are no shares"
