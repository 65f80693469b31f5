"""What an export of an INT8 target has found out, on disc beside the artefact, so that an interruption loses nothing.

The folder holds ``attempts.json``, the model file of the best attempt, and results by name. Everything is written under
another name first, and what does not belong together is thrown away when it is opened.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self, TypeVar

import msgspec

from p3m_edge import manifest as manifests
from p3m_edge.atomic import atomic_write
from p3m_edge.errors import InputError, MissingError, OutputError
from p3m_edge.export.formats import Built
from p3m_edge.manifest_schema import AttemptRecord, FileRecord
from p3m_edge.smallfile import parse_json, read_small

T = TypeVar("T")
_INDEX = "attempts.json"
_SCHEMA = 3


@dataclass(frozen=True)
class _Best:
    """The number of the best attempt, which is the name of its folder too; what is in there."""

    number: int
    built: Built
    files: dict[str, FileRecord]


@dataclass(frozen=True)
class _Index:
    schema: int
    key: str
    rungs: tuple[AttemptRecord, ...] = ()
    best: _Best | None = None
    seconds: float = 0.0


class BudgetSpent(Exception):  # noqa: N818 - not an error: the best attempt so far is the result
    """The time or the number of attempts is used up."""


class Attempts:
    """The attempts of one target, and what they may cost together; those of an interrupted export count.

    As a context manager it counts the time until its end, however that comes: by an error or by Ctrl-C too. Only where
    pictures, checkpoint or packages must become others, and the key with them, nothing is written.

    Parameters
    ----------
    folder
        Where everything is; made when there is something to keep. It must not be used by two exports at once.
    key
        Says what the results depend on. Those of another key are removed.
    minutes, limit
        The budget: how long all takes, and how many attempts.

    Raises
    ------
    OutputError
        What is there cannot be read or removed.
    """

    def __init__(self, folder: Path, key: str, minutes: float, limit: int) -> None:
        self.folder, self._minutes, self._limit = folder, minutes, limit
        self._index = _Index(_SCHEMA, key)
        self._begin = time.perf_counter()
        try:
            found = _read(folder)
            if found is not None and (found.schema, found.key) == (_SCHEMA, key):
                self._index = found
                self._clean()
            else:
                shutil.rmtree(folder, ignore_errors=True)
        except OSError as error:
            raise OutputError(f"{folder} cannot be used: {error.strerror}", hint="delete it") from error
        self._begin -= self._index.seconds

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if not isinstance(error, InputError | MissingError):
            with suppress(OutputError):  # a full disc is not what ended it
                self._write(self._index)

    @property
    def rungs(self) -> tuple[AttemptRecord, ...]:
        """All attempts, in their order."""
        return self._index.rungs

    @property
    def budget(self) -> str:
        """What of the budget is used, in words."""
        used = f"{self._minutes_used:.1f} of {self._minutes:g} minutes"
        return f"{len(self.rungs)} of {self._limit} attempts, {used} used"

    def check_budget(self) -> None:
        """Raise :class:`BudgetSpent` if nothing is left; the first attempt is always made, and none is cut short."""
        if self.rungs and (len(self.rungs) >= self._limit or self._minutes_used >= self._minutes):
            raise BudgetSpent

    @property
    def _minutes_used(self) -> float:
        return (time.perf_counter() - self._begin) / 60

    @property
    def best(self) -> AttemptRecord | None:
        """The one whose model file is kept."""
        best = self._index.best
        return None if best is None else self._index.rungs[best.number]

    def find(self, name: str, fp32: Sequence[str]) -> AttemptRecord | None:
        """The attempt of that name with these parts in float32, if it was made."""
        return next((rung for rung in self.rungs if rung.name == name and rung.fp32 == tuple(fp32)), None)

    def add(self, record: AttemptRecord, built: Built | None, place: Path, *, better: bool) -> None:
        """Keep an attempt; if it is the best so far, the files in ``place`` are moved here."""
        number, best = len(self.rungs), self._index.best
        self.folder.mkdir(parents=True, exist_ok=True)
        if better and built is not None:
            files = manifests.record_files(place)
            shutil.move(place, self._place(number))
            best = _Best(number, built, files)
        self._write(replace(self._index, rungs=(*self.rungs, record), best=best))
        self._clean()

    def copy_best(self, folder: Path) -> Built:
        """Copy the files of the best attempt into ``folder``, and say what they are."""
        best = self._index.best
        assert best is not None
        for name in best.files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self._place(best.number) / name, folder / name)
        return best.built

    def remember(self, name: str, kind: type[T], make: Callable[[], T]) -> T:
        """A result by its name: read if it is here, else made and written."""
        path = self.folder / f"{name}.json"
        try:
            return parse_json(read_small(path), kind)
        except (OSError, msgspec.MsgspecError):
            result = make()
        self._write(self._index)  # first, so that what is in the folder has its key
        atomic_write(path, msgspec.json.encode(result))
        return result

    def _place(self, number: int) -> Path:
        return self.folder / str(number)

    def _write(self, index: _Index) -> None:
        index = replace(index, seconds=time.perf_counter() - self._begin)
        atomic_write(self.folder / _INDEX, msgspec.json.encode(index), parents=True)
        self._index = index

    def _clean(self) -> None:
        """Remove model files of others than the best: it may have been interrupted between two steps."""
        best = self._index.best
        for path in self.folder.iterdir():
            if path.is_dir() and (best is None or path != self._place(best.number)):
                shutil.rmtree(path)


def _read(folder: Path) -> _Index | None:
    """What is written in the folder, if it is sound."""
    try:
        found = parse_json(read_small(folder / _INDEX), _Index)
        best = found.best
        sound = best is None or manifests.record_files(folder / str(best.number)) == best.files
    except (OSError, msgspec.MsgspecError):
        return None
    return found if sound else None
