"""What ``run_bench.py`` does once the packages are there: measure a bundle on the machine that it was copied to."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from p3m_edge import manifest
from p3m_edge.atomic import atomic_write
from p3m_edge.benchmarks.measure import measure
from p3m_edge.benchmarks.report import files, render
from p3m_edge.benchmarks.report.ranking import failure
from p3m_edge.benchmarks.report.schema import MeasureOptions, identity
from p3m_edge.benchmarks.rows import ArtefactRow, unit_rows
from p3m_edge.errors import ArtefactError, P3MEdgeError
from p3m_edge.smallfile import parse_json, read_small

SCHEMA_VERSION = 1
PLAN = "bundle.json"


@dataclass(frozen=True)
class BundledArtefact:
    """One artefact of a bundle: its folder inside the bundle, its label and its content hash."""

    folder: str
    label: str
    identity: str


@dataclass(frozen=True)
class BundlePlan:
    """``bundle.json``. ``needed`` maps modules to what ``pip install`` calls them."""

    schema: int
    needed: dict[str, str]
    options: MeasureOptions
    artefacts: tuple[BundledArtefact, ...]


def run(home: Path, scratch: Path, *, rounds: int | None, threads: int | None, device: str | None) -> int:
    """Measure every artefact of the bundle at ``home``, write ``result.json`` there and return the exit code.

    Parameters
    ----------
    home, scratch
        The bundle, and a folder for temporary files inside it.
    rounds, threads, device
        Instead of the bundle's own options; None: those. Unless a device is named, here or for the bundle, a Core ML
        artefact is measured on each of its units.
    """
    try:
        plan = read_plan(home)
        own = plan.options
        options = replace(own, rounds=rounds or own.rounds, threads=threads or own.threads, device=device or own.device)
        rows = [ArtefactRow(item.label, home / item.folder) for item in plan.artefacts]
        if options.device == MeasureOptions().device and device is None:
            rows = [each for row in rows for each in unit_rows(row)]
        made = measure(rows, options, scratch=scratch, progress=_progress)
        atomic_write(home / files.RESULT, files.encode(made))
        sys.stdout.write(render.markdown(made))
        sys.stderr.write(f"\n{files.RESULT} is written: p3m-edge bench --import {files.RESULT} ARTEFACT...\n")
        if (error := failure(made)) is not None:
            raise error
    except P3MEdgeError as error:
        sys.stderr.write(f"\nerror: {error}\n" + (f"hint: {error.hint}\n" if error.hint else ""))
        return error.exit_code
    return 0


def read_plan(home: Path) -> BundlePlan:
    """Read ``bundle.json`` and compare every artefact with the hash that it names.

    Raises
    ------
    ArtefactError
        The plan is damaged or of another schema, or an artefact is not the one that was bundled.
    """
    path = home / PLAN
    try:
        plan = parse_json(read_small(path), BundlePlan)
    except (OSError, msgspec.MsgspecError) as error:
        raise ArtefactError(f"{path} is not the plan of a bundle: {error}", hint="copy the bundle again") from error
    if plan.schema != SCHEMA_VERSION:
        raise ArtefactError(f"{path} has schema {plan.schema}; this version reads {SCHEMA_VERSION}")
    for item in plan.artefacts:
        if ".." in Path(item.folder).parts or Path(item.folder).is_absolute():
            raise ArtefactError(f"{path} names a folder outside the bundle: {item.folder}")
        if identity(manifest.read(home / item.folder)) != item.identity:
            raise ArtefactError(f"{item.folder} is not the artefact that was bundled", hint="copy the bundle again")
    return plan


def _progress(what: str, done: int, total: int) -> None:
    sys.stderr.write(f"\r{done:4d} / {total}  {what:60.60}")
    sys.stderr.flush()
