"""Video files by PyAV (extra ``video``): frames with their time stamps, upright, in their colours."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Self, cast

import cv2
import numpy as np

from p3m_edge import arguments
from p3m_edge.arrays import Pixels
from p3m_edge.errors import InputError, UsageError
from p3m_edge.preprocess import Colour
from p3m_edge.video.codecs import BT601, BT709, FULL, LIMITED, UNKNOWN, Format, library, why
from p3m_edge.video.frame import Frame

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_HD = 720
"""From this height on, a file that does not say which matrix its colours have is taken for BT.709, below for BT.601."""
_RGB = 0  # as a matrix: there is none
_TEXT = "tty"  # FFmpeg would draw it
_HDR = (16, 18)  # transfer of PQ and HLG
_RATES = 1, 1000  # what is outside is no rate of frames, but that of time stamps


@dataclass(frozen=True)
class VideoInfo:
    """What a file says about its pictures.

    Attributes
    ----------
    width, height
        As they are shown, after rotation.
    frames
        How many, as far as it says, or as its length says; its frames may be fewer or more.
    codec
        The decoder's name.
    audio
        The codecs of its audio streams.
    format
        Time base, rate and colours.
    """

    width: int
    height: int
    frames: int | None
    codec: str
    audio: tuple[str, ...]
    format: Format


class FileSource:
    """The frames of the first video stream of a file, in the order in which they are shown.

    The pictures are those of the file's own colours: nothing is converted between primaries or transfer functions.
    Where a frame has another size than the first, it is scaled to that.

    Parameters
    ----------
    path
        Any container and codec that FFmpeg reads.

    Attributes
    ----------
    start
        The number of the first frame that is wanted, 0 until it is set; those before it are decoded and passed over.
    info
        What the file says about itself.
    damaged, resized
        How many pieces of it could not be decoded so far, and were passed over; how many frames were scaled.

    Raises
    ------
    MissingError
        PyAV is absent.
    UsageError
        ``path`` is no path, or it is iterated again.
    InputError
        The file cannot be read, has no pictures, or none that can be decoded.
    """

    live = False
    colour: Colour | None = "RGB"

    def __init__(self, path: str | Path) -> None:
        self.path, self.start = arguments.path("a video", path), 0
        self.damaged = self.resized = 0
        self._closed = threading.Event()
        self._av = av = library()
        try:
            self._container: InputContainer = av.open(f"file:{self.path}", metadata_errors="replace")
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise InputError(f"{self.path} cannot be read as a video: {why(error)}") from error
        try:
            if self._container.format.name == _TEXT:
                raise InputError(f"{self.path} cannot be read as a video: it is a text")
            stream = self._container.streams.best("video")  # not the cover of a song
            if stream is None:
                raise InputError(f"{self.path} holds no pictures")
            self._stream = cast("VideoStream", stream)
            self._stream.thread_type = "AUTO"
            self._reformatter = av.video.reformatter.VideoReformatter()  # one for all: each keeps a scaler
            self._decoded = self._pictures()
            first = next(self._decoded, None)
            if first is None:
                raise InputError(f"no picture of {self.path} can be decoded")
            self._first: VideoFrame | None = first
            self.info = self._info(first)
            self._transparent = len(first.format.components) in (2, 4)
        except BaseException:
            self._container.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()
        if self._first is not None:  # else the iteration closes it, whose thread may be in the middle of a picture
            self._container.close()

    def __iter__(self) -> Generator[Frame, None, None]:
        first, self._first = self._first, None
        if first is None:
            raise UsageError(f"{self.path} has been read already: open it again")
        base, begin = self.info.format.time_base, None
        try:
            for index, picture in enumerate(chain((first,), self._decoded)):
                if self._closed.is_set():
                    break
                stamp = picture.pts
                seconds = index / self.info.format.rate if stamp is None else stamp * base
                begin = seconds if begin is None else begin
                if index >= self.start:
                    image, duration = self._rgb(picture), picture.duration or None
                    yield Frame(image, index, float(seconds - begin), time.perf_counter(), stamp, duration)
        finally:
            self._container.close()

    def close(self) -> None:
        """End the iteration at its next frame."""
        self._closed.set()

    @property
    def remarks(self) -> tuple[str, ...]:
        """What must be known about the frames so far."""
        found = [
            (self._transparent, "its own alpha channel is left out"),
            (self.damaged, f"{self.damaged} damaged pieces were passed over"),
            (self.resized, f"{self.resized} frames of another size than the first were scaled to it"),
            (self.info.format.transfer in _HDR, "it is HDR: mattes may be worse, and backgrounds are not converted"),
        ]
        return tuple(text for there, text in found if there)

    def _pictures(self) -> Iterator[VideoFrame]:
        """Every frame that can be decoded; pieces that cannot be are counted."""
        errors = self._av.error
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except errors.FFmpegError:  # the file ends in the middle
                self.damaged += 1
                packet = None
            try:
                yield from self._stream.decode(packet)
            except errors.EOFError:
                return
            except errors.FFmpegError:
                self.damaged += 1
            if packet is None or (packet.dts is None and not packet.size):
                return

    def _info(self, first: VideoFrame) -> VideoInfo:
        stream, context = self._stream, self._stream.codec_context
        turned = int(first.rotation) % 180 != 0
        width, height = (first.height, first.width) if turned else (first.width, first.height)
        known = context.colorspace
        if known in (_RGB, UNKNOWN):
            known = BT709 if first.height >= _HD else BT601
        rates = [rate for rate in (stream.average_rate, stream.guessed_rate) if rate and _RATES[0] <= rate <= _RATES[1]]
        rate = Fraction(rates[0]) if rates else Fraction(30)
        length = stream.duration * stream.time_base if stream.duration and stream.time_base else 0
        if not length and self._container.duration:
            length = Fraction(self._container.duration, 1_000_000)
        aspect = Fraction(context.sample_aspect_ratio or stream.sample_aspect_ratio or 1)
        form = Format(
            rate, Fraction(stream.time_base or Fraction(1, 90_000)), max(each.bits for each in first.format.components),
            known, not first.format.is_rgb and (context.color_range == FULL or first.format.name.startswith("yuvj")),
            int(context.color_primaries),
            int(context.color_trc), 1 / aspect if turned else aspect,
        )  # fmt: skip
        audio = tuple(each.codec_context.codec.canonical_name for each in self._container.streams.audio)
        return VideoInfo(width, height, stream.frames or round(length * rate) or None, context.name, audio, form)

    def _rgb(self, picture: VideoFrame) -> Pixels:
        form = self.info.format
        turned = int(picture.rotation) % 360
        size = (self.info.width, self.info.height)[:: -1 if turned % 180 else 1]
        self.resized += size != (picture.width, picture.height)
        rgb = self._reformatter.reformat(
            picture, *size, format="rgb48le" if form.bits > 8 else "rgb24", src_colorspace=form.scaler_matrix,
            src_color_range=FULL if form.full_range else LIMITED, dst_color_range=FULL,
        ).to_ndarray()  # fmt: skip
        turns = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}
        turn = turns.get(turned)
        return cast(Pixels, rgb if turn is None else np.ascontiguousarray(cv2.rotate(rgb, turn)))
