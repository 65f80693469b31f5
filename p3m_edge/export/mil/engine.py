"""The interpreter behind the contract of the engines: for verification, where Core ML is not."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p3m_edge.export.mil.interpreter import Interpreter, Result
from p3m_edge.export.mil.package import read, require
from p3m_edge.manifest import Manifest
from p3m_edge.runtimes.contract import EngineInfo, EngineOptions, Images, Loaded, Outputs, mismatch
from p3m_edge.runtimes.engine import Engine, open_engine

NAME = "interpreter"


class Headroom:
    """How close results in half precision have come to overflow, over all inferences.

    Attributes
    ----------
    value
        How many times larger they could have been; None before the first inference, or without half precision.
    at
        The operation that came closest.
    """

    def __init__(self) -> None:
        self.value: float | None = None
        self.at = ""

    def note(self, result: Result) -> None:
        """Take a run into account."""
        if result.largest_at and (self.value is None or not result.headroom >= self.value):
            self.value, self.at = result.headroom, result.largest_at


def open_highest(
    manifest: Manifest, folder: Path, headroom: Headroom | None = None, *, sequence: bool = False
) -> tuple[Engine, Headroom]:
    """An artefact at the level that its manifest claims: on the device, or as a program."""
    if manifest.verified.level == "program":
        return interpret(manifest, folder, headroom, sequence=sequence)
    return open_engine(manifest, folder, EngineOptions(cache=False, sequence=sequence)), headroom or Headroom()


def interpret(
    manifest: Manifest, folder: Path, headroom: Headroom | None = None, *, sequence: bool = False
) -> tuple[Engine, Headroom]:
    """A Core ML artefact with the interpreter at work; what a headroom has noted before counts too."""
    headroom = headroom or Headroom()
    return Engine(manifest, load(manifest, folder / manifest.model_file, headroom, sequence=sequence)), headroom


def load(manifest: Manifest, model: Path, headroom: Headroom, *, sequence: bool = False) -> Loaded:
    """Read a package for interpretation, every result rounded as the program types it.

    ``sequence`` is that of :class:`~p3m_edge.runtimes.contract.EngineOptions`.

    Raises
    ------
    ArtefactError
        The package is damaged, or is not what the manifest says.
    P3MEdgeError
        It has operators that are not known.
    """
    interpreter = Interpreter(read(model), manifest.function)
    record = manifest.input
    expected = {record.name: (1, 3, record.height, record.width)}
    if interpreter.inputs != expected:
        raise mismatch(model, f"its inputs are {interpreter.inputs}")
    names = {output.name for output in manifest.outputs}
    if not names <= interpreter.outputs:
        raise mismatch(model, f"its outputs are {', '.join(sorted(interpreter.outputs))}")

    states: dict[str, NDArray[Any]] = {}

    def run(images: Images, outputs: tuple[str, ...]) -> Outputs:
        result = interpreter.run({record.name: as_image(images)}, "typed", states)
        headroom.note(result)
        if sequence:
            states.update(result.states)
        return {name: result.outputs[name] for name in outputs}

    info = EngineInfo(
        NAME, require().__version__, "program", platform.processor() or platform.machine(), "graph", "latency", None, 1,
        "none",
    )  # fmt: skip
    return Loaded(info, (run,), states.clear)


def as_image(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8 ``[1, H, W, 3]`` as the program gets an image: float32 ``[1, 3, H, W]``, 0..255."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32)
