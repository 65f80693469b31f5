"""The bytes of our own checkpoints: one safetensors file that notices when it has been changed.

What it says about itself is in :mod:`p3m_edge.header`. Equal weights and metadata give equal files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec
import safetensors
import safetensors.torch
from torch import Tensor

from p3m_edge import header as headers
from p3m_edge.errors import CheckpointError
from p3m_edge.header import Header


def encode(tensors: Mapping[str, Tensor], *, arch: str, licence: str, provenance: str, trained: bool) -> bytes:
    """The file for these tensors (dense, on the CPU)."""
    header = Header(headers.NO_DIGEST, headers.VERSION, arch, licence, provenance, trained)
    metadata = {headers.METADATA_KEY: msgspec.json.encode(header).decode()}
    data = safetensors.torch.save(dict(tensors), metadata)
    return data.replace(headers.NO_DIGEST.encode(), hashlib.sha256(data).hexdigest().encode(), 1)


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
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(f"{name} is a damaged safetensors file: {error}") from error
    return tensors, headers.read(data, name)
