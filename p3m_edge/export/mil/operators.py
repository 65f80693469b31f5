"""What the operators of an ML Program compute, in PyTorch.

The semantics are those that coremltools' reference of the MIL operators states. Floating-point values are float32 here,
whatever their type in the program: :mod:`p3m_edge.export.mil.interpreter` rounds the results where that is wanted.
"""

from __future__ import annotations

from p3m_edge.export.mil import arithmetic, layers, shaping
from p3m_edge.export.mil.arguments import Handler

OPERATORS: dict[str, Handler] = {**arithmetic.TABLE, **layers.TABLE, **shaping.TABLE}
"""By the operator's name in MIL."""
MOVING = frozenset(shaping.TABLE)
"""Operators that move values, and give none that was not there."""
