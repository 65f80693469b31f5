"""p3m-edge: privacy-preserving portrait matting, from training to the device."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from p3m_edge.pictures.removal import remove
else:  # or type checkers would take any name

    def __getattr__(name: str) -> object:
        """``remove``, imported when it is first asked for: importing the package loads nothing."""
        if name != "remove":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from p3m_edge.pictures.removal import remove

        return remove


__all__ = ["remove"]
__version__ = "0.1.0"
