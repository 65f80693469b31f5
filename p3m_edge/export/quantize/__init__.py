"""8 bits: a search for the first way to quantise a network that keeps its mattes within the gate."""

from p3m_edge.errors import P3MEdgeError


class UnfitError(P3MEdgeError):
    """A way to quantise gave no network that works; another way may."""
