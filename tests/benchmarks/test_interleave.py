"""Calls timed in turns."""

from __future__ import annotations

from p3m_edge.benchmarks.interleave import interleaved


def test_all_are_called_in_every_round_in_changing_order() -> None:
    called: list[str] = []
    told: list[tuple[int, int]] = []
    calls = {name: (lambda name=name: called.append(name)) for name in "abc"}
    found = interleaved(calls, rounds=4, iterations=2, warmup=3, progress=lambda *done: told.append(done))
    assert list(found) == ["a", "b", "c"]
    assert all(len(rounds) == 4 and all(len(spent) == 2 for spent in rounds) for rounds in found.values())
    rounds = [called[start : start + 6] for start in range(0, len(called), 6)]
    assert len(rounds) == 7
    assert all(sorted(one) == list("aabbcc") for one in rounds)
    assert all(one[0] == one[1] and one[2] == one[3] for one in rounds)
    assert len({"".join(one) for one in rounds}) > 1
    assert told == [(0, 4)] * 3 + [(done, 4) for done in (1, 2, 3, 4)]
