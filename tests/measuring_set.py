"""The portraits of ../shared with human-annotated mattes (tiers A and B) as a set.

``python -m tests.measuring_set OUT`` makes it, of links; ``p3m-edge eval OUT`` measures on it.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from tests.conftest import SHARED


def measured(shared: Path) -> list[str]:
    """The names of the portraits of tiers A and B."""
    with (shared / "data/manifest.csv").open(encoding="utf-8", newline="") as stream:
        return [row["id"] for row in csv.DictReader(stream) if row["tier"] in ("A", "B")]


def link(shared: Path, names: list[str], out: Path) -> Path:
    """``image/`` and ``alpha/`` of these portraits below ``out``, which is returned."""
    for name in names:
        for folder, file in (("image", "image.jpg"), ("alpha", "alpha.png")):
            source = (shared / "data/portraits" / name / file).resolve()
            (out / folder).mkdir(parents=True, exist_ok=True)
            (out / folder / f"{name}{source.suffix}").symlink_to(source)
    return out


if __name__ == "__main__":
    link(SHARED, measured(SHARED), Path(sys.argv[1]))
