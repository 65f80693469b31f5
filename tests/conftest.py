"""Fixtures that every test may use."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference cases and real portraits; it is not part of the project."""
    if not (SHARED / "reference").is_dir():
        pytest.skip("../shared (reference cases, real portraits) is not here")
    return SHARED
