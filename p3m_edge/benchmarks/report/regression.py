"""Compare a report with an earlier one of the same machine: what became slower, faster, wrong or right.

Rows of two runs share no rounds, so nothing pairs them. A change counts only if the intervals of the two medians lie
apart *and* the medians differ by more than ``BETWEEN_RUNS``, which stands for what an interval cannot know: that the
whole machine was in another state that day (clocks, temperature, neighbours). It is a choice, not a measured figure.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

from p3m_edge.benchmarks.fingerprint import Fingerprint
from p3m_edge.benchmarks.report import files
from p3m_edge.benchmarks.report.ranking import more
from p3m_edge.benchmarks.report.schema import (
    BenchmarkReport,
    Change,
    Comparison,
    MeasureOptions,
    RowResult,
    all_reports,
)
from p3m_edge.benchmarks.statistics import MINIMUM_COVERAGE, Interval, Ratio
from p3m_edge.errors import ArtefactError, RegressionError, UsageError

BETWEEN_RUNS = 0.05
"""Medians of two runs that are closer than this share are the same, whatever their intervals say."""

FEWEST_ROUNDS = 3
"""Fewer rounds give no interval worth the name (:data:`~p3m_edge.benchmarks.statistics.MINIMUM_COVERAGE`)."""

# What decides how fast an artefact can be. Software is not among it: its effect is what one wants to see.
_HARDWARE = ("architecture", "cpu", "board", "features", "physical_cores", "usable_cores")
_SETTINGS = ("threads", "device")
_SURROUNDINGS = ("governor", "virtual", "system", "python")


def earlier_report(
    path: Path, machine: Fingerprint, options: MeasureOptions, labels: Collection[str]
) -> BenchmarkReport:
    """Read an earlier report, and refuse one that says nothing about a run on ``machine``.

    Parameters
    ----------
    path
        A ``report.json``; of several machines in it, the first that is this one counts.
    machine, options, labels
        Of the run to be compared, and of its rows; ``threads`` must be resolved.

    Raises
    ------
    InputError, ArtefactError
        The file cannot be read; it is no report, of another schema, machine, number of threads or device.
    UsageError
        It has no row in common, or either run has too few rounds.
    """
    found = list(all_reports(files.read(path)))
    differences = [tuple(_differences(one, machine, options)) for one in found]
    if all(differences):
        first = differences[0]
        raise ArtefactError(
            f"{path} cannot be compared: {'; '.join(text for text, _ in first)}",
            hint=next((hint for _, hint in first if hint), "measure the baseline on this machine again"),
        )
    earlier = found[differences.index(())]
    known = [row.label for row in earlier.rows]
    if not set(known).intersection(labels):
        raise UsageError(
            f"{path} has no row in common with this run: {', '.join(known) or 'it has none'}",
            hint="rows are matched by label: the name of the artefact's folder",
        )
    for who, rounds in (("this run", options.rounds), (str(path), earlier.options.rounds)):
        if rounds < FEWEST_ROUNDS:
            raise UsageError(
                f"{who} has {rounds} rounds, too few to tell a change from the noise",
                hint=f"--rounds {FEWEST_ROUNDS} is the least, {MeasureOptions.rounds} the default",
            )
    return replace(earlier, imported=())


def compare(report: BenchmarkReport, earlier: BenchmarkReport) -> Comparison:
    """Every row of the two reports, then and now; imported reports are not looked at.

    Raises
    ------
    UsageError
        No row can be compared: each common label stands for another target or input shape.
    """
    before = {row.label: row for row in earlier.rows}
    now = {row.label for row in report.rows}
    changes = [_change(before.get(row.label), row) for row in report.rows]
    changes += [Change(row.label, "missing", row.median) for row in earlier.rows if row.label not in now]
    if all(change.verdict in ("not comparable", "new", "missing") for change in changes):
        notes = "; ".join(f"{change.label} {change.note}" for change in changes if change.verdict == "not comparable")
        raise UsageError(f"no row can be compared with the earlier report: {notes}")
    return Comparison(earlier.created, tuple(changes), tuple(_remarks(report, earlier, changes)))


def regression(report: BenchmarkReport) -> RegressionError | None:
    """The error for the comparison of a report; None if nothing became worse, or nothing was compared."""
    found = report.comparison.regressions if report.comparison is not None else ()
    if not found:
        return None
    text = f"{found[0].label}: {describe(found[0])}{more(found)}"
    return RegressionError(text, hint="the earlier report is the baseline")


def describe(change: Change) -> str:
    """What happened to a row, in a few words."""
    text: str = change.verdict
    if change.verdict not in ("slower", "faster") or change.ratio is None:
        return f"{text}: {change.note}" if change.note else text
    factor = change.ratio.value if text == "faster" else 1 / change.ratio.value
    text += f", {change.before_ms:.4g} ms before, {change.after_ms:.4g} ms now (x{factor:.2f})"
    return f"{text}; {change.note}" if change.note else text


def _differences(
    earlier: BenchmarkReport, machine: Fingerprint, options: MeasureOptions
) -> Iterator[tuple[str, str | None]]:
    """What forbids to compare, and what could be done about it."""
    for text in _differing(earlier.machine, machine, _HARDWARE):
        yield f"another machine ({text})", None
        return  # one difference is enough to tell, and the others follow from it
    for name in _SETTINGS:
        for text in _differing(earlier.options, options, (name,), " "):
            then = getattr(earlier.options, name)
            yield text, None if then is None else f"measure with --{name} {then}"


def _differing(then: object, now: object, names: Collection[str], colon: str = ": ") -> Iterator[str]:
    """The attributes that are not the same."""
    for name in names:
        before, after = getattr(then, name), getattr(now, name)
        if before != after:
            yield f"{name.replace('_', ' ')}{colon}{_shown(before)} then, {_shown(after)} now"


def _change(before: RowResult | None, now: RowResult) -> Change:
    if before is None:
        return Change(now.label, "new", None, now.median)
    same = None if now.identity is None else now.identity == before.identity
    made = Change(now.label, "same", before.median, now.median, same_artefact=same)
    names = ("kind", "target") if None in (made.before_ms, made.after_ms) else ("kind", "target", "shape")
    for note in _differing(before, now, names, " "):
        return replace(made, verdict="not comparable", note=note)
    if now.measured is None:
        lost = now.status == "parity-failed" and before.status == "ok"
        return replace(made, verdict="parity lost" if lost else "failed", note=now.reason or now.status)
    if before.measured is None:
        return replace(made, verdict="regained", note=f"{before.status} then")
    old, new = before.measured.latency, now.measured.latency
    low, high = old.interval.low / new.interval.high, old.interval.high / new.interval.low
    value, coverages = old.median / new.median, (old.interval.coverage, new.interval.coverage)
    made = replace(made, ratio=Ratio(value, Interval(low, high, math.prod(coverages))))
    made = replace(made, note="the artefact has changed" if same is False else "")
    if min(coverages) < MINIMUM_COVERAGE or abs(math.log(value)) < math.log1p(BETWEEN_RUNS):
        return made
    return replace(made, verdict="faster" if low > 1.0 else "slower" if high < 1.0 else "same")


def _remarks(report: BenchmarkReport, earlier: BenchmarkReport, changes: Collection[Change]) -> Iterator[str]:
    timed = [change for change in changes if change.ratio is not None]
    if len(timed) > 1 and all(change.verdict == "slower" for change in timed):
        yield "every row is slower: was the machine slower, rather than the artefacts? measure again when it is idle"
    old, new = earlier.machine.packages, report.machine.packages
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            yield f"{name}: {_shown(old.get(name))} then, {_shown(new.get(name))} now"
    yield from _differing(earlier.machine, report.machine, _SURROUNDINGS)
    yield from (f"in the earlier run: {warning}" for warning in earlier.conditions.warnings)


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
