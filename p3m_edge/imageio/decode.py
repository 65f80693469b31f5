"""From a file to upright pixels as they are stored, whatever its format, depth and colour mode."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import IO, BinaryIO

import cv2
import numpy as np
from PIL import Image, ImageFile

from p3m_edge import arguments
from p3m_edge.arrays import Array, Pixels
from p3m_edge.errors import InputError, UsageError, shown
from p3m_edge.imageio import colour, jpeg, png, tiff
from p3m_edge.imageio.files import open_regular
from p3m_edge.imageio.orientation import turn
from p3m_edge.imageio.quiet import no_warnings

MAX_PIXELS = 256_000_000
"""Of a picture, unless more are allowed: phones make pictures of 200 million pixels."""
BYTES_PER_PIXEL = 10
"""About what decoding takes at its peak, for 8 bits a channel and without transparency."""

# Raster formats alone: a PostScript file named .jpg must not start Ghostscript. HEIF: if the app registered a reader;
# else that of the extra is used, and Pillow stays as the app has it.
_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "BMP", "DIB", "GIF", "PPM", "JPEG2000", "AVIF", "HEIF", "TGA")
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"mif1", b"msf1")
# What Pillow's decoders raise on damaged files.
_DECODER_ERRORS = (
    *(OSError, SyntaxError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RuntimeError),
    *(EOFError, struct.error, zlib.error, cv2.error),
)
_SAVE_AGAIN = "save it with 8 or 16 bits a channel"
_ORIENTATION = 0x0112

_Decoded = tuple[Array, Array | None]  # colours and alpha
Factory = Callable[[IO[bytes], str | bytes], ImageFile.ImageFile]
Accept = Callable[[bytes], bool | str]


class TooLargeError(InputError):
    """A picture, at ``path``, has more pixels than are allowed, and was not decoded; ``pixels``: how many, if known."""

    def __init__(self, path: Path, max_pixels: int, pixels: int | None) -> None:
        takes = f"{(pixels or 0) * BYTES_PER_PIXEL / 1e9:.2g} GB"
        more = "" if pixels is None else f", {pixels / 1e6:.4g}: reading it takes about {takes}"
        hint = "scale it down first, or allow more pixels (run: --max-megapixels)"
        super().__init__(f"{path} has more than {max_pixels / 1e6:.4g} million pixels{more}", hint=hint)
        self.path, self.pixels = path, pixels


@dataclass(frozen=True, eq=False)
class Decoded:
    """Upright pixels ``[H, W, 3]``, uint8 or uint16, as they are stored; of a ``grey`` file, three equal channels.

    The alpha, ``[H, W]`` of the same dtype, is the transparency: 0 where nothing is seen; None where all is opaque. The
    profile is the embedded one, whatever it describes; None if the pixels are what it says already. Orientation and
    remarks are as in :class:`p3m_edge.imageio.Picture`.
    """

    pixels: Pixels
    alpha: Pixels | None
    grey: bool
    profile: bytes | None
    orientation: int
    remarks: tuple[str, ...]


@dataclass
class _Source:
    """A file that is being read, and what is known of it before Pillow decodes."""

    path: Path
    stream: BinaryIO
    max_pixels: int
    frame: int | None = None
    pages: list[tiff.Page] | None = None  # of a TIFF file
    page: tiff.Page | None = None  # the one to read
    deep: bool = False  # more bits than Pillow knows: OpenCV decodes
    grey: bool = False
    profile: bytes | None = None
    remarks: list[str] = field(default_factory=list)


def decode(path: Path, max_pixels: int, frame: int | None = None, data: bytes | None = None) -> Decoded:
    """Decode a page or frame of a file, or of its bytes; raises as :func:`p3m_edge.imageio.read_image`."""
    with _reading(path, max_pixels, frame, data) as source:
        return _decode(source)


def from_image(path: Path, image: Image.Image, max_pixels: int) -> Decoded:
    """The pixels of an image that Pillow opened or made; raises as :func:`p3m_edge.imageio.read_image`."""
    with _translated(path, max_pixels), no_warnings():
        source = _Source(path, io.BytesIO(), max_pixels)
        if image.width * image.height == 0:
            raise InputError(f"{path} is empty")
        _check_size(source, *image.size)
        image.load()
        return _upright(image, source)


def count_frames(path: str | PathLike[str], *, max_pixels: int = MAX_PIXELS) -> int:
    """How many pages or frames a file has; thumbnails and a phone's gain maps are none.

    An :class:`InputError` says that it is missing, unreadable, empty, no picture or too large.
    """
    with _reading(arguments.path("a picture", path), max_pixels) as source:
        if source.pages is not None:
            return len(source.pages)
        with _open(source) as image:
            return _frames(image)


def read_size(
    path: str | PathLike[str], *, max_pixels: int = MAX_PIXELS, frame: int | None = None, data: bytes | None = None
) -> tuple[int, int]:  # fmt: skip
    """The (width, height) of a picture as it is stored, or of a page of it, without decoding; errors as when it is.

    ``data``: the bytes of the file, which need not be there then.
    """
    with _reading(arguments.path("a picture", path), max_pixels, frame, data) as source:
        if source.pages is not None:
            page = source.pages[_chosen(source, len(source.pages), "pages")]
            _check_size(source, page.width, page.height)
            return page.width, page.height
        with _open(source) as image:
            return image.size


@contextmanager
def _reading(path: Path, max_pixels: int, frame: int | None = None, data: bytes | None = None) -> Iterator[_Source]:
    """Open a file, or its bytes, and look at the first ones; decoders' errors become ours."""
    arguments.count("the limit of pixels", max_pixels, 1)
    if frame is not None and arguments.whole(frame) is None:
        raise UsageError(f"the number of a frame is a whole number, not {shown(frame)}")
    if data == b"":
        raise InputError(f"{path} is empty")
    with open_regular(path) if data is None else io.BytesIO(data) as stream, _translated(path, max_pixels):
        source = _Source(path, stream, max_pixels, frame)
        with no_warnings():
            _prepare(source)
            yield source


