"""The cache of compiled models between starts; checksums keep a damaged entry from being loaded."""

from __future__ import annotations

import hashlib
import os
import sys
import zlib
from pathlib import Path

import msgspec

from p3m_edge.atomic import atomic_write
from p3m_edge.errors import OutputError, UsageError
from p3m_edge.manifest import GOLDEN, Manifest
from p3m_edge.smallfile import parse_json, read_small

ENVIRONMENT = "P3M_EDGE_CACHE"
_SUMS = "crc32.json"
_CHUNK = 4 * 1024 * 1024


class CacheWarning(UserWarning):
    """The compiled-model cache cannot be used: the start is slower, the results are the same."""


def root(folder: Path | None = None) -> Path:
    r"""The cache folder: ``folder``, or else ``P3M_EDGE_CACHE``, or else the user's own as the system has it.

    Windows: ``%LOCALAPPDATA%\p3m-edge\Cache``; macOS: ``~/Library/Caches/p3m-edge``; elsewhere
    ``$XDG_CACHE_HOME/p3m-edge`` or ``~/.cache/p3m-edge``.

    Raises
    ------
    OutputError
        The user has no home (a container's user without an account), or the current folder was deleted.
    """
    try:
        if named := folder or os.environ.get(ENVIRONMENT):
            return Path(named).absolute()
        if sys.platform == "win32":
            return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "p3m-edge" / "Cache"
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Caches" / "p3m-edge"
        # By the XDG specification a relative path there is to be ignored.
        base = Path(os.environ.get("XDG_CACHE_HOME", ""))
        return (base if base.is_absolute() else Path.home() / ".cache") / "p3m-edge"
    except (RuntimeError, FileNotFoundError) as error:
        reason = "the user has no home" if isinstance(error, RuntimeError) else "the current folder was deleted"
        raise OutputError(
            f"there is no place for the cache: {reason}", hint=f"set {ENVIRONMENT} to a folder that can be written"
        ) from error


def open_entry(folder: Path, manifest: Manifest, artefact: Path, engine_version: str) -> Path:
    """The private folder of one model and one engine version, without damaged files.

    The key is the content of the model, not its path: an artefact that was exported again never meets the
    compiled form of its predecessor.

    Raises
    ------
    UsageError
        The cache lies inside the artefact, which must stay as it was exported.
    OSError
        The folder cannot be made or cleaned.
    """
    if folder.resolve().is_relative_to(artefact.resolve()):
        raise UsageError(f"the cache must not lie inside the artefact: {folder}")
    files = sorted((name, record.sha256) for name, record in manifest.files.items() if name != GOLDEN)
    key = hashlib.sha256(repr((engine_version, files)).encode()).hexdigest()[:32]
    entry = folder / manifest.engine.name / key
    entry.mkdir(mode=0o700, parents=True, exist_ok=True)
    sums = _recorded(entry)
    for path in _files(entry):
        if sums.get(path.name) != _checksum(path):
            path.unlink()
    return entry


def seal(entry: Path) -> None:
    """Record the checksums of what the engine wrote; the next start deletes a file that has changed since.

    Raises
    ------
    OutputError
        The engine could write nothing, of which it says nothing; or the checksums cannot be written.
    OSError
        What it wrote cannot be read.
    """
    sums = {path.name: _checksum(path) for path in _files(entry)}
    if not sums:
        raise OutputError(f"nothing could be kept in {entry}: the disc may be full, or not to be written")
    atomic_write(entry / _SUMS, msgspec.json.encode(sums))


def _checksum(path: Path) -> int:
    """CRC-32, which finds damage; it runs at every start, and takes a third of the time of a SHA-256."""
    value = 0
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            value = zlib.crc32(chunk, value)
    return value


def _files(entry: Path) -> list[Path]:
    return sorted(path for path in entry.iterdir() if path.is_file() and not path.name.startswith((_SUMS, ".")))


def _recorded(entry: Path) -> dict[str, int]:
    try:
        return parse_json(read_small(entry / _SUMS), dict[str, int])
    except (OSError, msgspec.MsgspecError):
        return {}
