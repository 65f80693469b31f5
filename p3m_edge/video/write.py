"""Video files by PyAV (extra ``video``): pictures with their time stamps, and audio as another file has it."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

import cv2
import numpy as np

from p3m_edge import arguments
from p3m_edge.arrays import Pixels
from p3m_edge.errors import InputError, OutputError, UsageError
from p3m_edge.temporary import temporary_file
from p3m_edge.video.codecs import ENCODERS, FULL, LIMITED, MUXERS, Codec, Format, choose, library, why
from p3m_edge.video.frame import Frame
from p3m_edge.video.sink import Closing

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.stream import VideoStream

_MOVIE = (".mp4", ".m4v", ".mov")
_FINEST = 10_000  # units a second: what is coarser, the muxer of MP4 doubles until it is not


class _Output(Closing):
    """A container that is written under another name, which is deleted also after a process that was killed, and is in
    its place once it is complete.
    """

    def __init__(self, path: Path, options: dict[str, str] | None = None) -> None:
        self._av, self.path = library(), path
        self._held = ExitStack()
        if path.is_dir():
            raise OutputError(f"{path} is a folder")
        with self._writing():
            self._temporary = self._held.enter_context(temporary_file(path.parent))
            self._container: OutputContainer = self._av.open(
                f"file:{self._temporary}", "w", format=MUXERS[path.suffix.lower()], options=options or {}
            )

    def close(self) -> None:
        """Put the file in its place.

        Raises
        ------
        OutputError
            It cannot be written; nothing is left of it.
        """
        with self._writing():
            self._finish()
            self._container.close()
            self._temporary.replace(self.path)
        self._held.close()

    def abandon(self) -> None:
        """Leave nothing of it."""
        with suppress(self._av.error.FFmpegError, OSError, ValueError, AttributeError):
            self._container.close()
        self._held.close()

    def _finish(self) -> None:
        """Write what is left."""

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (self._av.error.FFmpegError, OSError, ValueError) as error:
            self.abandon()
            raise OutputError(f"{self.path} cannot be written: {why(error)}") from error


class FileSink(_Output):
    """Writes a video file: pictures with the time stamps of their frames.

    The file is in its place when the sink is closed, and complete: until then it has another name, beside it.

    Parameters
    ----------
    path
        Its suffix says which container it is: .mp4, .m4v, .mov, .mkv, .webm.
    form
        Time base, rate, bits and colours; None: those of a camera.
    codec
        ``h264``, ``hevc``, ``vp9``, ``prores`` or ``qtrle``; None: what is usual in such a container.
    alpha
        The pictures have an alpha channel, ``[H, W, 4]``, and the file keeps it.
    after
        A time stamp that all of its own come after; None: any will do.

    Attributes
    ----------
    last
        The last time stamp so far.

    Raises
    ------
    MissingError, UsageError
        PyAV is absent, or has no such encoder; container and codec do not fit, or the codec keeps no alpha.
    OutputError
        The file cannot be written.
    """

    def __init__(
        self, path: str | Path, form: Format | None = None, *, codec: Codec | None = None, alpha: bool = False,
        after: int | None = None,
    ) -> None:  # fmt: skip
        path = arguments.path("a video", path)
        self._codec = choose(path, codec, alpha=arguments.switch("alpha", alpha))
        self._format = form = form or Format()
        encoder = ENCODERS[self._codec]
        self._pixels = cast(str, encoder.alpha if alpha else encoder.ten if form.bits > 8 else encoder.eight)
        self._channels, self._dtype = (4 if alpha else 3), np.dtype(np.uint16 if form.bits > 8 else np.uint8)
        self._rgb = ("rgba" if alpha else "rgb") + ("64le" if alpha else "48le") * (form.bits > 8)
        self._rgb += "24" * (self._rgb == "rgb")
        self._stream: VideoStream | None = None
        self._reformatter = library().video.reformatter.VideoReformatter()
        self.last = after
        super().__init__(path, _timescale(path, form))

    def write(self, frame: Frame, picture: Pixels) -> None:
        """Add the picture of a frame: ``[H, W, 3]``, grey ``[H, W]``, or with alpha ``[H, W, 4]``; all of one size.

        Odd sides get a row or column more, the last one twice: colours of half the size need even ones.

        Raises
        ------
        InputError
            It is no such picture, or of another size than the first one.
        OutputError
            The file cannot be written.
        """
        if isinstance(picture, np.ndarray) and picture.ndim == 2 and picture.size:
            picture = cast(Pixels, cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB))
        if not isinstance(picture, np.ndarray) or picture.ndim != 3 or picture.shape[2] != self._channels:
            raise InputError(f"the file takes [H, W, {self._channels}], not {arguments.described(picture)}")
        if picture.dtype != self._dtype:
            raise InputError(f"the file takes {self._dtype}, not {picture.dtype}")
        stream = self._stream or self._begin(picture)
        if picture.shape[:2] != self._size:
            here, there = ("x".join(map(str, size[::-1])) for size in (picture.shape[:2], self._size))
            raise InputError(f"frame {frame.index} is {here}, and those before it are {there}")
        made = self._av.VideoFrame.from_ndarray(_even(picture), format=self._rgb)
        made = self._reformatter.reformat(
            made, format=self._pixels, dst_colorspace=self._format.scaler_matrix, src_color_range=FULL,
            dst_color_range=FULL if self._full else LIMITED,
        )  # fmt: skip
        made.pts, made.time_base = self._stamp(frame), self._format.time_base
        made.duration = frame.duration or 0
        with self._writing():
            for packet in stream.encode(made):
                self._container.mux(packet)

    def _finish(self) -> None:
        if self._stream is not None:
            for packet in self._stream.encode(None):
                self._container.mux(packet)

    def _begin(self, picture: Pixels) -> VideoStream:
        """The stream, now that the size is known."""
        form, encoder = self._format, ENCODERS[self._codec]
        self._size = picture.shape[:2]
        height, width = _even(picture).shape[:2]
        options = encoder.options | (encoder.alpha_options if self._channels == 4 else {})
        with self._writing():
            stream = cast("VideoStream", self._container.add_stream(encoder.name, rate=form.rate, options=options))
            stream.width, stream.height, stream.pix_fmt, stream.time_base = width, height, self._pixels, form.time_base
            context = stream.codec_context
            context.time_base, context.thread_type = form.time_base, "AUTO"
            self._full = self._pixels in ("rgb24", "argb") or (form.full_range and not self._pixels.startswith("yuva"))
            context.color_range, context.colorspace = FULL if self._full else LIMITED, form.matrix
            context.color_primaries, context.color_trc = form.primaries, form.transfer
            context.sample_aspect_ratio = form.pixel_aspect
            if encoder.tag is not None and self.path.suffix.lower() in _MOVIE:
                context.codec_tag = encoder.tag
            self._stream = stream
            self._container.start_encoding()
        return stream

    def _stamp(self, frame: Frame) -> int:
        """The time stamp of a frame; where the source has none, or they do not rise, the next one."""
        stamp = frame.stamp if frame.stamp is not None else round(frame.time / self._format.time_base)
        if self.last is not None and stamp <= self.last:
            stamp = self.last + 1
        self.last = stamp
        return stamp


def join(parts: Sequence[Path], path: Path, form: Format, audio: Path | None) -> None:
    """Make one file of several that one :class:`FileSink` after the other wrote, without encoding again.

    Parameters
    ----------
    parts, path, form
        The files, in their order; what comes of them; the format of all.
    audio
        A file whose audio streams are copied, packet by packet; None: there will be none.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    options = _timescale(path, form)
    if options:
        options["movflags"] = "faststart"  # players on the web begin before they have all of it
    with _Joined(path, options) as out:
        out.copy(parts, audio)


