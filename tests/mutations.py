"""Break what the project's promises rest on, one line at a time, and see that the tests notice.

    python -m tests.mutations [NAME ...]

``mutations.toml`` has them: ``old`` stands once in a file of the package, and some of ``tests`` must fail when ``new``
stands there. Each is made in a copy of the tree; the exit code is 1 if one survives.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
TABLE = Path(__file__).with_suffix(".toml")


class Mutation(NamedTuple):
    """A row of the table; ``file`` is below ``p3m_edge``, ``tests`` below ``tests``, or names of single ones."""

    name: str
    file: str
    old: str
    new: str
    tests: list[str]


def mutations() -> list[Mutation]:
    """The table."""
    return [Mutation(**row) for row in tomllib.loads(TABLE.read_text("utf-8"))["mutation"]]


def passes(tests: Iterable[str], tree: Path) -> bool:
    """Whether these tests pass in a copy of the project; what pytest itself stumbles over ends this script."""
    paths = (f"tests/{name}" for name in tests)
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *paths]
    ran = subprocess.run(command, cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)}, capture_output=True)
    if ran.returncode not in (0, 1):
        sys.exit(ran.stdout.decode() + ran.stderr.decode())
    return ran.returncode == 0


def survives(mutation: Mutation, tree: Path) -> bool:
    """Whether its tests pass, in a copy of the project that is as it was afterwards."""
    file = tree / "p3m_edge" / mutation.file
    source = file.read_text("utf-8")
    file.write_text(source.replace(mutation.old, mutation.new), "utf-8")
    try:
        return passes(mutation.tests, tree)
    finally:
        file.write_text(source, "utf-8")


def main(names: list[str]) -> int:
    """Make every mutation that is named, or all, after their tests have passed without any."""
    survivors = 0
    chosen = [mutation for mutation in mutations() if not names or mutation.name in names]
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        if (ROOT.parent / "shared").is_dir():  # else tests that need it skip
            (tree.parent / "shared").symlink_to(ROOT.parent / "shared")
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".*", "out", "*.egg-info", "__pycache__"))
        if not passes(sorted({name for mutation in chosen for name in mutation.tests}), tree):
            sys.exit("the tests fail without any mutation")
        for mutation in chosen:
            alive = survives(mutation, tree)
            survivors += alive
            print(f"{mutation.name:20} {mutation.file:30} {'SURVIVES' if alive else 'caught'}", flush=True)
    return int(survivors > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
