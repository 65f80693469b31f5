"""Files of which any will do, source faces and backgrounds: in the place of a damaged one stands the next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from p3m_edge.data.faces import Face, FaceSource
from p3m_edge.errors import InputError, P3MEdgeError

T = TypeVar("T")

_TRIES = 8  # files tried in the place of a damaged one


class Sound(Sequence[T]):
    """What can be read of a number of files.

    Parameters
    ----------
    what
        They are, for errors.
    count
        How many there are.
    read
        Gives that of an index; raises :class:`InputError` where the file is damaged.
    """

    def __init__(self, what: str, count: int, read: Callable[[int], T]) -> None:
        self._what, self._count, self._read = what, count, read
        self._damaged: dict[int, str] = {}
        self._told = 0

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> T:  # type: ignore[override]
        """That of an index, or of the next one that is not damaged: the same one in every process.

        Too many damaged files one after the other are a :class:`P3MEdgeError`.
        """
        tries = [(index + attempt) % self._count for attempt in range(min(_TRIES, self._count))]
        for chosen in tries:
            if chosen not in self._damaged:
                try:
                    return self._read(chosen)
                except InputError as error:
                    self._damaged[chosen] = " ".join(str(error).split())
        last = self._damaged[tries[-1]]
        raise P3MEdgeError(f"{len(tries)} {self._what} one after the other cannot be used, the last: {last}")

    def damaged(self) -> tuple[str, ...]:
        """A line for each damaged file that was found since the last call."""
        lines = tuple(self._damaged.values())[self._told :]
        self._told += len(lines)
        return lines


class SoundFaces(Sound[Face]):
    """The faces of a source that are not damaged."""

    def __init__(self, source: FaceSource) -> None:
        super().__init__("source faces", len(source), source.read)
        self.licence = source.licence

    def read(self, index: int) -> Face:
        """As ``self[index]``."""
        return self[index]
