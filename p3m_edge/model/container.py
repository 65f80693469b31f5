"""The bytes of our own checkpoints: one safetensors file that notices when it has been changed.

Its metadata has one entry, ``p3m-edge``, a JSON object: the SHA-256 of the whole file with this digest's own 64
characters replaced by zeros, the format's version, and what is known about the weights. Any changed byte, in a tensor,
a name, the licence or a space between them, changes the digest. Equal weights and metadata give equal files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import safetensors
import safetensors.torch
from torch import Tensor

from p3m_edge.errors import CheckpointError

METADATA_KEY = "p3m-edge"
VERSION = 1
_NO_DIGEST = "0" * 64
_MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors format


@dataclass(frozen=True)
class Header:
    """What our metadata says. The digest comes first, so that its first occurrence in the file is this one."""

    sha256: str
    version: int
    arch: str
    licence: str
    provenance: str
    trained: bool


def is_safetensors(data: bytes) -> bool:
    """Whether the bytes start as a safetensors file does: the length of a JSON header, then that header."""
    return data[8:9] == b"{" and int.from_bytes(data[:8], "little") <= _MAX_HEADER_BYTES


def encode(tensors: Mapping[str, Tensor], *, arch: str, licence: str, provenance: str, trained: bool) -> bytes:
    """The file for these tensors (dense, on the CPU)."""
    header = Header(_NO_DIGEST, VERSION, arch, licence, provenance, trained)
    metadata = {METADATA_KEY: msgspec.json.encode(header).decode()}
    data = safetensors.torch.save(dict(tensors), metadata)
    return data.replace(_NO_DIGEST.encode(), hashlib.sha256(data).hexdigest().encode(), 1)


def decode(data: bytes, name: str) -> tuple[dict[str, Tensor], Header | None]:
    """The tensors of a safetensors file and our header, or None in its place where the file is not ours.

    Parameters
    ----------
    data
        The file.
    name
        What to call it in an error.

    Raises
    ------
    CheckpointError
        The file is damaged, has been changed since it was written, or is of a later version.
    """
    try:
        tensors = safetensors.torch.load(data)
        length = int.from_bytes(data[:8], "little")
        metadata = msgspec.json.decode(data[8 : 8 + length]).get("__metadata__", {})
    except (safetensors.SafetensorError, msgspec.MsgspecError, KeyError, ValueError) as error:
        raise CheckpointError(f"{name} is a damaged safetensors file: {error}") from error
    if METADATA_KEY not in metadata:
        return tensors, None
    try:
        header = msgspec.json.decode(metadata[METADATA_KEY], type=Header)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CheckpointError(f"the metadata of {name} are damaged: {error}") from error
    if header.version > VERSION:
        raise CheckpointError(
            f"{name} has format version {header.version}; this version of p3m-edge reads {VERSION}",
            hint="upgrade p3m-edge",
        )
    if _digest(data, header.sha256) != header.sha256:
        raise CheckpointError(f"{name} has been changed or damaged since it was written", hint="copy it again")
    return tensors, header


def _digest(data: bytes, written: str) -> str:
    """SHA-256 of the file with the first occurrence of the written digest replaced by zeros."""
    start = data.find(written.encode())
    view = memoryview(data)
    hashed = hashlib.sha256(view[:start])
    hashed.update(_NO_DIGEST.encode())
    hashed.update(view[start + len(_NO_DIGEST) :])
    return hashed.hexdigest()
