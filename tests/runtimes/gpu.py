"""Processes in which the stand-in of a GPU in ``helpers/gpu`` is at work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

GPU = Path(__file__).parent / "helpers" / "gpu"
ROOT = Path(__file__).parent.parent.parent


def on_gpu(*arguments: str, log: Path | None = None, **settings: object) -> subprocess.CompletedProcess[str]:
    """Run Python with the stand-in; ``settings`` are those of its ``sitecustomize.py``, ``log`` gets every call."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(GPU), str(ROOT)]),
        "STAND_IN": json.dumps(settings),
        "STAND_IN_LOG": str(log or ""),
    }
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=600, cwd=ROOT)
