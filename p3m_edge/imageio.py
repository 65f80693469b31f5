"""Files become pictures and arrays become files: the only place where that happens.

Pillow decodes, as it reports damage that other decoders paper over with grey. OpenCV adds what Pillow reduces to
8 bits or does not know: 16-bit colour and float TIFF.
"""

from __future__ import annotations

import struct
import threading
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from p3m_edge.atomic import atomic_write, reason
from p3m_edge.errors import InputError, OutputError

# Pillow's own bound against decompression bombs; beyond the 151 megapixels of today's largest cameras.
MAX_PIXELS = 178_956_970

# HEIC is listed so that such a file is named in the summary of a folder instead of being passed over.
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".ppm", ".pgm", ".jp2", ".avif", ".tga"}
    | {".heic", ".heif"}
)

# Raster formats alone: a PostScript file named .jpg must not start Ghostscript. HEIF: if the app registered a reader.
_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "BMP", "DIB", "GIF", "PPM", "JPEG2000", "AVIF", "HEIF", "TGA")

# What Pillow's decoders raise on damaged files.
_DECODER_ERRORS = (
    *(OSError, SyntaxError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RuntimeError),
    *(EOFError, struct.error, zlib.error, cv2.error),
)

# Pillow reports oddities as warnings, and the list of warning filters belongs to the process: one reader at a time.
_READING = threading.Lock()

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_AFTER_HEADER = 33

# A text chunk in every PNG file written here; that of mattes tells an earlier result from a picture of the user.
_PNG_TEXT = b"Software\0p3m-edge"
PNG_RESULT_TEXT = _PNG_TEXT + b" run"
_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"mif1", b"msf1")
_ORIENTATION = 0x0112
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_BITS, _TIFF_PHOTOMETRIC = 256, 257, 258, 262
_TIFF_EXTRA, _TIFF_FORMAT, _TIFF_ICC = 338, 339, 34675

_UPRIGHT: dict[int, Callable[[Any], Any]] = {
    2: lambda a: cv2.flip(a, 1),
    3: lambda a: cv2.rotate(a, cv2.ROTATE_180),
    4: lambda a: cv2.flip(a, 0),
    5: cv2.transpose,
    6: lambda a: cv2.rotate(a, cv2.ROTATE_90_CLOCKWISE),
    7: lambda a: cv2.rotate(cv2.transpose(a), cv2.ROTATE_180),
    8: lambda a: cv2.rotate(a, cv2.ROTATE_90_COUNTERCLOCKWISE),
}


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded picture, upright.

    Attributes
    ----------
    rgb
        ``[H, W, 3]``, uint8. Colours under transparency are kept as they are (straight, not composited); CMYK is
        converted without its profile.
    path
        The file it came from.
    rgb16
        ``[H, W, 3]``, uint16: the same at full depth, for 16-bit grey, 16-bit colour (PNG, TIFF with straight
        alpha) and float TIFF; ``rgb`` is this, rounded.
    icc_profile
        The embedded profile if it describes RGB, and so may be attached to what is written.
    """

    rgb: NDArray[np.uint8]
    path: Path
    rgb16: NDArray[np.uint16] | None = None
    icc_profile: bytes | None = None


def read_image(path: str | PathLike[str], *, max_pixels: int = MAX_PIXELS) -> Picture:
    """Decode a picture of any common format, bit depth and colour mode; of an animation, the first frame.

    Parameters
    ----------
    path
        The file. Its content decides the format, not its name.
    max_pixels
        Refuse larger pictures before they are decoded. Pillow itself refuses what exceeds ``MAX_PIXELS``.

    Raises
    ------
    InputError
        The file is missing, unreadable, empty, no picture, damaged, cut short, too large, or its values have no
        defined range (float outside 0..1, integers beyond 16 bits).
    """
    path = Path(path)
    _check_file(path)
    try:
        with _READING, warnings.catch_warnings(), path.open("rb") as stream:
            warnings.simplefilter("ignore")
            pixels, icc_profile = _decode(stream, path, max_pixels)
    except PermissionError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except Image.DecompressionBombError as error:
        raise _too_large(path, MAX_PIXELS) from error
    except MemoryError as error:
        raise InputError(f"{path} does not fit into memory") from error
    except _DECODER_ERRORS as error:
        raise InputError(f"{path} is damaged or not supported: {' '.join(str(error).split())}") from error
    if icc_profile is not None and icc_profile[16:20] != b"RGB ":
        icc_profile = None  # a profile of grey or CMYK does not describe what has become RGB
    if pixels.dtype == np.uint8:
        return Picture(pixels, path, icc_profile=icc_profile)
    return Picture(_to_8_bits(pixels), path, pixels, icc_profile)


def read_mask(path: str | PathLike[str], *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode an alpha, trimap or mask, ``[H, W]``: grey of any depth (rounded to 8 bits), or colour that is grey.

    Transparency is ignored, as in :func:`read_image`, which also has the parameters.

    Raises
    ------
    InputError
        As in :func:`read_image`, or the colour channels differ: it is a picture.
    """
    red, green, blue = cv2.split(read_image(path, max_pixels=max_pixels).rgb)
    if not (np.array_equal(red, green) and np.array_equal(red, blue)):
        raise InputError(
            f"{path} is a colour picture, where one channel is expected: its red, green and blue differ",
            hint="save the matte as a grey picture of its own",
        )
    return np.asarray(red, dtype=np.uint8)


