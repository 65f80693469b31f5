"""The curve of a training: how the held-out pictures fared, as a picture."""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Sequence
from pathlib import Path

from p3m_edge.atomic import atomic_write
from p3m_edge.benchmarks import chart
from p3m_edge.errors import InputError

CURVE = "curve.svg"
"""Its name in a run's folder."""


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
        rows, pictures = _read(run)
        points = [(seen + step * pictures / 1000, sad) for step, sad in rows]
        if points:
            drawn.append(chart.Line(run.name if len(runs) > 1 else "", points))
            seen = points[-1][0]
    if not drawn:
        raise InputError(f"{', '.join(map(str, runs))}: no validation to draw yet")
    text = chart.lines("SAD of the held-out pictures", drawn, "pictures seen, thousands", "SAD, thousands")
    atomic_write(out, text.encode())


def _read(run: Path) -> tuple[list[tuple[int, float]], int]:
    """Steps with their SAD, and how many pictures a step has."""
    try:
        with (run / "validation.csv").open(newline="", encoding="utf-8") as stream:
            rows = [(int(row["step"]), float(row["sad"])) for row in csv.DictReader(stream)]
        settings = tomllib.loads((run / "config.toml").read_text(encoding="utf-8"))["run"]
        return rows, int(settings["batch"]) * int(settings["devices"])
    except FileNotFoundError as error:
        raise InputError(f"{error.filename} is missing: {run} is no folder of a training") from error
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise InputError(f"{run} has a table or settings that cannot be read: {error}") from error
