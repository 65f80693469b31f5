"""Percentiles, intervals, ratios and ties, against NumPy, SciPy and their own definitions."""

import itertools
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from p3m_edge.benchmarks import statistics as s

times = st.floats(min_value=1e-3, max_value=1e5)
samples = st.lists(times, min_size=1, max_size=80)


@given(samples)
def test_interval_is_made_of_order_statistics_with_the_binomial_coverage(values: list[float]) -> None:
    found = s.median_interval(values)
    ordered = sorted(values)
    count = len(values)
    coverages = [1 - 2 * stats.binom.cdf(k - 1, count, 0.5) for k in range(1, count // 2 + 1)] or [0.0]
    # It is the narrowest that covers, or the widest there is.
    best = max((k for k, coverage in enumerate(coverages, 1) if coverage >= s.CONFIDENCE - 1e-12), default=1)
    assert (found.low, found.high) == (ordered[best - 1], ordered[-best])
    assert found.coverage == pytest.approx(max(coverages[best - 1], 0), abs=1e-9)
    assert found.low <= s.median(values) <= found.high


def test_interval_says_what_few_values_reach() -> None:
    assert s.median_interval([3.0]).coverage == 0.0
    assert s.median_interval([1.0, 2.0, 3.0, 4.0, 5.0]).coverage == pytest.approx(0.9375)
    assert s.median_interval(list(range(1, 7))) == s.Interval(1, 6, 0.96875)
    assert s.median_interval(list(range(1, 11))) == s.Interval(2, 9, 0.978515625)


def test_interval_covers_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    draws = generator.lognormal(size=(4000, 12))
    found = [s.median_interval(draw.tolist()) for draw in draws]
    covered = np.mean([i.low <= 1.0 <= i.high for i in found])
    assert covered == pytest.approx(found[0].coverage, abs=0.012)


@given(st.lists(st.lists(times, max_size=6), min_size=1, max_size=12).filter(any))
def test_summary_agrees_with_numpy(rounds: list[list[float]]) -> None:
    found = s.summarise(rounds)
    calls = np.concatenate([np.asarray(r, dtype=float) for r in rounds])
    assert found.count == calls.size
    assert found.minimum == calls.min()
    assert found.mean == pytest.approx(calls.mean())
    assert found.median == pytest.approx(np.median(calls))
    assert (found.p90, found.p95, found.p99) == pytest.approx(tuple(np.percentile(calls, (90, 95, 99))))
    assert found.rounds == tuple(pytest.approx(np.median(r)) for r in rounds if r)
    assert found.interval.low <= found.median <= found.interval.high


def test_summary_needs_a_call() -> None:
    with pytest.raises(ValueError, match="at least one"):
        s.summarise([[], []])


@given(st.lists(st.tuples(times, times), min_size=1, max_size=20))
def test_ratio_is_the_reciprocal_the_other_way_round(pairs: list[tuple[float, float]]) -> None:
    a, b = [p[0] for p in pairs], [p[1] for p in pairs]
    there, back = s.paired_ratio(a, b), s.paired_ratio(b, a)
    assert there.interval.low == pytest.approx(1 / back.interval.high)
    assert there.interval.high == pytest.approx(1 / back.interval.low)
    assert s.tied(there) == s.tied(back)


def test_pairing_cancels_a_drift_that_hits_all_rows() -> None:
    drift = [1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5]
    fast, slow = [10 * d for d in drift], [11 * d for d in drift]
    assert s.paired_ratio(slow, fast).value == pytest.approx(1.1)
    assert s.rank({"slow": slow, "fast": fast}) == (("fast",), ("slow",))


def test_ratio_refuses_what_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="paired"):
        s.paired_ratio([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="positive"):
        s.paired_ratio([1.0], [0.0])


def test_ties() -> None:
    steady = [10.0] * 8
    assert s.rank({"a": steady, "b": [10.1] * 8}) == (("a", "b"),)  # a difference below the floor
    assert s.rank({"a": steady, "b": [12.0] * 8}) == (("a",), ("b",))
    assert s.rank({"a": [10.0, 10.0], "b": [20.0, 20.0]}) == (("a", "b"),)  # two rounds prove nothing
    noisy = [9.0, 15.0, 8.0, 14.0, 9.0, 15.0, 8.0, 14.0]
    assert s.rank({"a": steady, "noisy": noisy}) == (("a", "noisy"),)
    assert s.rank({}) == ()
    assert s.rank({"only": [1.0]}) == (("only",),)


def test_a_row_between_two_tied_ones_is_not_ranked() -> None:
    a = [10.0, 10.0, 10.0, 10.0, 10.0, 10.0, 10.0, 10.0]
    b = [10.5] * 8  # apart from a
    c = [9.0, 13.0, 9.0, 13.0, 11.0, 12.0, 11.0, 12.0]  # slower in the middle, tied with a and b
    assert s.rank({"a": a, "b": b}) == (("a",), ("b",))
    assert s.rank({"a": a, "b": b, "c": c}) == (("a", "b", "c"),)


@given(st.integers(2, 5).flatmap(lambda n: st.lists(st.lists(times, min_size=6, max_size=6), min_size=n, max_size=n)))
def test_no_pair_of_different_groups_is_tied(rows: list[list[float]]) -> None:
    table = {str(i): row for i, row in enumerate(rows)}
    groups = s.rank(table)
    assert sorted(label for group in groups for label in group) == sorted(table)
    for faster, slower in itertools.combinations(groups, 2):
        for a, b in itertools.product(faster, slower):
            ratio = s.paired_ratio(table[b], table[a])
            assert ratio.value > 1
            assert not s.tied(ratio)


def test_equal_rows_are_rarely_ranked() -> None:
    generator = random.Random(3)
    wrong = 0
    for _ in range(300):
        rows = {label: [generator.lognormvariate(0, 0.05) for _ in range(10)] for label in "ab"}
        wrong += len(s.rank(rows)) > 1
    assert wrong <= 300 * 0.05
