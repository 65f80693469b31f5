"""What a builder of TensorRT engines is told and tells: one JSON document a line, over its pipes.

:mod:`p3m_edge.runtimes.tensorrt_builder` is at one end, :mod:`p3m_edge.runtimes.tensorrt_process` at the other.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from p3m_edge.records import Compatibility, Flavour
from p3m_edge.runtimes.cuda import Driver
from p3m_edge.targets import Precision

CURRENT = "current"
"""In place of a compute capability: the GPU that is here, whether the builder knows it or not."""
PATIENCE = 10.0
"""Seconds for a build that is called off to end by itself."""


class Shapes(msgspec.Struct, frozen=True):
    """The shapes of a dynamic input: smallest, tuned for, largest."""

    minimum: tuple[int, ...]
    optimum: tuple[int, ...]
    maximum: tuple[int, ...]


class Order(msgspec.Struct, frozen=True):
    """What to do: to build ``engine`` of ``onnx``, or, without one, to say what is here.

    ``fp32_nodes`` are the nodes that may be in float32 where the precision is half; ``compute_capabilities`` is empty
    where the library builds for the GPU that is here. ``timing_cache`` is a file.
    """

    flavour: Flavour
    onnx: str = ""
    engine: str = ""
    precision: Precision = "fp32"
    fp32_nodes: tuple[str, ...] = ()
    input: str = ""
    shapes: Shapes | None = None
    compute_capabilities: tuple[str, ...] = ()
    hardware_compatibility: Compatibility = "none"
    version_compatible: bool = False
    level: int | None = None
    workspace_mb: int | None = None
    timing_cache: str | None = None


class Here(msgspec.Struct, frozen=True, tag=True):
    """What is here of one flavour. ``problem`` says why it cannot build.

    ``version`` is None where it cannot be imported. ``compute_capabilities`` are those that it can build for ahead of
    time. Without a driver or a GPU, ``no_gpu`` says why.
    """

    version: str | None = None
    compute_capabilities: tuple[str, ...] = ()
    driver: Driver | None = None
    no_gpu: str | None = None
    problem: str | None = None


class Progress(msgspec.Struct, frozen=True, tag=True):
    """How far the build has come, as a share."""

    phase: str
    share: float


class Log(msgspec.Struct, frozen=True, tag=True):
    """A warning or an error in the library's words, or a remark in ours."""

    kind: Literal["library", "remark"]
    text: str


class Done(msgspec.Struct, frozen=True, tag=True):
    """The engine is there; how many layers give which type."""

    types: dict[str, int]


class Failure(msgspec.Struct, frozen=True, tag=True):
    """Why there is none; ``error`` is the name of a class of :mod:`p3m_edge.errors`."""

    error: str
    message: str
    hint: str | None


Message = Here | Progress | Log | Done | Failure
