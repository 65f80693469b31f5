"""The statistics of interleaved runs: percentiles, intervals, ratios and ties; nothing is measured here.

Two rules carry the whole benchmark:

* **The round is the unit.** Calls that follow each other share the machine's state (clock, temperature, neighbours),
  so they are not independent samples. Every interval is therefore computed from one number per round (the median of
  that round's calls), never from single calls.
* **Comparisons are paired.** All rows run in every round, in shuffled order; two rows are compared by the ratio of
  their medians *within* each round, which cancels what slows both of them.

The interval for a median is distribution-free: for ``n`` independent values, the ``k``-th smallest and the ``k``-th
largest enclose the true median with probability ``1 - 2 P(Binomial(n, 1/2) < k)``. ``k`` is the largest that reaches
the confidence asked for; with too few values ``k`` is 1, and the interval says what it reaches (5 values: 93.75 %).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Annotated

import numpy as np
from msgspec import Meta

CONFIDENCE = 0.95
"""The coverage that an interval aims at."""

MINIMUM_COVERAGE = 0.75
"""Below this coverage (fewer than three rounds) nothing is ranked."""

MINIMUM_DIFFERENCE = 0.02
"""Rows closer than this share are tied, regardless of the interval.

A row runs in one process, and effects of that process (such as its memory layout) do not average out over rounds.
"""

Positive = Annotated[float, Meta(gt=0)]
Share = Annotated[float, Meta(ge=0, le=1)]


@dataclass(frozen=True)
class Interval:
    """Encloses a median with probability ``coverage`` (0..1; less than asked for when the values are few)."""

    low: Positive
    high: Positive
    coverage: Share


@dataclass(frozen=True)
class Summary:
    """The distribution of one measured quantity over all rounds.

    Attributes
    ----------
    count
        Number of calls, over all rounds.
    minimum, mean, median, p90, p95, p99
        Over all calls; a percentile is linear between the closest ranks (NumPy's default), so that a p99 of 20 calls
        is nearly their maximum.
    interval
        For the median; see :func:`median_interval`. Widened, if need be, to contain ``median``.
    rounds
        The median of each round, in order; rows are compared by these.
    """

    count: int
    minimum: Positive
    mean: Positive
    median: Positive
    p90: Positive
    p95: Positive
    p99: Positive
    interval: Interval
    rounds: Annotated[tuple[Positive, ...], Meta(min_length=1)]


@dataclass(frozen=True)
class Ratio:
    """How a row compares with a baseline: the median over the rounds of ``baseline / row`` (above 1: faster)."""

    value: float
    interval: Interval


def median(values: Iterable[float]) -> float:
    """The middle value, or the mean of the two middle ones."""
    return float(np.quantile(list(values), 0.5))


def median_interval(values: Sequence[float]) -> Interval:
    """The order-statistic interval for the median of independent ``values``; see the module's docstring.

    Raises
    ------
    ValueError
        No values.
    """
    if not values:
        raise ValueError("an interval needs at least one value")
    ordered, count = sorted(values), len(values)
    tails = accumulate(math.comb(count, number) for number in range((count + 1) // 2))
    coverages = [max(0.0, 1 - 2 * tail / (1 << count)) for tail in tails]
    rank = max(sum(coverage >= CONFIDENCE for coverage in coverages), 1)
    return Interval(ordered[rank - 1], ordered[-rank], coverages[rank - 1])


def summarise(rounds: Sequence[Sequence[float]]) -> Summary:
    """The summary of the calls of each round; rounds without a call are left out.

    Raises
    ------
    ValueError
        There is no call at all.
    """
    calls = [value for calls in rounds for value in calls]
    medians = tuple(median(calls) for calls in rounds if calls)
    found = median_interval(medians)
    middle, p90, p95, p99 = np.quantile(calls, (0.5, 0.90, 0.95, 0.99)).tolist()
    interval = Interval(min(found.low, middle), max(found.high, middle), found.coverage)
    return Summary(len(calls), min(calls), math.fsum(calls) / len(calls), middle, p90, p95, p99, interval, medians)


def paired_ratio(baseline: Sequence[float], row: Sequence[float]) -> Ratio:
    """``baseline / row`` round by round; both hold one median per round, of the same rounds.

    Raises
    ------
    ValueError
        The numbers of rounds differ, or a value is not positive.
    """
    if len(baseline) != len(row):
        raise ValueError(f"{len(baseline)} rounds cannot be paired with {len(row)}")
    if any(value <= 0 for value in (*baseline, *row)):
        raise ValueError("a ratio needs positive values")
    found = [b / r for b, r in zip(baseline, row, strict=True)]
    return Ratio(median(found), median_interval(found))


def tied(ratio: Ratio) -> bool:
    """Whether the ratio says nothing about which of the two is faster."""
    interval = ratio.interval
    if interval.coverage < MINIMUM_COVERAGE:
        return True
    separated = interval.low > 1.0 or interval.high < 1.0
    return not separated or abs(math.log(ratio.value)) < math.log1p(MINIMUM_DIFFERENCE)


def rank(rows: Mapping[str, Sequence[float]]) -> tuple[tuple[str, ...], ...]:
    """Group rows from the fastest to the slowest; rows of one group cannot be distinguished.

    Two neighbours are separated only when *every* row before the gap is distinguishable from every row after it, so
    no pair of different groups is tied, and no order is claimed that the measurement does not support.

    Parameters
    ----------
    rows
        Label to the median of each round, the same number of rounds for all.
    """
    order = sorted(rows, key=lambda label: (median(rows[label]), label))
    groups: list[list[str]] = []
    for place, label in enumerate(order):
        if place and not all(_slower(rows[after], rows[before]) for after in order[place:] for before in order[:place]):
            groups[-1].append(label)
        else:
            groups.append([label])
    return tuple(map(tuple, groups))


def _slower(row: Sequence[float], other: Sequence[float]) -> bool:
    """Whether ``row`` is slower than ``other`` beyond the noise."""
    ratio = paired_ratio(row, other)
    return ratio.value > 1.0 and not tied(ratio)
