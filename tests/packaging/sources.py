"""What belongs to the project: its files, as git sees them, and a copy of them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
LINKS = ("export", "runtimes", "benchmarks")


def project_files() -> list[str]:
    """POSIX paths of all files that git tracks or would add, links included, sorted."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, capture_output=True, check=True).stdout.decode().split("\0")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout: which files belong to the project is not known")
    return sorted({name for name in listed if name and ((ROOT / name).exists() or (ROOT / name).is_symlink())})


def copy_project(folder: Path) -> Path:
    """A copy of these files, in which a build may leave its traces."""
    for name in project_files():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target, follow_symlinks=False)
    return folder
