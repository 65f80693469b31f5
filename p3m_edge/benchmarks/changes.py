"""What became of the rows of an earlier report: a part of ``report.json``, found by ``benchmarks.compare``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from p3m_edge.benchmarks.statistics import Ratio

Verdict = Literal["slower", "faster", "same", "parity lost", "regained", "failed", "not comparable", "new", "missing"]

REGRESSIONS: tuple[Verdict, ...] = ("slower", "parity lost")
"""The verdicts that end ``bench --baseline FILE`` with exit code 6."""

IMPROVEMENTS: tuple[Verdict, ...] = ("faster", "regained")


@dataclass(frozen=True)
class Change:
    """One label, then and now.

    Attributes
    ----------
    verdict
        ``slower``, ``faster``: beyond the noise; ``same``: within it. ``parity lost``: the golden vectors passed then
        and fail now; ``regained``: it is measured now and was not then; ``failed``: not measured now for another
        reason, or neither then nor now. ``not comparable``: the label stands for another target or input shape.
        ``new``, ``missing``: in one of the two reports only.
    before_ms, after_ms
        Medians of the bare call; None: not measured.
    ratio
        ``before / after`` (above 1: faster now), with the interval that the intervals of the two medians allow; None
        unless both were measured.
    same_artefact
        Whether the content hash is the same; None for the eager reference and for a label in one report only.
    note
        What else a reader must know; empty: nothing.
    """

    label: str
    verdict: Verdict
    before_ms: float | None = None
    after_ms: float | None = None
    ratio: Ratio | None = None
    same_artefact: bool | None = None
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """A report against an earlier one of the same machine.

    Attributes
    ----------
    created
        When the earlier one was measured, UTC, ISO 8601.
    changes
        One for every label, in the order of this report, then those that are missing from it.
    remarks
        What differs besides the rows (software, settings), and what may explain a change.
    """

    created: str
    changes: tuple[Change, ...]
    remarks: tuple[str, ...] = ()

    @property
    def regressions(self) -> tuple[Change, ...]:
        """What became worse."""
        return tuple(change for change in self.changes if change.verdict in REGRESSIONS)
