"""The metadata of our checkpoints, read and verified by their digest without PyTorch.

The metadata of the safetensors file has one entry, ``p3m-edge``, a JSON object: the SHA-256 of the whole file with this
digest's own 64 characters replaced by zeros, the format's version, and what is known about the weights. Any changed
byte, in a tensor, a name, the licence or a space between them, changes the digest.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import msgspec

from p3m_edge.errors import CheckpointError
from p3m_edge.smallfile import parse_json

METADATA_KEY = "p3m-edge"
VERSION = 1
NO_DIGEST = "0" * 64
_MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors format


class _FileHeader(msgspec.Struct):
    """Of a safetensors file, without the tensors' entries."""

    metadata: dict[str, str] = msgspec.field(default_factory=dict, name="__metadata__")


@dataclass(frozen=True)
class Header:
    """Our metadata. The digest comes first, so that its first occurrence in the file is this one."""

    sha256: str
    version: int
    arch: str
    licence: str
    provenance: str
    trained: bool


def is_safetensors(data: bytes) -> bool:
    """Whether the bytes start as a safetensors file does: the length of a JSON header, then that header."""
    return data[8:9] == b"{" and int.from_bytes(data[:8], "little") <= _MAX_HEADER_BYTES


def read(data: bytes, name: str) -> Header | None:
    """The header of a checkpoint; None where the file is not one of ours.

    Parameters
    ----------
    data
        The whole file.
    name
        What to call it in an error.

    Raises
    ------
    CheckpointError
        The file is damaged, has been changed since it was written, or is of a later version.
    """
    if not is_safetensors(data):
        return None
    try:
        length = int.from_bytes(data[:8], "little")
        metadata = parse_json(data[8 : 8 + length], _FileHeader).metadata
    except msgspec.MsgspecError as error:
        raise CheckpointError(f"{name} is a damaged safetensors file: {error}") from error
    if METADATA_KEY not in metadata:
        return None
    try:
        header = parse_json(metadata[METADATA_KEY], Header)
    except msgspec.MsgspecError as error:
        raise CheckpointError(f"the metadata of {name} are damaged: {error}") from error
    if header.version > VERSION:
        raise CheckpointError(
            f"{name} has format version {header.version}; this version of p3m-edge reads {VERSION}",
            hint="upgrade p3m-edge",
        )
    if digest(data, header.sha256) != header.sha256:
        raise CheckpointError(f"{name} has been changed or damaged since it was written", hint="copy it again")
    return header


def digest(data: bytes, written: str) -> str:
    """SHA-256 of a file with the first occurrence of the digest that is written in it replaced by zeros."""
    start = data.find(written.encode())
    view = memoryview(data)
    hashed = hashlib.sha256(view[:start])
    hashed.update(NO_DIGEST.encode())
    hashed.update(view[start + len(NO_DIGEST) :])
    return hashed.hexdigest()
