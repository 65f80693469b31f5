"""Artefacts and processes for the stand-in of a GPU in ``helpers/gpu``."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

from p3m_edge import manifest as manifests
from tests.artefacts import PROFILE, edit_manifest, make_artefact, rehash

GPU = Path(__file__).parent / "helpers" / "gpu"
MAGIC = b"ftrt".ljust(32, b"\0")


def make_engine(folder: Path, version: str, size: tuple[int, int] | None = (64, 96), **record: object) -> Path:
    """An artefact with an engine for the stand-in of TensorRT; ``record``: what its build record says otherwise."""
    make_artefact(folder, "tensorrt", size)
    model = (folder / manifests.TYPED).read_bytes()
    sizes = () if size else (PROFILE.minimum, PROFILE.optimum, PROFILE.maximum)
    profile = json.dumps([(1, height, width, 3) for width, height in sizes]).encode()
    (folder / "model.engine").write_bytes(MAGIC + struct.pack("<I", len(profile)) + profile + model)
    changes = {"flavour": "tensorrt", "version": version, "compute_capabilities": ["8.9"], "gpu": "NVIDIA L4"} | record
    edit_manifest(folder, **{f"engine__build__{name}": value for name, value in changes.items()})
    rehash(folder)
    return folder


def on_gpu(
    arguments: list[str], log: Path | None = None, *, stand_in: Path = GPU, **settings: object
) -> subprocess.CompletedProcess[str]:
    """Run Python with the stand-in; ``settings`` are those of ``helpers/gpu/sitecustomize.py``."""
    root = str(Path(__file__).parent.parent.parent)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(stand_in), root]),
        "STAND_IN": json.dumps(settings),
        "STAND_IN_LOG": str(log or ""),
    }
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=120)
