"""What the result of a Mac verifies of a Core ML artefact, and its way into the manifest.

A result in which anything failed verifies nothing, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from p3m_edge import manifest
from p3m_edge.atomic import atomic_write
from p3m_edge.benchmarks.report.schema import BenchmarkReport, RowResult, identity
from p3m_edge.manifest_schema import UnitRecord, VerifiedRecord


def record(reports: Sequence[BenchmarkReport], folders: Iterable[Path]) -> Iterator[str]:
    """Write ``verified: device`` into the manifest of each Core ML artefact that passed on all that it was run on.

    Parameters
    ----------
    reports, folders
        Results that were checked against these artefacts (:func:`p3m_edge.benchmarks.device.bundle.import_results`);
        of several that verify something, the last counts.

    Yields
    ------
    str
        What was recorded, or why nothing was, one line for each result about a Core ML artefact.

    Raises
    ------
    ArtefactError, OutputError
        A file of an artefact is not the one in its manifest; a manifest cannot be written.
    """
    for folder in folders:
        found = manifest.read(folder)
        if found.engine.name != "coreml":
            continue
        for report in reports:
            rows = [row for row in report.rows if row.identity == identity(found)]
            if not rows:
                continue
            where = report.machine.name
            failed = next((row for row in rows if row.status != "ok"), None)
            if failed is not None:
                yield f"{folder}: nothing is recorded of {where}, because {_unit(failed)} {failed.status}"
                continue
            manifest.check_files(found, folder)
            units = tuple(UnitRecord(_unit(row), row.parity.worst) for row in rows if row.parity is not None)
            machine = msgspec.to_builtins(report.machine)
            verified = VerifiedRecord("device", machine, report.machine.packages, units)
            atomic_write(folder / manifest.MANIFEST, manifest.encode(replace(found, verified=verified)))
            yield f"{folder}: verified on {where}: {', '.join(unit.unit for unit in units)}"


def _unit(row: RowResult) -> str:
    """What a row was measured on, by the names of Core ML's units."""
    return row.device or (row.used.device if row.used is not None else row.label)
