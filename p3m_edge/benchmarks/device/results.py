"""The results of other machines, on their way back into a report, and of a Mac into a Core ML artefact's manifest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from p3m_edge import manifest
from p3m_edge.atomic import atomic_write
from p3m_edge.benchmarks.device import android
from p3m_edge.benchmarks.report import files
from p3m_edge.benchmarks.report.schema import BenchmarkReport, RowResult, all_reports, identity
from p3m_edge.errors import ArtefactError, UsageError
from p3m_edge.manifest_schema import UnitRecord, VerifiedRecord
from p3m_edge.runtimes.golden import limits_of


def import_results(paths: Iterable[Path], artefacts: Iterable[Path]) -> tuple[BenchmarkReport, ...]:
    """Read the results of other machines, in the order given; reports within reports are unfolded.

    Parameters
    ----------
    paths
        ``result.json`` or ``report.json`` files, or ``android.tar`` (:mod:`p3m_edge.benchmarks.device.android`).
    artefacts
        The artefact folders that the results must be about; none: not checked.

    Raises
    ------
    InputError, ArtefactError
        A file cannot be read, is corrupt, of another schema, or about an artefact that was not given.
    UsageError
        A result was given twice.
    """
    artefacts = tuple(artefacts)
    known = {identity(found): found for found in map(manifest.read, artefacts)}
    found: list[BenchmarkReport] = []
    for path in paths:
        for report in all_reports(android.read(path, artefacts) if path.suffix == ".tar" else files.read(path)):
            strangers = [row.label for row in report.rows if row.identity is not None and row.identity not in known]
            if known and strangers:
                raise ArtefactError(
                    f"{path} measured another artefact than those given: {', '.join(strangers)}",
                    hint="give the artefacts that were in the bundle",
                )
            for row in report.rows:
                if row.identity in known:
                    _check_row(path, row, known[row.identity])
            alone = replace(report, imported=())
            if alone in found:
                raise UsageError(f"{path} holds a result that was given already")
            found.append(alone)
    return tuple(found)


def _check_row(path: Path, row: RowResult, found: manifest.Manifest) -> None:
    """Whether a result is about an artefact as its manifest has it."""
    if (row.engine, row.target) != (found.engine.name, found.target):
        raise ArtefactError(f"{path} has {row.label} as {row.target} of {row.engine}; the artefact is {found.target}")
    if row.parity is not None and row.parity.limits not in (None, limits_of(found)):
        raise ArtefactError(
            f"{path} held {row.label} against other limits than the artefact's", hint="run the bundle of this artefact"
        )


def record(reports: Sequence[BenchmarkReport], folders: Iterable[Path]) -> Iterator[str]:
    """Write ``verified: device`` into the manifest of each Core ML artefact that passed on all that it was run on.

    Parameters
    ----------
    reports, folders
        Results that were checked against these artefacts (:func:`import_results`); of several that verify something,
        the last counts. One in which anything failed verifies nothing, and changes nothing.

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
