"""Messages without folders: a report has names of files, never their folders."""

from __future__ import annotations

import re
from collections.abc import Mapping

# The folders of an absolute path (POSIX, drive or share), but not of a web address.
_FOLDERS = re.compile(r"(?<![\w./\\])(?:[A-Za-z]:)?(?:\\\\?|/(?!/))(?:[^\s'\"\\/:;,()]+[\\/])+")


def redact(text: str, known: Mapping[str, str] | None = None) -> str:
    """The text without folders.

    Parameters
    ----------
    text
        An error message.
    known
        Paths and their replacements, applied first (paths may contain blanks).
    """
    for path, name in sorted((known or {}).items(), key=lambda item: -len(item[0])):
        text = text.replace(path, name)
    return _FOLDERS.sub("", text)
