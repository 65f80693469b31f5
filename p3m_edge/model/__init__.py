"""P3M-Net in PyTorch: encoders, decoders, unpooling, checkpoints, the deployable module."""

from __future__ import annotations

from p3m_edge.errors import missing_package
from p3m_edge.targets import ARCHS

try:
    from p3m_edge.model.checkpoint import (
        CheckpointInfo,
        inspect_checkpoint,
        load_checkpoint,
        read_checkpoint,
        save_checkpoint,
    )
    from p3m_edge.model.p3mnet import P3MNet, P3MOutput, build
    from p3m_edge.model.standin import standin
except ImportError as error:
    raise missing_package(error.name or "torch", "torch", error) from error

__all__ = [
    "ARCHS",
    "CheckpointInfo",
    "P3MNet",
    "P3MOutput",
    "build",
    "inspect_checkpoint",
    "load_checkpoint",
    "read_checkpoint",
    "save_checkpoint",
    "standin",
]
