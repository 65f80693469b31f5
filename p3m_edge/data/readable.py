"""Files of which any will do, such as source faces and backgrounds: in the place of a damaged one stands the next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from p3m_edge.data.faces import Face, FaceSource
from p3m_edge.errors import InputError, P3MEdgeError
from p3m_edge.imageio import MaskError

T = TypeVar("T")

_TRIES = 8  # files tried in the place of a damaged one


def read_or_next(what: str, index: int, count: int, read: Callable[[int], T]) -> tuple[T, tuple[str, ...]]:
    """What ``read`` gives for an index of ``count``, or for the next one that is not damaged; a line for each that is.

    A damaged file is an :class:`InputError` of ``read``, and too many of ``what``, one after the other, are one here. A
    :class:`MaskError` passes: where one matte is not what it seems, so are others.
    """
    damaged: list[str] = []
    for attempt in range(min(_TRIES, count)):
        try:
            return read((index + attempt) % count), tuple(damaged)
        except MaskError:
            raise
        except InputError as error:
            damaged.append(" ".join(str(error).split()))
    raise InputError(f"{len(damaged)} {what} one after the other cannot be used, the last: {damaged[-1]}")


class Readable(Sequence[T]):
    """What can be read of a number of files, called ``what`` in errors: the same in every process."""

    def __init__(self, what: str, count: int, read: Callable[[int], T]) -> None:
        self._what, self._count, self._read = what, count, read
        self._damaged: dict[str, None] = {}
        self._told = 0

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> T:  # type: ignore[override]  # no slices are taken of it
        """That of an index, or of the next one that is not damaged; too many in a row are a :class:`P3MEdgeError`."""
        try:
            found, lines = read_or_next(self._what, index, self._count, self._read)
        except InputError as error:
            raise P3MEdgeError(str(error)) from error
        self._damaged.update(dict.fromkeys(lines))
        return found

    def damaged(self) -> tuple[str, ...]:
        """A line for each damaged file that was found since the last call."""
        lines = tuple(self._damaged)[self._told :]
        self._told += len(lines)
        return lines


class ReadableFaces(Readable[Face]):
    """The faces of a source that are not damaged."""

    def __init__(self, source: FaceSource) -> None:
        super().__init__("source faces", len(source), source.read)
        self.licence = source.licence

    def read(self, index: int) -> Face:
        """As ``self[index]``."""
        return self[index]
