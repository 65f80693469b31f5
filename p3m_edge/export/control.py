"""Accuracy control: with how few parts in float32 a network meets the gate, within a budget.

NNCF has such a loop (``quantize_with_accuracy_control``). It is not used: it reverts one operation after the other,
knows no limit of time, keeps nothing on disc that an interrupted run could go on from, and serves OpenVINO and ONNX by
different means. This one is told how to make an attempt, and works for any format.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence


class BudgetSpent(Exception):  # noqa: N818 - not an error: the best attempt so far is the result
    """The time or the number of attempts is used up."""


class Budget:
    """What attempts may cost together. The first one is always made.

    Parameters
    ----------
    minutes
        Of time, from now on. An attempt that has begun is finished.
    attempts
        How many, those of an interrupted export included.
    seconds, tried
        What the attempts of an interrupted export have cost, and how many there were.
    """

    def __init__(self, minutes: float, attempts: int, seconds: float = 0.0, tried: int = 0) -> None:
        self._minutes, self._attempts, self._tried = minutes, attempts, tried
        self._start = time.perf_counter() - seconds

    def tried(self) -> None:
        """Count an attempt."""
        self._tried += 1

    def check(self) -> None:
        """Go on only if something is left.

        Raises
        ------
        BudgetSpent
            Nothing is.
        """
        if self._tried and (self._tried >= self._attempts or self._used >= self._minutes):
            raise BudgetSpent

    @property
    def _used(self) -> float:
        return (time.perf_counter() - self._start) / 60

    def __str__(self) -> str:
        return f"{self._tried} of {self._attempts} attempts, {self._used:.1f} of {self._minutes:g} minutes used"


def fewest(order: Sequence[str], passes: Callable[[Sequence[str]], bool]) -> None:
    """Look for the fewest parts, taken in their order, that must stay in float32: by halving the interval.

    More parts in float32 are taken to be no worse, and all of them to be the float32 network, which is not tried. Every
    attempt that passes has fewer of them than the one that passed before it.

    Parameters
    ----------
    order
        The parts, that first which hurts most.
    passes
        Makes an attempt with these parts in float32, and says whether it meets the gate.
    """
    fails, passed = 0, len(order)
    while passed - fails > 1:
        middle = (fails + passed) // 2
        if passes(order[:middle]):
            passed = middle
        else:
            fails = middle
