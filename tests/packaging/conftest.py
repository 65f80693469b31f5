"""The built distributions, made once for all tests of this folder that look into them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import Once
from tests.packaging.sources import copy_project


@dataclass(frozen=True)
class Distributions:
    """A source distribution, and the wheel built from it."""

    sdist: Path
    wheel: Path


@pytest.fixture(scope="session")
def distributions(once: Once) -> Distributions:
    """Both, built from a copy of the project without network access."""

    def build(out: Path) -> None:
        project = copy_project(out / "project")
        # Traces of use that must not be packed.
        (project / "p3m_edge" / "__pycache__").mkdir()
        (project / "p3m_edge" / "__pycache__" / "errors.cpython-311.pyc").write_bytes(b"")
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(project)]
        built = subprocess.run(command, capture_output=True, text=True)
        assert built.returncode == 0, built.stdout[-2000:] + built.stderr[-2000:]

    folder = once("distributions", build)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return Distributions(sdist, wheel)
