"""Calls timed in turns, in one process, so that disturbances of the machine affect all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from p3m_edge.benchmarks.worker import timed_ms

_SEED = 0  # of the order in each round


def interleaved(
    calls: Mapping[str, Callable[[], object]], *, rounds: int, iterations: int = 1, warmup: int = 1,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> dict[str, list[list[float]]]:  # fmt: skip
    """Milliseconds of each call, by name and round; every round has an order of its own.

    Parameters
    ----------
    calls
        What to time, by name.
    rounds, iterations
        How often to go through all of them, and how often each is called then.
    warmup
        Rounds before these, which are not counted.
    progress
        Called with the number of rounds that are done and of all.
    """
    found: dict[str, list[list[float]]] = {name: [] for name in calls}
    names, numbers = list(calls), np.random.default_rng(_SEED)
    for number in range(-warmup, rounds):
        for name in (names[index] for index in numbers.permutation(len(names))):
            spent = [timed_ms(calls[name]) for _ in range(iterations)]
            if number >= 0:
                found[name].append(spent)
        progress(max(0, number + 1), rounds)
    return found