@contextmanager
def _translated(path: Path, max_pixels: int) -> Iterator[None]:
    """Decoders' errors become ours."""
    try:
        yield
    except Image.DecompressionBombError as error:  # the app's own limit, which Pillow asks for some frames
        found = re.search(r"\((\d+) pixels\)", str(error))
        raise TooLargeError(path, max_pixels, int(found[1]) if found else None) from error
    except MemoryError as error:
        raise InputError(f"{path} does not fit into memory") from error
    except _DECODER_ERRORS as error:
        raise InputError(f"{path} is damaged or not supported: {' '.join(str(error).split())}") from error


def _prepare(source: _Source) -> None:
    """What must be known, or left out, before Pillow reads: the pages of a TIFF file, the long texts of a PNG file."""
    start = source.stream.read(32)
    source.stream.seek(0)
    if start.startswith(png.SIGNATURE):
        data, source.profile = png.without_long_parts(source.stream.read())
        source.stream = io.BytesIO(data)
        source.deep, source.grey = png.is_deep_colour(start), png.is_grey(start)
    else:
        source.pages = tiff.pages(source.stream)


def _decode(source: _Source) -> Decoded:
    if source.pages is not None:
        source.page = source.pages[_chosen(source, len(source.pages), "pages")]
    page = source.page
    if page is not None and page.is_float:  # Pillow knows float TIFF in grey only
        _check_size(source, page.width, page.height)
        return _decoded(source, *_from_opencv(source), page.grey, page.profile, page.orientation)
    with _open(source) as image:
        if page is not None:
            image.seek(page.index)
            source.deep = page.is_deep_colour
        elif (index := _chosen(source, _frames(image), "frames")) > 0:
            image.seek(index)
            source.deep = False
        return _upright(_load(image, source), source)