def list_images(folder: str | PathLike[str]) -> list[Path]:
    """The picture files directly in ``folder``, by suffix, sorted by name; hidden files are left out.

    Raises
    ------
    InputError
        ``folder`` is missing, not a folder, or cannot be read.
    """
    folder = Path(folder)
    try:
        files = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
        return sorted(p for p in files if not p.is_dir())
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} cannot be listed: {reason(error)}") from error


def write_png(
    path: str | PathLike[str], array: NDArray[Any], *, icc_profile: bytes | None = None, result: bool = False
) -> None:
    """Write a PNG file: the whole of it, or nothing.

    Parameters
    ----------
    path
        The file; an existing one is replaced when the new one is complete.
    array
        ``[H, W]`` grey, ``[H, W, 3]`` RGB or ``[H, W, 4]`` RGBA with straight alpha; uint8 or uint16.
    icc_profile
        An RGB profile to embed, as :class:`Picture` carries it.
    result
        Mark it as a result of matting, which is no picture to be matted.

    Raises
    ------
    InputError
        The array is empty or of another rank or dtype.
    OutputError
        The file cannot be written; nothing is left behind.
    """
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in (1, 3, 4) or array.dtype not in (np.uint8, np.uint16):
        raise InputError(f"a PNG holds [H, W], [H, W, 3] or [H, W, 4] of uint8 or uint16, not {_describe(array)}")
    if array.size == 0:
        raise InputError(f"the picture is empty: {_describe(array)}")
    order = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}.get(channels)
    try:
        done, encoded = cv2.imencode(".png", array if order is None else cv2.cvtColor(array, order))
    except cv2.error as error:
        raise OutputError(f"{path} cannot be encoded as PNG: {error.err}") from error
    if not done:
        raise OutputError(f"{path} cannot be encoded as PNG: {_describe(array)}")
    data = encoded.tobytes()
    extra = _png_chunk(b"tEXt", PNG_RESULT_TEXT if result else _PNG_TEXT)
    if icc_profile is not None:
        extra += _png_chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc_profile))
    atomic_write(path, data[:_PNG_AFTER_HEADER] + extra + data[_PNG_AFTER_HEADER:])


def _check_file(path: Path) -> None:
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder, not a picture")
        if not path.is_file():
            raise InputError(f"{path} {'is not a regular file' if path.exists() else 'does not exist'}")
        if path.stat().st_size == 0:
            raise InputError(f"{path} is empty")
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {reason(error)}") from error