class _Joined(_Output):
    def copy(self, parts: Sequence[Path], audio: Path | None) -> None:
        heard = None if audio is None else _Audio(self._av.open(f"file:{audio}"))
        written: VideoStream | None = None
        try:
            for part in parts:
                with self._writing(), self._av.open(f"file:{part}") as container:
                    stream = container.streams.video[0]
                    if written is None:
                        written = self._container.add_stream_from_template(stream)
                        written.time_base = stream.time_base
                        if heard is not None:
                            heard.begin(self._container)
                    for packet in container.demux(stream):
                        if packet.dts is None:
                            continue
                        packet.stream = written
                        until = float(packet.dts * packet.time_base)
                        self._container.mux(packet)
                        if heard is not None:
                            heard.copy(self._container, until)
            if heard is not None:
                with self._writing():
                    heard.copy(self._container, float("inf"))
        finally:
            if heard is not None:
                heard.close()


class _Audio:
    """The packets of all audio streams of a file, copied as the pictures get on."""

    def __init__(self, container: InputContainer) -> None:
        self._container = container
        self._streams = list(container.streams.audio)
        self._packets: Iterator[Packet[Stream]] = container.demux(self._streams) if self._streams else iter(())
        self._next: Packet[Stream] | None = None
        self._written: dict[int, Stream] = {}

    def begin(self, container: OutputContainer) -> None:
        for stream in self._streams:
            made = container.add_stream_from_template(stream)
            made.time_base = stream.time_base
            made.metadata.update({name: stream.metadata[name] for name in ("language",) if name in stream.metadata})
            self._written[stream.index] = made

    def copy(self, container: OutputContainer, until: float) -> None:
        """Write all that is to be heard up to that second."""
        while True:
            packet, self._next = self._next or next(self._packets, None), None
            if packet is None:
                return
            if packet.dts is None:
                continue
            if float(packet.dts * packet.time_base) > until:
                self._next = packet
                return
            packet.stream = self._written[packet.stream.index]
            container.mux(packet)

    def close(self) -> None:
        self._container.close()


def check_audio(codecs: Iterable[str], path: Path) -> None:
    """Whether a file may hold audio of these codecs, by FFmpeg's names; else a :class:`UsageError`."""
    with library().open(io.BytesIO(), "w", format=MUXERS[path.suffix.lower()]) as container:
        unfit = sorted(set(codecs) - container.supported_codecs)
    if unfit:
        hint = "take .mkv, which holds nearly everything, or leave the audio out (--mute)"
        raise UsageError(f"{path.name}: a {path.suffix.lower()} file holds no {', '.join(unfit)} audio", hint=hint)


def _timescale(path: Path, form: Format) -> dict[str, str]:
    """For MP4 and QuickTime: units as fine as those of the frames also for what comes before the first one."""
    if path.suffix.lower() not in _MOVIE:
        return {}
    scale = form.time_base.denominator
    while scale < _FINEST:
        scale *= 2
    return {"movie_timescale": str(scale)}


def _even(picture: Pixels) -> Pixels:
    down, right = (side % 2 for side in picture.shape[:2])
    if not (down or right):
        return np.ascontiguousarray(picture)
    return cast(Pixels, cv2.copyMakeBorder(picture, 0, down, 0, right, cv2.BORDER_REPLICATE))
