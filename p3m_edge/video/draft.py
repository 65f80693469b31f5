"""Results in the making: kept in whole segments, so that a run that was killed can go on where it was.

The draft of ``clip.mp4`` is the folder ``.clip.mp4.parts`` beside it. When all frames are there, it becomes the result
in one step, and is gone.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from itertools import count
from pathlib import Path

from filelock import FileLock, Timeout

from p3m_edge.arrays import Pixels
from p3m_edge.atomic import LEFTOVERS, atomic_write, reason
from p3m_edge.errors import OutputError, UsageError
from p3m_edge.imageio import write_png
from p3m_edge.resources import release_memory
from p3m_edge.video.codecs import Codec, Format
from p3m_edge.video.frame import Frame
from p3m_edge.video.sink import FRAME_NAME
from p3m_edge.video.write import FileSink, join

SEGMENT = 300
"""Frames; what is lost at most when a run is killed."""
_JOB, _LAST, _LOCK = "job", "last", ".lock"


def folder_of(path: Path) -> Path:
    """The folder in which a result is kept until it is complete."""
    return path.with_name(f".{path.name}.parts")


class Draft:
    """A result in the making.

    Parameters
    ----------
    path
        Where the result is to be.
    job
        Says all that the frames depend on: a draft of another job is not gone on with.
    resume
        Go on with a draft that is there; else it is deleted.

    Attributes
    ----------
    done
        The frames that it holds in whole segments.

    Raises
    ------
    UsageError
        The draft that is there is one of another job.
    OutputError
        It cannot be written, or another run is at it.
    """

    pattern: str

    def __init__(self, path: Path, job: bytes, *, resume: bool) -> None:
        self.path, self._folder = path, folder_of(path)
        self._lock = FileLock(self._folder / _LOCK)
        try:
            self._folder.mkdir(exist_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise OutputError(f"{path} is being written by another run") from error
        except OSError as error:
            raise OutputError(f"{path} cannot be written: {reason(error)}") from error
        try:
            self._begin(self._folder / _JOB, job, resume=resume)
        except OSError as error:
            raise OutputError(f"{path} cannot be written: {reason(error)}") from error
        except BaseException:
            self.stop()
            raise

    def _begin(self, known: Path, job: bytes, *, resume: bool) -> None:
        goes_on = resume and known.exists()
        if goes_on and known.read_bytes() != job:
            text = f"{self.path} was begun from another video, artefact or with other options"
            raise UsageError(text, hint="give the same ones, or begin anew, without --resume")
        self.keep(self._count() // SEGMENT * SEGMENT if goes_on else 0)
        atomic_write(known, job)

    def keep(self, frames: int) -> None:
        """Go on after so many frames, a multiple of ``SEGMENT``; later ones are deleted."""
        self.done = frames
        kept = {self._folder / self._name(number) for number in range(0, frames, self._step)}
        for path in (*self._folder.glob(self.pattern), *self._folder.glob(LEFTOVERS)):
            if path not in kept:
                path.unlink()

    def write(self, frame: Frame, picture: Pixels) -> None:
        """Add the picture of the next frame; errors are those of the sinks."""
        raise NotImplementedError

    def finish(self) -> None:
        """Put the result in its place. :class:`OutputError`: that cannot be done."""
        raise NotImplementedError

    def stop(self) -> None:
        """Leave it as it is, for a later run; nothing, if no segment is whole."""
        if self._count() < SEGMENT:
            self.delete()
        self._lock.release()

    def delete(self) -> None:
        """Leave nothing."""
        self._lock.release()
        shutil.rmtree(self._folder, ignore_errors=True)

    _step = SEGMENT  # frames in each of its files

    def _name(self, number: int) -> str:
        """The name of the file that begins with that frame."""
        raise NotImplementedError

    def _count(self) -> int:
        """The frames in its whole files."""
        return next(number for number in count(0, self._step) if not (self._folder / self._name(number)).exists())


class FileDraft(Draft):
    """A video file in the making; see :class:`~p3m_edge.video.write.FileSink` for the parameters.

    ``audio`` is a file whose audio it gets; None: none.
    """

    def __init__(
        self, path: Path, job: bytes, form: Format, codec: Codec, *, alpha: bool, audio: Path | None, resume: bool
    ) -> None:  # fmt: skip
        self._format, self._codec, self._alpha, self._audio = form, codec, alpha, audio
        self.pattern = f"*{path.suffix}"
        self._sink: FileSink | None = None
        self._before: int | None = None
        super().__init__(path, job, resume=resume)

    def write(self, frame: Frame, picture: Pixels) -> None:
        """Add the picture of the next frame."""
        if self._sink is None:
            name = self._folder / self._name(self.done)
            self._sink = FileSink(name, self._format, codec=self._codec, alpha=self._alpha, after=self._before)
        self._sink.write(frame, picture)
        self.done += 1
        if self.done % SEGMENT == 0:
            self._close(self._sink)

    def finish(self) -> None:
        """Join the segments."""
        if self._sink is not None:
            self._sink.path = self._folder / f"{_LAST}{self.path.suffix}"
            self._close(self._sink)
        join(sorted(self._folder.glob(self.pattern)), self.path, self._format, self._audio)
        self.delete()

    def stop(self) -> None:
        """Leave the whole segments."""
        if self._sink is not None:
            self._sink.abandon()
        super().stop()

    def _close(self, sink: FileSink) -> None:
        self._before, self._sink = sink.last, None
        sink.close()
        release_memory()  # that of the encoder, each time another one

    def _name(self, number: int) -> str:
        return f"{number:09}{self.path.suffix}"


class SequenceDraft(Draft):
    """A folder of PNG files in the making."""

    pattern = "frame-*.png"
    _step = 1

    def __init__(self, path: Path, job: bytes, *, resume: bool) -> None:
        if path.is_file() or (path.is_dir() and any(path.iterdir())):
            raise OutputError(f"{path} is there already", hint="choose another --out, or delete it")
        super().__init__(path, job, resume=resume)

    def write(self, frame: Frame, picture: Pixels) -> None:
        """Write a picture, ``[H, W]``, ``[H, W, 3]`` or with alpha ``[H, W, 4]``."""
        write_png(self._folder / self._name(self.done), picture, result=True)
        self.done += 1

    def finish(self) -> None:
        """Give the folder its name."""
        self._lock.release()
        try:
            for name in (_JOB, _LOCK):
                with suppress(FileNotFoundError):
                    (self._folder / name).unlink()
            self._folder.replace(self.path)
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written: {reason(error)}") from error

    def _name(self, number: int) -> str:
        return FRAME_NAME.format(number)
