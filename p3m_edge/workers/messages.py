"""The messages between a parent and its worker: MessagePack, each behind its length."""

from __future__ import annotations

import struct
from typing import IO, Any, TypeVar

import msgspec

PATIENCE = 10.0
"""Seconds that a worker has to end by itself when its parent has closed the pipe."""
_LENGTH = struct.Struct("<Q")
_LARGEST = 2**32  # bytes: what is said to be longer is no message
_T = TypeVar("_T")


class Request(msgspec.Struct, frozen=True):
    """An operation to run, with its keyword arguments."""

    operation: str
    arguments: dict[str, Any]


class Progress(msgspec.Struct, frozen=True, tag=True):
    """Of a running operation: the share that is done (0..1), or a remark (``share`` is None)."""

    text: str
    share: float | None = None


class Result(msgspec.Struct, frozen=True, tag=True):
    """What an operation returned."""

    value: Any


class Failure(msgspec.Struct, frozen=True, tag=True):
    """The exception that an operation raised: name of its class, message, hint and exit code."""

    error: str
    message: str
    hint: str | None
    exit_code: int


Answer = Progress | Result | Failure


def send(stream: IO[bytes], message: Request | Answer) -> None:
    """Write a message."""
    packed = msgspec.msgpack.encode(message)
    stream.write(_LENGTH.pack(len(packed)))
    stream.write(packed)
    stream.flush()


def receive(stream: IO[bytes], kind: type[_T]) -> _T:
    """Read a message of that type.

    Raises
    ------
    EOFError
        Nobody writes any more.
    msgspec.MsgspecError
        What was written is no message.
    """
    head = stream.read(_LENGTH.size)
    size = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else 0
    packed = stream.read(size) if size <= _LARGEST else b""
    if len(head) < _LENGTH.size or len(packed) < size <= _LARGEST:
        raise EOFError
    return msgspec.msgpack.decode(packed, type=kind)
