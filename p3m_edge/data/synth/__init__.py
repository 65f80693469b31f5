"""Synthetic portraits with exact mattes; all of it drawn from a seed with numpy and OpenCV."""

from p3m_edge.data.synth.camera import CLEAN, Look
from p3m_edge.data.synth.portraits import portrait

__all__ = ["CLEAN", "Look", "portrait"]
