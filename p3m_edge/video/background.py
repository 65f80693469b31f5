"""A video behind the subject: of each frame the picture that is shown at its time, from the beginning when it ends."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Self, cast, get_args

import cv2

from p3m_edge import arguments
from p3m_edge.arrays import Array, Pixels
from p3m_edge.errors import UsageError, one_of, shown
from p3m_edge.preprocess import Colour
from p3m_edge.runtimes import compose
from p3m_edge.video.frame import Alpha, Frame
from p3m_edge.video.read import FileSource
from p3m_edge.video.stream import Render

_PLAIN = compose.Effect()
_EARLY = 1e-3  # seconds that a picture may come too soon: some containers round time stamps to milliseconds


class Applied:
    """An effect, whose background is brought to the frames' size once."""

    def __init__(self, effect: compose.Effect) -> None:
        self._effect = self._fitted = effect
        self._form: object = None

    def __call__(self, frame: Array, alpha: Alpha) -> Pixels:
        """The picture that the effect makes of a frame and its alpha."""
        form = frame.shape, frame.dtype
        if form != self._form:
            self._fitted, self._form = self._effect.fitted(frame), form
        return compose.apply(frame, alpha, self._fitted)


class VideoBackground:
    """An effect of a :class:`~p3m_edge.video.stream.MattingStream` that puts the subject on a video.

    What is behind a frame depends on its time alone: rates may differ and vary, and frames may be missing. A video that
    is shorter than the stream begins again. It is scaled and cropped as a picture is; its sound is not used. Close it,
    or leave its ``with`` block, after the stream.

    Parameters
    ----------
    path
        Any container and codec that FFmpeg reads.
    effect
        How it is mixed; the background is the video.
    colour
        The order of the frames' channels.

    Raises
    ------
    MissingError
        PyAV is absent.
    UsageError
        An argument of another type or value; on the way: it was closed.
    InputError
        The file cannot be read or has no pictures; on the way: it is gone when it is to begin again.
    """

    def __init__(self, path: str | Path, effect: compose.Effect = _PLAIN, colour: Colour = "RGB") -> None:
        arguments.instance("the effect", effect, compose.Effect)
        self.path, self._effect = arguments.path("a background", path), effect
        self.colour: Colour | None = one_of("order of colours", colour, get_args(Colour))
        self._length, self._closed = math.inf, False  # where it ends is known when it has been read to its end
        self._remarks: tuple[str, ...] = ()
        self._open()
        self._applied = self._shown, Applied(replace(effect, background=self._shown))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._closed = True
        self._frames.close()

    @property
    def remarks(self) -> tuple[str, ...]:
        """What must be known about its frames so far."""
        return self._remarks or self._clip.remarks

    def at(self, time: float) -> Render:
        """What puts the subject on the picture of that time, in seconds."""
        picture = self.picture(time)
        if picture is not self._applied[0]:
            self._applied = picture, Applied(replace(self._effect, background=picture))
        return self._applied[1]

    def picture(self, time: float) -> Pixels:
        """What is shown at that time, in seconds: ``[h, w, 3]``, uint8, or uint16 if the file has more than 8 bits."""
        if self._closed:
            raise UsageError(f"the background {self.path} is closed")
        if not math.isfinite(time):
            raise UsageError(f"a time is a number of seconds, not {shown(time)}")
        time += _EARLY
        while not self._since <= time % self._length < self._until:
            if time % self._length < self._since:
                self._frames.close()
                self._open()
            else:
                self._advance()
        return self._shown

    def _open(self) -> None:
        """Show the first picture."""
        self._clip = FileSource(self.path)
        self._frames = iter(self._clip)
        self._until, self._next = 0.0, next(self._frames, None)
        self._advance()

    def _advance(self) -> None:
        """Show the next picture, which there is: after the last one, no time is left."""
        frame, form = cast(Frame, self._next), self._clip.info.format
        image = frame.image if self.colour == "RGB" else cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR)
        self._shown, self._since = cast(Pixels, image), self._until
        self._next = next(self._frames, None)
        if self._next is None:
            held = (frame.duration or 0) * form.time_base
            self._until += float(held if held > 0 else 1 / form.rate)
            self._length, self._remarks = self._until, self._clip.remarks
        else:
            self._until = max(self._until, self._next.time)  # time stamps that do not rise
