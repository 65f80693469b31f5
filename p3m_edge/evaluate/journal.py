"""What has been scored, on disc picture by picture, so that a run that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

import msgspec

from p3m_edge import __version__
from p3m_edge.data.sample import Item
from p3m_edge.errors import OutputError
from p3m_edge.evaluate.method import MethodInfo
from p3m_edge.evaluate.results import PictureScore, Protocol
from p3m_edge.smallfile import parse_json, read_small

_MAX_BYTES = 1024**3  # a score has some 2,000
JOURNAL = "journal.jsonl"


class _Entry(msgspec.Struct, frozen=True):
    key: str
    score: PictureScore


class Journal:
    """An append-only file of scores in a folder, which is made; a last line that was cut off is passed over.

    Without a folder, nothing is kept. :class:`OutputError` if it cannot be made, or the file not be read or written.
    """

    def __init__(self, folder: Path | None) -> None:
        self._path = None if folder is None else folder / JOURNAL
        self._known: dict[str, PictureScore] = {}
        self._torn = False
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            data = read_small(self._path, _MAX_BYTES) if self._path.exists() else b""
        except OSError as error:
            told = f"{self._path} cannot be opened: {error.strerror}"
            raise OutputError(told, hint="choose another --out") from error
        self._torn = bool(data) and not data.endswith(b"\n")
        for line in data.splitlines():
            with suppress(msgspec.MsgspecError):
                entry = parse_json(line, _Entry)
                self._known[entry.key] = entry.score

    def find(self, key: str, protocol: Protocol) -> PictureScore | None:
        """An earlier score under that key, if it has every route that is wanted."""
        found = self._known.get(key)
        return found if found is not None and set(protocol.routes) <= set(found.scores) else None

    def add(self, key: str, score: PictureScore) -> None:
        """Keep a score."""
        if self._path is None:
            return
        line = msgspec.json.encode(_Entry(key, score)) + b"\n"
        try:
            with self._path.open("ab") as stream:
                stream.write(b"\n" + line if self._torn else line)
        except OSError as error:
            self._torn = True
            raise OutputError(f"{self._path} cannot be written: {error.strerror}") from error
        self._torn = False


def key(method: MethodInfo, protocol: Protocol, item: Item) -> str:
    """What a score depends on: program, method, protocol (but its routes), and the picture's files as they are now."""
    stored = f"{item.stored.source} {item.stored.turned}"
    parts = [__version__, method.kind, method.identity, protocol.strategy, protocol.trimap, item.name, stored]
    for path in (item.image, item.alpha, item.trimap, item.face_mask):
        try:
            status = None if path is None else path.stat()
        except OSError:  # reading it will say why
            status = None
        parts.append(f"{path}" if status is None else f"{path} {status.st_size} {status.st_mtime_ns}")
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:32]
