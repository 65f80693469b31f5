"""Artefact folders: written next to their final place and renamed into it at the end, so that none is ever partial."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import Timeout

from p3m_edge.atomic import is_aside, locked, reason, recover, remove_folder, swap
from p3m_edge.errors import OutputError
from p3m_edge.manifest import MANIFEST, REJECTED_SUFFIX


@contextmanager
def workspace(out: Path, target: str, *, force: bool, marker: str = MANIFEST) -> Iterator[Path]:
    """A private folder for the artefact ``out/<target>``, removed at the end unless :func:`settle` moved it.

    ``marker``: the file by which a folder that may be replaced is known; other things than artefacts have others.

    Raises
    ------
    OutputError
        The artefact exists (without ``force``) or is no artefact, another process is writing it, or ``out`` cannot be
        written.
    """
    final = out / target
    partial = out / f".{target}.partial"
    try:
        out.mkdir(parents=True, exist_ok=True)
        with locked(final, timeout=0):
            try:
                check_free(final, force=force, marker=marker)
                remove_folder(partial)  # a process that was killed may have left it
                partial.mkdir()
                yield partial
            finally:
                remove_folder(partial)
    except Timeout:
        raise OutputError(f"another process is writing {final}", hint="wait for it, or choose another --out") from None
    except OSError as error:
        where = error.filename if isinstance(error.filename, str) else out
        raise OutputError(f"{where} cannot be written: {reason(error)}") from error


def check_free(final: Path, *, force: bool, marker: str = MANIFEST) -> None:
    """Raise ``OutputError`` where ``final`` exists and ``force`` is not given, or where it has no ``marker``."""
    if is_aside(final):
        recover(final)
    if not final.exists() and not final.is_symlink():
        return
    if not force:
        raise OutputError(f"{final} exists", hint="--force replaces it")
    if not final.is_dir() or final.is_symlink() or (any(final.iterdir()) and not (final / marker).is_file()):
        what = "is not an artefact" if marker == MANIFEST else f"holds no {marker}"
        raise OutputError(f"{final} {what}, so it is not replaced", hint="choose another --out")


def attempts(final: Path) -> Path:
    """Where an export of an INT8 target keeps what it has tried, for the next one that is asked for the same."""
    return final.with_name(f".{final.name}.attempts")


def settle(partial: Path, final: Path, *, passed: bool) -> Path:
    """Move a finished artefact to its place, or to ``*.rejected``, and return where it is.

    It replaces what stood there; a rejected artefact leaves an accepted one of the same name alone.
    """
    place = final if passed else final.with_name(final.name + REJECTED_SUFFIX)
    swap(partial, place)
    if passed:  # an earlier rejected artefact is out of date, and the way to this one of no more use
        remove_folder(final.with_name(final.name + REJECTED_SUFFIX))
        remove_folder(attempts(final))
    return place


def size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