def _upright(image: Image.Image, source: _Source) -> Decoded:
    """What an image that Pillow has loaded holds."""
    profile = source.profile or image.info.get("icc_profile") or None
    grey = source.grey or image.mode in ("1", "L", "LA", "La") or image.mode.startswith("I")
    if image.mode == "CMYK":
        image, profile = _without_ink(image, profile, source)
    pixels, alpha = _from_opencv(source) if source.deep else _from_pillow(image, source)
    if source.page is not None:  # turned already, by Pillow and OpenCV alike
        orientation = source.page.orientation
    else:
        orientation = _orientation(image)
        pixels, alpha = turn(pixels, orientation), None if alpha is None else turn(alpha, orientation)
    if image.format in ("BMP", "DIB", "TGA") and alpha is not None and not alpha.any():
        alpha = None  # these formats have room for it and mostly leave it empty
    return _decoded(source, pixels, alpha, grey, profile, orientation)


def _decoded(
    source: _Source, pixels: Pixels, alpha: Pixels | None, grey: bool, profile: bytes | None, orientation: int
) -> Decoded:
    if alpha is not None and alpha.min() == np.iinfo(alpha.dtype).max:
        alpha = None
    return Decoded(pixels, alpha, grey, profile, orientation, tuple(source.remarks))


def _open(source: _Source) -> Image.Image:
    """As ``Image.open``, but for its limit of size, which belongs to the process and to the app."""
    Image.init()
    source.stream.seek(0)
    start = source.stream.read(32)
    for factory, accept in _readers(source.path, start):
        accepted = accept is None or accept(start[:16])
        if not accepted or isinstance(accepted, str):  # a text says why not
            continue
        source.stream.seek(0)
        try:
            image = factory(source.stream, "")
        except (SyntaxError, IndexError, TypeError, struct.error):  # another format's, or damaged
            continue
        _check_size(source, *image.size)
        return image
    raise InputError(f"{source.path} is not a picture of a supported format, or is damaged")


def _readers(path: Path, start: bytes) -> Iterator[tuple[Factory, Accept | None]]:
    """What may read a file that begins so, as Pillow keeps it: a class, and what recognises its format."""
    yield from (Image.OPEN[name] for name in _FORMATS if name in Image.OPEN)
    if start[4:8] == b"ftyp" and start[8:12] in _HEIF_BRANDS and "HEIF" not in Image.OPEN:
        try:
            from pillow_heif import HeifImageFile
        except ImportError as error:
            text = f"{path} is HEIC, and pillow-heif, which reads it, is not installed"
            raise InputError(text, hint='pip install "p3m-edge[heif]", or convert it to JPEG or PNG') from error
        yield HeifImageFile, None


def _load(image: Image.Image, source: _Source) -> Image.Image:
    """Decode all pixels: this is what finds a file cut short. What Pillow takes for whole is looked at again."""
    fault: Exception = InputError(f"{source.path} is damaged: some of its pixels are missing")
    cut = False
    try:
        image.load()
    except OSError as error:
        fault, cut = error, True
    if image.format in ("JPEG", "MPO") and not source.frame:
        if cut or not jpeg.has_end(source.stream):
            closed = jpeg.closed(source.stream)
            if closed is None:
                raise fault
            source.remarks.append("its end marker is missing; all pixels are there")
            source.stream = io.BytesIO(closed)
            image = _open(source)
            image.load()
        elif jpeg.lacks_blocks(source.stream, image):
            raise fault
    elif cut or (image.format == "PNG" and not source.frame and png.lacks_rows(source.stream, image)):
        raise fault
    return image


def _chosen(source: _Source, count: int, what: str) -> int:
    """The frame that is wanted of those that are there."""
    if source.frame is None:
        if count > 1:
            source.remarks.append(f"the first of {count} {what} alone was read")
        return 0
    if not 0 <= source.frame < count:
        raise UsageError(f"{source.path} has {count} {what}, and there is none of number {source.frame}, from 0 on")
    return source.frame


