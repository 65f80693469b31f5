"""The process in which Core AI runs a model: Apple's runtime ends a process that gives it a damaged file.

It also prints as it likes, and may end the process when Python winds up or an event loop closes while it works. An
inference is a coroutine; the event loop is that of the whole process.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from p3m_edge import arrays
from p3m_edge.errors import missing_package
from p3m_edge.workers.child import serve

FUNCTION = "main"


@dataclass(frozen=True)
class PackedArray:
    """An array, or what a model says about one: then without data, and ``None`` is a side that is open."""

    dtype: str
    shape: tuple[int | None, ...]
    data: bytes = b""


@dataclass(frozen=True)
class Signature:
    """The inputs and outputs of a model."""

    inputs: dict[str, PackedArray]
    outputs: dict[str, PackedArray]


def pack(array: arrays.Array) -> PackedArray:
    """An array as a message has it."""
    return PackedArray(array.dtype.name, array.shape, array.tobytes())


def unpack(array: PackedArray) -> arrays.Array:
    """And back; it can be written to."""
    shape = [side or 0 for side in array.shape]
    return np.frombuffer(bytearray(array.data), array.dtype).reshape(shape)


class Model:
    """The operations of this worker: load a model once, then run inferences."""

    def __init__(self) -> None:
        self._loop = asyncio.Runner()
        self._function: Any = None

    def load(self, path: str) -> Signature:
        """Load the model.

        Raises
        ------
        MissingError
            The libraries of Core AI cannot be loaded.
        Exception
            Whatever Core AI raises; it has no errors of its own.
        """
        try:
            from coreai.authoring import AIModelAsset
        except (ImportError, OSError) as error:
            raise missing_package("coreai", "coreai", error) from error

        async def load() -> Any:
            async with AIModelAsset.load(Path(path)).executable() as model:
                return model.load_function(FUNCTION)  # what was written to run it is read, and gone

        self._function = self._loop.run(load())
        about = self._function.desc
        return Signature(
            {name: _described(about.input_descriptor(name)) for name in about.input_names},
            {name: _described(about.output_descriptor(name)) for name in about.output_names},
        )

    def infer(self, inputs: dict[str, PackedArray], outputs: tuple[str, ...]) -> dict[str, PackedArray]:
        """The outputs that are asked for."""
        from coreai import runtime

        given: Any = {name: runtime.NDArray(unpack(array)) for name, array in inputs.items()}

        async def run() -> Any:
            return await self._function(given)

        found = self._loop.run(run())
        return {name: pack(found[name].numpy()) for name in outputs}


def _described(descriptor: Any) -> PackedArray:
    return PackedArray(descriptor.dtype, tuple(descriptor.shape))


if __name__ == "__main__":
    model = Model()
    try:
        serve({"load": model.load, "infer": model.infer})
    finally:
        os._exit(0)  # Core AI's threads do not bear that Python winds up under them
