"""The built distributions, made once for all tests of this folder that look into them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.packaging.sources import copy_project


@dataclass(frozen=True)
class Distributions:
    """A source distribution, and the wheel built from it."""

    sdist: Path
    wheel: Path


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """Both, built from a copy of the project without network access."""
    project = copy_project(tmp_path_factory.mktemp("project"))
    # Traces of use that must not be packed.
    (project / "p3m_edge" / "__pycache__").mkdir()
    (project / "p3m_edge" / "__pycache__" / "errors.cpython-311.pyc").write_bytes(b"")
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(project)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout[-2000:] + built.stderr[-2000:]
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return Distributions(sdist, wheel)
