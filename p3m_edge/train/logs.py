"""What a training writes down: CSV tables that survive an interruption, and TensorBoard beside them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from p3m_edge.atomic import atomic_write, reason
from p3m_edge.errors import InputError, OutputError, missing_package
from p3m_edge.smallfile import read_text

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Table:
    """A CSV file that grows by a row at a time; its first column is ``step``.

    Parameters
    ----------
    path
        The file. Rows of an earlier run stay, up to ``last``.
    last
        The step that the run goes on from; what was written after it will be written again.
    """

    def __init__(self, path: Path, last: int) -> None:
        self.path = path
        self._names: list[str] = []
        if path.is_file():
            self._keep_until(last)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Append a row; the first one decides about the columns.

        Raises
        ------
        OutputError
            The file cannot be written.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if not self._names:
            self._names = ["step", *values]
            writer.writerow(self._names)
        writer.writerow([step, *(_number(values[name]) for name in self._names[1:])])
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(text.getvalue())
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written: {error.strerror}") from error

    def _keep_until(self, last: int) -> None:
        try:
            rows = list(csv.reader(io.StringIO(read_text(self.path), newline="")))
            if not rows:
                return
            self._names = rows[0]
            # A row that was cut short has fewer fields.
            kept = [row for row in rows[1:] if len(row) == len(self._names) and int(row[0]) <= last]
        except (OSError, ValueError, csv.Error) as error:
            raise InputError(f"{self.path} cannot be read: {reason(error)}", hint="move it away") from error
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self._names, *kept])
        atomic_write(self.path, text.getvalue().encode())


class Logs:
    """The tables of a run, and TensorBoard if it is wanted.

    Parameters
    ----------
    folder
        Of the run: ``log.csv`` (training), ``validation.csv``, ``tensorboard/``.
    last
        The step that the run goes on from.
    tensorboard
        Whether events are written for it.

    Raises
    ------
    MissingError
        TensorBoard is wanted and not installed.
    """

    def __init__(self, folder: Path, last: int, *, tensorboard: bool) -> None:
        self._tables = {name: Table(folder / f"{name}.csv", last) for name in ("log", "validation")}
        self._board = _board(folder / "tensorboard", last) if tensorboard else None

    def add(self, table: str, step: int, values: Mapping[str, float]) -> None:
        """Write a row into ``log`` or ``validation``; raises :class:`OutputError` where that fails."""
        self._tables[table].add(step, values)
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(f"{'train' if table == 'log' else table}/{name}", value, step)

    def __enter__(self) -> Logs:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._board is not None:
            self._board.close()


def _board(folder: Path, last: int) -> SummaryWriter:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise missing_package("tensorboard", "train", error) from error
    return SummaryWriter(str(folder), purge_step=last + 1)


def _number(value: float) -> str:
    return repr(float(value)) if isinstance(value, float) else str(value)