def _frames(image: Image.Image) -> int:
    """How many frames there are; 1 where that cannot be told, which must not cost the first one."""
    try:
        if image.format == "MPO":  # also what phones put behind a photograph: previews, gain maps
            entries: list[dict[str, dict[str, object]]] = vars(image)["mpinfo"][0xB002]
            return max(1, sum(str(entry["Attribute"]["MPType"]).startswith("Multi-Frame") for entry in entries))
        return int(getattr(image, "n_frames", 1))
    except _DECODER_ERRORS:
        return 1


def _without_ink(image: Image.Image, profile: bytes | None, source: _Source) -> tuple[Image.Image, bytes | None]:
    """CMYK as its profile means it, and the profile of what comes out; by the complement where it has none."""
    if profile is not None and colour.space(profile) == colour.CMYK:
        try:
            return colour.cmyk_to_srgb(image, profile), colour.srgb()
        except colour.ProfileError:
            source.remarks.append(colour.DAMAGED)
    return image, None


def _from_pillow(image: Image.Image, source: _Source) -> _Decoded:
    if image.mode.startswith("I"):
        grey: Pixels = np.asarray(image)
        if grey.min() < 0 or grey.max() > 65535:
            raise InputError(f"{source.path} holds integers beyond 16 bits", hint=_SAVE_AGAIN)
        grey = grey.astype(np.uint16)
        key = image.info.get("transparency")
        alpha = np.where(grey == key, 0, 65535).astype(np.uint16) if isinstance(key, int) else None
        if source.page is not None and source.page.inverted and image.mode != "I":  # Pillow leaves 16 bits as they are
            grey = 65535 - grey
        return cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), alpha
    if not image.has_transparency_data:
        return np.array(image if image.mode == "RGB" else image.convert("RGB")), None
    straight = image.convert("LA") if image.mode == "La" else image
    rgba = np.asarray(image if image.mode == "RGBA" else straight.convert("RGBA"))
    return np.ascontiguousarray(rgba[..., :3]), np.ascontiguousarray(rgba[..., 3])


def _from_opencv(source: _Source) -> _Decoded:
    page = source.page
    source.stream.seek(0)
    data = np.frombuffer(source.stream.read(), np.uint8)
    if page is not None and page.index > 0:
        _, several = cv2.imdecodemulti(data, cv2.IMREAD_UNCHANGED, range=(page.index, page.index + 1))
        pixels = several[0] if several else None
    else:
        pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise InputError(f"{source.path} is damaged or not supported")
    if np.issubdtype(pixels.dtype, np.floating):
        low, high = float(pixels.min()), float(pixels.max())
        if not (low >= 0 and high <= 1):
            found = f"float values from {low:.6g} to {high:.6g}, but only 0..1 has a defined meaning"
            raise InputError(f"{source.path} holds {found}", hint=_SAVE_AGAIN)
        pixels = np.rint(pixels * 65535).astype(np.uint16)
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    order = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB}.get(channels, cv2.COLOR_BGRA2RGB)
    transparent = channels == 4 and (page is None or page.has_alpha)
    return cv2.cvtColor(pixels, order), np.ascontiguousarray(pixels[..., 3]) if transparent else None


def _orientation(image: Image.Image) -> int:
    """EXIF orientation; 1 (upright) where there is none or the block is damaged, which must not cost the picture."""
    try:
        orientation = int(image.getexif().get(_ORIENTATION, 1))
    except _DECODER_ERRORS:
        return 1
    return orientation if 1 <= orientation <= 8 else 1


def _check_size(source: _Source, width: int, height: int) -> None:
    if width * height > source.max_pixels:
        raise TooLargeError(source.path, source.max_pixels, width * height)
