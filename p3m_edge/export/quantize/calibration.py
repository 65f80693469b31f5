"""What a target in 8 bits takes from the calibration pictures; what was measured is kept on disc with its attempts."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from p3m_edge.data.parallel import Progress
from p3m_edge.export.formats import Tell
from p3m_edge.export.graph.ranges import Range, activation_ranges, check_finite
from p3m_edge.export.quantize.resume import Attempts
from p3m_edge.export.session import ExportSession

_SECONDS = 5.0
"""Between two reports of how far something is."""


class Calibration:
    """The calibration pictures of one target, and what keeps results for an export that goes on (``attempts``)."""

    def __init__(self, session: ExportSession, attempts: Attempts, tell: Tell) -> None:
        assert session.sets.calibration is not None
        self.pictures, self.attempts = session.sets.calibration, attempts
        self._session, self._tell = session, tell

    def images(self, what: str = "") -> Iterator[NDArray[np.uint8]]:
        """The pictures as the network takes them; each fills the batch. With ``what`` for a text, progress is told."""
        progress = self.progress(what) if what else None
        for number, image in enumerate(self.pictures.images(*self._session.size)):
            yield self._session.batch_of(image)
            if progress is not None:
                progress(number + 1, len(self.pictures))

    def ranges(self, what: str = "measuring ranges") -> dict[str, Range]:
        """The ranges of all activations of the float32 graph, measured once; ``InputError`` if one is not finite."""

        def measure() -> dict[str, Range]:
            found = self._session.calibrated or activation_ranges(self._session.graph, self.images(what))
            check_finite(found)
            return found

        self._session.calibrated = self.attempts.remember("ranges", dict[str, Range], measure)
        return self._session.calibrated

    def progress(self, what: str, *, limited: bool = False) -> Progress:
        """What tells every few seconds how far something is; if it is limited, a spent budget stops it."""
        start = last = time.perf_counter()

        def progress(done: int, total: int) -> None:
            nonlocal last
            if limited:
                self.attempts.check_budget()
            now = time.perf_counter()
            if now - last >= _SECONDS or done == total:
                last = now
                self._tell(f"{what}: {done} of {total}, {(now - start) / done * (total - done):.0f} s left")

        return progress
