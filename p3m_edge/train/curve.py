"""The curve of a training: how the held-out pictures fared, as a picture."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from p3m_edge.atomic import atomic_write
from p3m_edge.benchmarks.report import charts
from p3m_edge.errors import InputError
from p3m_edge.smallfile import read_csv, read_toml

CURVE = "curve.svg"
"""Its name in a run's folder."""
SEEN = "seen"
"""The column of ``validation.csv`` with the number of pictures that all processes have trained on."""


def write_curve(out: Path, runs: Sequence[Path]) -> None:
    """Draw the SAD of the held-out pictures over the pictures seen; runs that continue each other stand in a row.

    Parameters
    ----------
    out
        The SVG file.
    runs
        Folders of trainings, in their order; one without a validation is left out.

    Raises
    ------
    InputError
        A table or the settings of a run cannot be read, or there is nothing to draw.
    OutputError
        The file cannot be written.
    """
    drawn, seen = [], 0.0
    for run in runs:
        points = [(seen + pictures / 1000, sad) for pictures, sad in _read(run)]
        if points:
            drawn.append(charts.Line(run.name if len(runs) > 1 else "", points))
            seen = points[-1][0]
    if not drawn:
        raise InputError(f"{', '.join(map(str, runs))}: no validation to draw yet")
    text = charts.lines("SAD of the held-out pictures", drawn, "pictures seen, thousands", "SAD, thousands")
    atomic_write(out, text.encode())


def _read(run: Path) -> list[tuple[int, float]]:
    """Pictures seen, and the SAD then."""
    try:
        settings = read_toml(run / "config.toml")["run"]
        pictures = int(settings["batch"]) * int(settings["devices"])  # of a step; runs of earlier versions say no more
        rows = list(read_csv(run / "validation.csv"))
        return [(int(row.get(SEEN) or int(row["step"]) * pictures), float(row["sad"])) for row in rows]
    except FileNotFoundError as error:
        raise InputError(f"{error.filename} is missing: {run} is no folder of a training") from error
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise InputError(f"{run} has a table or settings that cannot be read: {error}") from error
