"""What PyInstaller must be told: the engines' modules are imported by names that it does not see in the source.

It asks :func:`hook_dirs` by the entry point ``pyinstaller40``, and finds the hook beside this file.
"""

from __future__ import annotations

from pathlib import Path


def hook_dirs() -> list[str]:
    """The folder of the hooks."""
    return [str(Path(__file__).parent)]
