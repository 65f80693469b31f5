"""Run the stages of an export, one after the other, with their time and peak memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import psutil

from p3m_edge.export.request import OnEvent, StageEvent, StageTime
from p3m_edge.records import RungRecord

T = TypeVar("T")
_SAMPLE_SECONDS = 0.02


class Stages:
    """The stages of one target, announced to ``on_event`` as they start and end.

    Attributes
    ----------
    times
        What the stages so far have cost.
    """

    def __init__(self, target: str, names: tuple[str, ...], on_event: OnEvent) -> None:
        self.times: list[StageTime] = []
        self._target = target
        self._names = names
        self._on_event = on_event

    def run(self, name: str, action: Callable[[], T]) -> T:
        """Run one stage and give back what it returns."""
        index, count = self._names.index(name), len(self._names)
        self._on_event(StageEvent(self._target, name, index, count, "start"))
        start = time.perf_counter()
        with _peak_memory() as peak:
            result = action()
        cost = StageTime(name, time.perf_counter() - start, max(peak))
        self.times.append(cost)
        self._on_event(StageEvent(self._target, name, index, count, "done", cost.seconds, cost.peak_rss_mb))
        return result

    def note(self, told: RungRecord | str) -> None:
        """Tell of a rung that was tried in the stage that is at work, or of something else in words."""
        index, count = len(self.times), len(self._names)
        rung, text = (None, told) if isinstance(told, str) else (told, "")
        self._on_event(StageEvent(self._target, self._names[index], index, count, "note", rung=rung, text=text))


@contextmanager
def _peak_memory() -> Iterator[list[float]]:
    """Sample this process' resident memory (MB) until the block ends."""
    process = psutil.Process()
    samples = [process.memory_info().rss / 1e6]
    done = threading.Event()

    def sample() -> None:
        while not done.wait(_SAMPLE_SECONDS):
            samples[0] = max(samples[0], process.memory_info().rss / 1e6)

    thread = threading.Thread(target=sample, name="peak-memory", daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        done.set()
        thread.join()
