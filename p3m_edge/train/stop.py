"""Ctrl-C and SIGTERM while training: finish the step, save, stop. A second one stops at once.

Between steps, where a training of one process waits for pictures that may never come, the first one stops at once.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Notices the first signal; inside ``with``, in the main thread.

    Attributes
    ----------
    asked
        Whether somebody wants the training to stop.
    """

    def __init__(self) -> None:
        self.asked = False
        self._waiting = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Inside, a signal raises :class:`KeyboardInterrupt`: there is no step to finish."""
        if self.asked:
            raise KeyboardInterrupt
        self._waiting = True
        try:
            yield
        finally:
            self._waiting = False

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        stop, self.asked = self.asked or self._waiting, True
        if stop:
            raise KeyboardInterrupt
