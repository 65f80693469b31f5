"""How far the mattes of sample portraits are from the truth, or from a reference row; a part of ``report.json``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Accuracy:
    """Errors of the mattes, means over the pictures; the pictures themselves are not in a report, nor their names.

    Attributes
    ----------
    pictures, true_mattes
        How many were matted, and how many of these have a true matte.
    reference
        The row whose mattes the others are compared with; None: no row could matte.
    sad
        Label to SAD against the truth, in thousands, over the pictures that have one.
    difference
        Label to the mean absolute difference from the reference's alpha, times 1000.
    failures
        Label to the reason why there is no matte, for rows that were measured all the same.
    """

    pictures: int
    true_mattes: int
    reference: str | None
    sad: dict[str, float]
    difference: dict[str, float]
    failures: dict[str, str]

    @property
    def measure(self) -> Literal["SAD", "difference"]:
        """What tells the rows' quality: SAD where there is a truth, else the difference from the reference."""
        return "SAD" if self.true_mattes else "difference"

    @property
    def errors(self) -> dict[str, float]:
        """Label to error, in that measure."""
        return self.sad if self.true_mattes else self.difference
