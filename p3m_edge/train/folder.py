"""The folder of a run: its lock, and what a training writes down in it besides states and weights.

One training at a time is in a folder, since two would write over each other's files.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from p3m_edge.atomic import LEFTOVERS, atomic_write, reason
from p3m_edge.benchmarks.report import charts
from p3m_edge.errors import InputError, OutputError, P3MEdgeError, UsageError, missing_package
from p3m_edge.smallfile import read_csv, read_text
from p3m_edge.train import config as configs
from p3m_edge.train.origin import OPTIONS
from p3m_edge.train.request import TrainPlan, TrainRequest
from p3m_edge.train.state import STATE

if TYPE_CHECKING:
    from lightning_fabric import Fabric

LOCK = ".lock"
"""A file in the folder. The system lets it go when its holder ends, however that ends."""
CURVE = "curve.svg"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep every other process that asks for the same out of a folder, which is made; one that stays empty goes again.

    :class:`OutputError` if another process is in it, or it cannot be written.
    """
    there = folder.exists()
    lock = FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise OutputError(f"another training is writing {folder}", hint="wait for it, or use another --out") from None
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {reason(error)}") from error
    try:
        yield
    finally:
        with suppress(OSError):  # only its holder removes it; Windows does so when it is released
            (folder / LOCK).unlink()
        lock.release()
        if not there:
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def locked_run(request: TrainRequest, fabric: Fabric) -> Iterator[None]:
    """:func:`locked` in the folder of a run, for all processes of a training.

    What :func:`locked` or :func:`check` raises in the first process is raised in all of them.
    """
    refused: P3MEdgeError | None = None
    with ExitStack() as held:
        if fabric.is_global_zero:
            try:
                held.enter_context(locked(request.out))
                check(request)  # another training may have ended in it a moment ago
            except P3MEdgeError as error:
                refused = error
        refused = fabric.broadcast(refused)
        if refused is not None:
            raise refused
        yield


def check(request: TrainRequest) -> None:
    """:class:`UsageError` if the run's folder is no folder; or the training is a new one, and something is in it."""
    out = request.out
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is not a folder")
    if not request.resume and out.is_dir() and any(path.name != LOCK for path in out.iterdir()):
        hint = "--resume goes on with the run in it" if (out / STATE).is_file() else "name a new folder"
        raise UsageError(f"{out} is not empty", hint=hint)


def prepare(request: TrainRequest, planned: TrainPlan) -> None:
    """Write the effective settings, and remove what a killed run left half-written; raises :class:`OutputError`."""
    for path in request.out.glob(LEFTOVERS):
        path.unlink(missing_ok=True)
    given = {name: getattr(request, name) for name in OPTIONS}
    named = ", ".join(f"{name}: {value}" for name, value in given.items() if value is not None)
    text = f"# {named}\n# {planned.data}\n\n{configs.to_toml(request.config)}"
    try:
        (request.out / "sheets").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{request.out} cannot be made: {error.strerror}") from error
    atomic_write(request.out / "config.toml", text.encode())


class Logs:
    """``log.csv`` (training) and ``validation.csv``, which grow by a row at a time, and TensorBoard.

    Rows of an earlier run stay up to the step ``last``, from which the run goes on: later ones are written again.

    Raises
    ------
    InputError
        A table of an earlier run cannot be read.
    MissingError
        TensorBoard is wanted and not installed.
    """

    def __init__(self, folder: Path, last: int, *, tensorboard: bool) -> None:
        self._folder = folder
        self._columns = {name: _kept_until(folder / f"{name}.csv", last) for name in ("log", "validation")}
        self._board = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise missing_package("tensorboard", "train", error) from error
            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=last + 1)

    def add(self, table: str, step: int, values: Mapping[str, float]) -> None:
        """Write a row into ``log`` or ``validation``, whose first row decides about the columns, ``step`` first.

        :class:`OutputError` if the file cannot be written.
        """
        path, row = self._folder / f"{table}.csv", {"step": step, **values}
        new = not self._columns[table]
        columns = self._columns[table] = self._columns[table] or list(row)
        try:
            with path.open("a", encoding="utf-8", newline="") as file:
                file.write(_lines([columns] * new + [[row[name] for name in columns]]))
        except OSError as error:
            raise OutputError(f"{path} cannot be written: {error.strerror}") from error
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(f"{'train' if table == 'log' else table}/{name}", value, step)

    def __enter__(self) -> Logs:
        return self

    def __exit__(self, *_: object) -> None:
        if self._board is not None:
            self._board.close()


def write_curve(run: Path, batch: int) -> None:
    """Draw the SAD of the held-out pictures over the pictures trained on, ``batch`` in each step of all processes.

    :class:`InputError` if ``validation.csv`` cannot be read, :class:`OutputError` if the curve cannot be written.
    """
    table = run / "validation.csv"
    try:
        points = [charts.Point("", int(row["step"]) * batch / 1000, float(row["sad"])) for row in read_csv(table)]
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise InputError(f"{table} cannot be read: {error}") from error
    title, axes = "SAD of the held-out pictures", ("pictures seen, thousands", "SAD, thousands")
    atomic_write(run / CURVE, charts.points(title, points, *axes, joined=True).encode())


def _kept_until(path: Path, last: int) -> list[str]:
    """The columns of a table, from which what comes after a step is removed; none where there is no table."""
    if not path.is_file():
        return []
    try:
        columns, *rows = list(csv.reader(io.StringIO(read_text(path), newline=""))) or [[]]
        # A row that was cut short has fewer fields.
        kept = [row for row in rows if len(row) == len(columns) and int(row[0]) <= last]
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path} cannot be read: {reason(error)}", hint="move it away") from error
    if columns:
        atomic_write(path, _lines([columns, *kept]).encode())
    return columns


def _lines(rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
