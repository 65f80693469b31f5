"""The bytes of our own checkpoints: one safetensors file that notices when it has been changed.

What it says about itself is in :mod:`p3m_edge.checkpoint_header`. Equal weights and metadata give equal files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec
import safetensors
import safetensors.torch
from torch import Tensor

from p3m_edge import checkpoint_header
from p3m_edge.checkpoint_header import METADATA_KEY, NO_DIGEST, VERSION, Header
from p3m_edge.errors import CheckpointError


def encode(tensors: Mapping[str, Tensor], *, arch: str, licence: str, provenance: str, trained: bool) -> bytes:
    """The file for these tensors (dense, on the CPU)."""
    header = Header(NO_DIGEST, VERSION, arch, licence, provenance, trained)
    data = safetensors.torch.save(dict(tensors), {METADATA_KEY: msgspec.json.encode(header).decode()})
    return data.replace(NO_DIGEST.encode(), hashlib.sha256(data).hexdigest().encode(), 1)


def decode(data: bytes, name: str) -> tuple[dict[str, Tensor], Header | None]:
    """The tensors of a safetensors file, and our header, or None where the file is not ours; ``name`` is for errors.

    Raises
    ------
    CheckpointError
        The file is damaged, has been changed since it was written, or is of a later version.
    """
    try:
        tensors = safetensors.torch.load(data)
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(f"{name} is a damaged safetensors file: {error}") from error
    return tensors, checkpoint_header.read(data, name)
