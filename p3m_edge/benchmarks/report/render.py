"""A report as people read it: on the terminal and as Markdown, and the files of ``--out``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from p3m_edge.atomic import atomic_write
from p3m_edge.benchmarks.report import files
from p3m_edge.benchmarks.report.schema import BenchmarkReport, all_reports
from p3m_edge.benchmarks.report.tables import side_by_side, tables
from p3m_edge.table import NONE

if TYPE_CHECKING:
    from rich.text import Text

    from p3m_edge.table import Table

MARKDOWN = "report.md"


def parts(report: BenchmarkReport) -> Iterator[str | Text | Table]:
    """What a terminal shows: the tables of every machine, and remarks."""
    from rich.text import Text

    for one in all_reports(report):
        yield heading(one)
        yield from tables(one)
        yield from (Text(line, "yellow") for line in remarks(one))
        yield ""
    if (together := side_by_side(report)) is not None:
        yield together


def markdown(report: BenchmarkReport) -> str:
    """The whole report as Markdown."""
    sections = ["# Benchmark"]
    for one in all_reports(report):
        sections += [f"## {heading(one)}", "\n".join(settings(one)), *map(_section, tables(one))]
        sections += ["\n".join(f"- {line}" for line in remarks(one))]
    if (together := side_by_side(report)) is not None:
        sections.append(_section(together))
    return "\n\n".join(filter(None, sections)) + "\n"


def write(report: BenchmarkReport, folder: Path) -> tuple[Path, Path]:
    """Write ``report.json`` and ``report.md`` into ``folder``; each appears whole or not at all.

    Raises
    ------
    OutputError
        The folder or a file cannot be written.
    """
    made = (folder / files.REPORT, folder / MARKDOWN)
    for path, data in zip(made, (files.encode(report), markdown(report).encode()), strict=True):
        atomic_write(path, data, parents=True)
    return made


def heading(report: BenchmarkReport) -> str:
    """The machine in one line."""
    machine = report.machine
    cores = f"{machine.usable_cores} of {machine.logical_cores} cores usable"
    memory = f"{machine.memory_bytes / 2**30:.1f} GiB"
    return ", ".join((machine.name, machine.architecture, cores, memory, machine.system, machine.python))


def remarks(report: BenchmarkReport) -> Iterator[str]:
    """Remarks for the reader: rows that failed, rows that are tied, and disturbances of the run."""
    for row in report.rows:
        if row.status != "ok":
            yield f"{row.label} {row.status}: {row.reason}"
        if row.placement is not None and row.placement.reason is not None:
            yield f"{row.label}: no compute plan: {row.placement.reason}"
    for ranking in report.rankings:
        for group in ranking.groups:
            if len(group) > 1:
                yield f"not ranked, within the noise ({ranking.shape}): {', '.join(group)}"
    yield from report.conditions.warnings


def settings(report: BenchmarkReport) -> tuple[str, ...]:
    """How it was measured, on what, and what else the machine did meanwhile; one sentence each."""
    o, machine, state = report.options, report.machine, report.conditions
    calls = f"{o.seconds:g} s" if o.seconds is not None else f"{o.iterations} calls of each kind"
    devices = ", ".join(dict.fromkeys(row.device or o.device for row in report.rows))
    load = " to ".join(NONE if v is None else f"{v:g}" for v in (state.load_before, state.load_after))
    return (
        f"Measured {report.created} with {', '.join(f'{k} {v}' for k, v in machine.packages.items())}.",
        f"CPU features: {' '.join(machine.features) or 'unknown'}; governor: {machine.governor or 'unknown'}; "
        f"physical cores: {machine.physical_cores or 'unknown'}; "
        f"virtual: {'unknown' if machine.virtual is None else 'yes' if machine.virtual else 'no'}.",
        f"{o.rounds} interleaved rounds of {calls} in shuffled order (seed {o.seed}), {o.warmup} calls of warm-up, "
        f"{o.threads} threads, device {devices}; frame {o.frame_width}x{o.frame_height} ({report.frame}).",
        f"Busy before the run: {state.busy_before:.0%} of the cores; load average {load}"
        + ("." if state.stolen is None else f"; stolen by the hypervisor: {state.stolen:.2%}."),
    )


def _section(table: Table) -> str:
    return "\n\n".join(filter(None, (f"### {table.title}", table.markdown(), table.note)))
