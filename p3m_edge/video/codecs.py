"""What video files are: containers, encoders and their settings, colours as numbers of ITU-T H.273."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Literal, get_args

from p3m_edge.errors import MissingError, UsageError, needing, one_of

Codec = Literal["h264", "hevc", "vp9", "prores", "qtrle"]
LIMITED, FULL = 1, 2
BT709, UNKNOWN, BT601 = 1, 2, 5
_MATRICES = (1, 4, 5, 7, 9)  # that FFmpeg's scaler knows; H.273 numbers 5 as 6, too, and 9 as 10


@dataclass(frozen=True)
class Format:
    """How the pictures of a file are timed and coloured.

    Attributes
    ----------
    rate
        Frames a second, on average.
    time_base
        Seconds of a unit of its time stamps.
    bits
        Of a colour value, 8 or more.
    matrix, full_range, primaries, transfer
        Of the colours, as numbers of ITU-T H.273.
    pixel_aspect
        How wide a pixel is shown, in heights.
    """

    rate: Fraction = Fraction(30)
    time_base: Fraction = Fraction(1, 90_000)
    bits: int = 8
    matrix: int = BT709
    full_range: bool = False
    primaries: int = BT709
    transfer: int = BT709
    pixel_aspect: Fraction = Fraction(1)

    @property
    def scaler_matrix(self) -> int:
        """The matrix by the number that FFmpeg's scaler has for it."""
        return {6: BT601, 10: 9}.get(self.matrix, self.matrix if self.matrix in _MATRICES else BT709)


@dataclass(frozen=True)
class Encoder:
    """An encoder of FFmpeg, with its settings and pixel formats: of 8 bits, of 10, and with alpha.

    None of them reorders frames (B-frames): their time stamps are then those of the source from the first one on, and
    segments can be joined without encoding again.
    """

    name: str
    options: dict[str, str]
    eight: str
    ten: str
    alpha: str | None = None
    tag: str | None = None
    alpha_options: dict[str, str] = field(default_factory=dict)


ENCODERS: dict[Codec, Encoder] = {
    "h264": Encoder("libx264", {"preset": "veryfast", "crf": "18", "bf": "0"}, "yuv420p", "yuv420p10le"),
    "hevc": Encoder(
        "libx265", {"preset": "veryfast", "crf": "20", "x265-params": "log-level=error:bframes=0"},
        "yuv420p", "yuv420p10le", tag="hvc1",
    ),
    "vp9": Encoder(
        "libvpx-vp9", {"crf": "24", "b": "0", "deadline": "realtime", "cpu-used": "6", "row-mt": "1"},
        "yuv420p", "yuv420p10le", "yuva420p", alpha_options={"auto-alt-ref": "0"},
    ),
    "prores": Encoder("prores_ks", {"profile": "4"}, "yuv444p10le", "yuv444p10le", "yuva444p10le"),
    "qtrle": Encoder("qtrle", {}, "rgb24", "rgb24", "argb"),
}  # fmt: skip
SUFFIXES: dict[str, tuple[Codec, ...]] = {
    ".mp4": ("h264", "hevc"), ".m4v": ("h264", "hevc"), ".mov": ("h264", "hevc", "prores", "qtrle"),
    ".mkv": ("h264", "hevc", "vp9", "prores", "qtrle"), ".webm": ("vp9",),
}  # fmt: skip
"""What each kind of file may hold; the first is the default."""
WITH_ALPHA: dict[str, Codec] = {".mov": "prores", ".mkv": "prores", ".webm": "vp9"}
"""The default where there is an alpha channel."""
OF_CODEC: dict[Codec, str] = {"h264": ".mp4", "hevc": ".mp4", "vp9": ".webm", "prores": ".mov", "qtrle": ".mov"}
"""The kind of file that a codec is in where none is named."""
MUXERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
READABLE = frozenset({*SUFFIXES, ".3gp", ".avi", ".flv", ".m2ts", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".wmv"})
"""The suffixes by which a name is that of a video; what is in the file, FFmpeg finds out by itself."""


def is_video(path: Path) -> bool:
    """Whether a name is that of a video file, whether there is one or not."""
    return path.suffix.lower() in READABLE


def library() -> ModuleType:
    """PyAV. :class:`MissingError`: it is absent."""
    with needing("video"):
        import av
    return av


def choose(path: Path, codec: Codec | None, *, alpha: bool) -> Codec:
    """The codec for a file.

    Raises
    ------
    UsageError
        It is no kind of file that can be written, or does not go with the codec, or the codec not with an alpha.
    MissingError
        This FFmpeg has no such encoder.
    """
    suffix = path.suffix.lower()
    fitting = SUFFIXES.get(suffix)
    if fitting is None:
        text = f"{path.name} is no kind of video that can be written"
        raise UsageError(text, hint=f"a name that ends in {', '.join(SUFFIXES)}, or a folder for PNG files")
    if codec is None:
        codec = WITH_ALPHA.get(suffix, fitting[0]) if alpha else fitting[0]
    if one_of("codec", codec, get_args(Codec)) not in fitting:
        raise UsageError(f"a {suffix} file holds no {codec}", hint=f"choose of {', '.join(fitting)}")
    encoder = ENCODERS[codec]
    if alpha and encoder.alpha is None:
        hint = "prores or qtrle in .mov, vp9 in .webm, or PNG files in a folder"
        raise UsageError(f"{codec} keeps no alpha channel", hint=hint)
    available = library().codecs_available
    if encoder.name not in available:
        there = [name for name, each in ENCODERS.items() if each.name in available]
        raise MissingError(
            f"this FFmpeg cannot encode {codec} (it has no {encoder.name})",
            hint=f"it can encode {', '.join(there) or 'none of ' + ', '.join(ENCODERS)}; pip install 'p3m-edge[video]'",
        )
    return codec


def why(error: Exception) -> str:
    """What FFmpeg or the system says, without the path and the number."""
    return (getattr(error, "strerror", None) or str(error)).strip().rstrip(".") or type(error).__name__
