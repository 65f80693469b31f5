"""Small video files for the tests, written with PyAV alone."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

av: Any = pytest.importorskip("av")

UNEVEN = (7, 33, 70, 100, 190, 200, 233, 300, 333, 366, 400, 500)
"""Time stamps, in milliseconds, of a clip whose rate is not constant."""
STEADY = tuple(range(0, 400, 40))


def picture(number: int, width: int, height: int) -> NDArray[np.uint8]:
    """A frame: a colour that changes with its number, and a mark in the upper left corner."""
    image = np.full((height, width, 3), (20 * number % 256, 100, 255 - 20 * number % 256), np.uint8)
    image[: height // 4, : width // 4] = (250, 10, 10)
    return image


def write_clip(
    path: Path, *, stamps: Sequence[int] = STEADY, size: tuple[int, int] = (96, 64), codec: str = "libx264",
    form: str = "yuv420p", colours: tuple[int, int] | None = None, rotation: int = 0, sound: bool = False,
) -> Path:  # fmt: skip
    """Write a clip; ``colours`` are range and matrix."""
    base = Fraction(1, 1000)
    options = {"libx265": {"x265-params": "log-level=none"}, "libx264": {"preset": "ultrafast"}}.get(codec, {})
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt, stream.time_base = *size, form, base
        stream.codec_context.time_base = base
        if colours is not None:
            stream.codec_context.color_range, stream.codec_context.colorspace = colours
        if rotation:
            stream.set_display_rotation(rotation)
        tone = container.add_stream("aac", rate=44100, layout="mono") if sound else None
        for number, stamp in enumerate(stamps):
            frame = av.VideoFrame.from_ndarray(picture(number, *size), format="rgb24")
            range_, matrix = colours or (1, 5)
            frame = frame.reformat(format=form, dst_color_range=range_, dst_colorspace=matrix)
            frame.pts, frame.time_base = stamp, base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if tone is not None:
            wave = np.sin(np.arange(22_050) / 16, dtype=np.float32)[None]
            heard = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
            heard.sample_rate, heard.pts = 44_100, 0
            container.mux(tone.encode(heard))
            container.mux(tone.encode(None))
    return path


def sound_of(path: Path) -> list[bytes]:
    """The packets of a file's sound, as they are."""
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(container.streams.audio[0]) if packet.size]


def decoded(path: Path, decoder: str | None = None) -> list[Any]:
    """The frames of a file as FFmpeg gives them; VP9's alpha needs libvpx's decoder."""
    with av.open(str(path)) as container:
        if decoder is None:
            return list(container.decode(video=0))
        context = av.CodecContext.create(decoder, "r")
        context.extradata = container.streams.video[0].codec_context.extradata
        return [frame for packet in container.demux(video=0) for frame in context.decode(packet)]
