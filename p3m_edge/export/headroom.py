"""How close results in half precision come to overflow, where an artefact is not run by a device but computed here."""

from __future__ import annotations

import math


class Headroom:
    """The closest over all inferences.

    Attributes
    ----------
    value
        How many times larger all results could have been; None before the first inference, or without half precision.
    at
        The operation that came closest.
    """

    def __init__(self) -> None:
        self.value: float | None = None
        self.at = ""

    def note(self, value: float, at: str) -> None:
        """Take a result into account; NaN, as of a division of zero by zero, has none left."""
        value = 0.0 if math.isnan(value) else value
        if self.value is None or value < self.value:
            self.value, self.at = value, at
