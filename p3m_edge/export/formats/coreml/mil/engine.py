"""The interpreter behind the contract of the engines: for verification, where Core ML is not."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p3m_edge.arrays import Array
from p3m_edge.export.formats import Headroom
from p3m_edge.export.formats.coreml.mil.interpreter import Interpreter
from p3m_edge.export.formats.coreml.mil.package import read, require
from p3m_edge.manifest import Manifest
from p3m_edge.runtimes.contract import EngineInfo, Images, Loaded, Outputs, mismatch
from p3m_edge.runtimes.engine import Engine

NAME = "interpreter"


def interpret(manifest: Manifest, folder: Path, headroom: Headroom | None = None, *, sequence: bool = False) -> Engine:
    """A Core ML artefact with the interpreter at work, every result rounded as the program types it.

    ``headroom`` is told of each inference; ``sequence`` is that of :class:`~p3m_edge.runtimes.contract.EngineOptions`.

    Raises
    ------
    ArtefactError, P3MEdgeError
        The package is damaged, or is not what the manifest says; it has operators that are not known.
    """
    model = folder / manifest.model_file
    interpreter = Interpreter(read(model), manifest.function)
    record = manifest.input
    expected = {record.name: (1, 3, record.height, record.width)}
    if interpreter.inputs != expected:
        raise mismatch(model, f"its inputs are {interpreter.inputs}")
    if not {output.name for output in manifest.outputs} <= interpreter.outputs:
        raise mismatch(model, f"its outputs are {', '.join(sorted(interpreter.outputs))}")

    states: dict[str, Array] = {}

    def run(images: Images, outputs: tuple[str, ...]) -> Outputs:
        result = interpreter.run({record.name: as_image(images)}, "typed", states)
        if headroom is not None and result.largest_at:
            headroom.note(result.headroom, result.largest_at)
        if sequence:
            states.update(result.states)
        return {name: result.outputs[name] for name in outputs}

    info = EngineInfo(
        NAME, require().__version__, "program", platform.processor() or platform.machine(), "graph", "latency", None, 1,
        "none",
    )  # fmt: skip
    return Engine(manifest, Loaded(info, (run,), states.clear))


def as_image(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8 ``[1, H, W, 3]`` as the program gets an image: float32 ``[1, 3, H, W]``, 0..255."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32)
