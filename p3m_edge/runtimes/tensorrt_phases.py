"""How far a builder of TensorRT engines has come, from what it says of its phases."""

from __future__ import annotations


class Phases:
    """The library's account of what it is at, as one share of the whole. A phase may have others within its steps."""

    def __init__(self) -> None:
        self._steps: dict[str, int] = {}
        self._done: dict[str, int] = {}
        self._within: dict[str, str | None] = {}
        self._most = 0.0

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        """A phase begins, within a step of its parent."""
        self._steps[phase], self._done[phase], self._within[phase] = max(steps, 1), 0, parent

    def step(self, phase: str, step: int) -> None:
        """A step of it (0, 1, ...) is done."""
        self._done[phase] = step + 1

    def finish(self, phase: str) -> None:
        """It is over."""
        for known in (self._steps, self._done, self._within):
            known.pop(phase, None)

    @property
    def share(self) -> float:
        """How much of the outermost phase is done, 0..1; it never falls, as phases end before the step they are in."""
        found = max((self._share(name) for name, parent in self._within.items() if parent is None), default=0.0)
        self._most = max(self._most, found)
        return self._most

    def _share(self, phase: str) -> float:
        within = sum(self._share(name) for name, parent in self._within.items() if parent == phase)
        return min((self._done[phase] + within) / self._steps[phase], 1.0)