def _decode(stream: BinaryIO, path: Path, max_pixels: int) -> tuple[NDArray[Any], bytes | None]:
    """Upright pixels ``[H, W, 3]``, uint8 or uint16, and the profile."""
    start = stream.read(32)
    stream.seek(0)
    if start.startswith(_TIFF_SIGNATURES):
        tags = _tiff_tags(stream)
        if _is_float(tags):  # Pillow knows float TIFF in grey only
            _check_size(path, tags[_TIFF_WIDTH], tags[_TIFF_HEIGHT], max_pixels)
            return _from_opencv(stream, path), tags.get(_TIFF_ICC)
        deep = _is_deep_colour(tags)
        inverted = tags.get(_TIFF_PHOTOMETRIC) == 0
    else:
        deep = start.startswith(_PNG_SIGNATURE) and start[24] == 16 and start[25] in (2, 6)
        inverted = False
    Image.init()
    try:
        image = Image.open(stream, formats=[name for name in _FORMATS if name in Image.OPEN])
    except UnidentifiedImageError:
        raise _not_a_picture(path, start) from None
    with image:
        _check_size(path, *image.size, max_pixels)
        image.load()  # always: this is what finds a file cut short
        profile, orientation = image.info.get("icc_profile") or None, _orientation(image)
        pixels = _from_opencv(stream, path) if deep else _from_pillow(image, path, inverted)
    return _UPRIGHT.get(orientation, np.ascontiguousarray)(pixels), profile


def _from_pillow(image: Image.Image, path: Path, inverted: bool) -> NDArray[Any]:
    if image.mode.startswith("I"):
        grey: NDArray[Any] = np.asarray(image)
        if grey.min() < 0 or grey.max() > 65535:
            raise InputError(f"{path} holds integers beyond 16 bits", hint="save it with 8 or 16 bits a channel")
        grey = grey.astype(np.uint16)
        if inverted and image.mode != "I":  # Pillow leaves 16-bit white-is-zero as it is
            grey = 65535 - grey
        return cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)
    if image.mode in ("La", "RGBa"):
        image = image.convert("RGBA")
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _from_opencv(stream: BinaryIO, path: Path) -> NDArray[Any]:
    stream.seek(0)
    pixels = cv2.imdecode(np.frombuffer(stream.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise InputError(f"{path} is damaged or not supported")
    if np.issubdtype(pixels.dtype, np.floating):
        low, high = float(pixels.min()), float(pixels.max())
        if not (low >= 0 and high <= 1):
            raise InputError(
                f"{path} holds float values from {low:.6g} to {high:.6g}, but only 0..1 has a defined meaning",
                hint="save it with 8 or 16 bits a channel",
            )
        pixels = np.rint(pixels * 65535).astype(np.uint16)
    if pixels.ndim == 2:
        return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    return cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB)


def _tiff_tags(stream: BinaryIO) -> TiffImagePlugin.ImageFileDirectory_v2:
    header = stream.read(8)
    if header[2] == 43 or header[3] == 43:  # BigTIFF
        header += stream.read(8)
    tags = TiffImagePlugin.ImageFileDirectory_v2(header)
    stream.seek(tags.next)
    tags.load(stream)
    stream.seek(0)
    return tags


def _is_float(tags: TiffImagePlugin.ImageFileDirectory_v2) -> bool:
    return 3 in tags.get(_TIFF_FORMAT, ())


def _is_deep_colour(tags: TiffImagePlugin.ImageFileDirectory_v2) -> bool:
    colour16 = tags.get(_TIFF_PHOTOMETRIC) == 2 and tags.get(_TIFF_BITS) in ((16,) * 3, (16,) * 4)
    premultiplied = tags.get(_TIFF_EXTRA) == (1,)  # Pillow divides by the alpha, OpenCV does not
    return colour16 and not premultiplied


def _orientation(image: Image.Image) -> int:
    """EXIF orientation; 1 (upright) where there is none or the block is damaged, which must not cost the picture."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except _DECODER_ERRORS:
        return 1


def _to_8_bits(pixels: NDArray[np.uint16]) -> NDArray[np.uint8]:
    return np.asarray(cv2.convertScaleAbs(pixels, alpha=1 / 257), dtype=np.uint8)


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _check_size(path: Path, width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise _too_large(path, max_pixels)


def _too_large(path: Path, max_pixels: int) -> InputError:
    return InputError(f"{path} has more than {max_pixels / 1e6:.4g} million pixels", hint="scale it down first")


def _not_a_picture(path: Path, start: bytes) -> InputError:
    if start[4:8] == b"ftyp" and start[8:12] in _HEIF_BRANDS:
        return InputError(f"{path} is HEIC, which is not supported", hint="convert it to JPEG or PNG first")
    return InputError(f"{path} is not a picture of a supported format, or is damaged")


def _describe(array: NDArray[Any]) -> str:
    return f"{array.dtype} {list(array.shape)}"
