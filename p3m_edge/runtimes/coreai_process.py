"""The process in which Core AI runs a model: ``python -m p3m_edge.runtimes.coreai_process``.

Its runtime ends the process that gives it a damaged file, prints as it likes, and may end it when Python does. So that
process is not the app's. Parent and process send each other messages, each behind its length; what goes wrong in an
orderly way is an answer too. An inference is a coroutine, and the event loop is that of the whole process.
"""

from __future__ import annotations

import asyncio
import os
import signal
import struct
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

FUNCTION = "main"
_LENGTH = struct.Struct("<Q")
_T = TypeVar("_T")


@dataclass(frozen=True)
class Array:
    """An array, or what a model says about one: then without data, and ``None`` is a side that is open."""

    dtype: str
    shape: tuple[int | None, ...]
    data: bytes = b""


@dataclass(frozen=True)
class Inference:
    """What to run, and which outputs to give back."""

    inputs: dict[str, Array]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """Inputs and outputs of the model after loading it, outputs after an inference; or why there are none.

    ``missing``: Core AI cannot be imported.
    """

    failure: str | None = None
    missing: bool = False
    inputs: dict[str, Array] = field(default_factory=dict)
    outputs: dict[str, Array] = field(default_factory=dict)


def send(stream: IO[bytes], message: object) -> None:
    """Write a message."""
    packed = msgspec.msgpack.encode(message)
    stream.write(_LENGTH.pack(len(packed)))
    stream.write(packed)
    stream.flush()


def receive(stream: IO[bytes], kind: type[_T]) -> _T:
    """Read a message.

    Raises
    ------
    EOFError
        Nobody writes any more.
    """
    head = stream.read(_LENGTH.size)
    packed = stream.read(_LENGTH.unpack(head)[0]) if len(head) == _LENGTH.size else b""
    if not packed:
        raise EOFError
    return msgspec.msgpack.decode(packed, type=kind)


def pack(array: NDArray[Any]) -> Array:
    """An array as a message has it."""
    return Array(array.dtype.name, array.shape, array.tobytes())


def unpack(array: Array) -> NDArray[Any]:
    """And back; it can be written to."""
    shape = [side or 0 for side in array.shape]
    return np.frombuffer(bytearray(array.data), array.dtype).reshape(shape)


async def serve(orders: IO[bytes], answers: IO[bytes]) -> None:
    """Load the model whose path is the first message, then run each inference that is asked for."""
    path = Path(receive(orders, str))
    try:
        from coreai import runtime
        from coreai.authoring import AIModelAsset
    except (ImportError, OSError) as error:
        send(answers, Answer(_line(error), missing=True))
        return
    try:
        async with AIModelAsset.load(path).executable() as model:
            function = model.load_function(FUNCTION)
        # What was written to run it is read, and gone.
        about = function.desc
        inputs = {name: _described(about.input_descriptor(name)) for name in about.input_names}
        outputs = {name: _described(about.output_descriptor(name)) for name in about.output_names}
        send(answers, Answer(inputs=inputs, outputs=outputs))
    except Exception as error:  # noqa: BLE001 - Core AI has no errors of its own
        send(answers, Answer(_line(error)))
        return
    while True:
        order = receive(orders, Inference)
        try:
            given: Any = {name: runtime.NDArray(unpack(array)) for name, array in order.inputs.items()}
            found: Any = await function(given)
            answer = Answer(outputs={name: pack(found[name].numpy()) for name in order.outputs})
        except Exception as error:  # noqa: BLE001 - likewise
            answer = Answer(_line(error))
        send(answers, answer)


def _described(descriptor: Any) -> Array:
    return Array(descriptor.dtype, tuple(descriptor.shape))


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def main() -> None:
    """Serve until the parent closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing but answers may reach the parent
    try:
        asyncio.run(serve(sys.stdin.buffer, answers))
    except (EOFError, BrokenPipeError):
        pass
    finally:
        os._exit(0)  # Core AI's threads do not bear that Python winds up under them


if __name__ == "__main__":
    main()
