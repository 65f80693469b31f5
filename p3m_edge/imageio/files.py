"""Which files are pictures by their names, and files that can be opened without waiting for anybody."""

from __future__ import annotations

import os
import unicodedata
from os import PathLike
from pathlib import Path
from typing import BinaryIO

from p3m_edge import arguments, smallfile
from p3m_edge.atomic import reason
from p3m_edge.errors import InputError

# HEIC is listed also where nothing reads it: such a file is named in the summary of a folder, and not passed over.
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".jfi", ".pjpeg", ".pjp", ".mpo", ".png", ".apng", ".webp"}
    | {".tif", ".tiff", ".bmp", ".dib", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".avifs"}
    | {".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".tga", ".icb", ".vda", ".vst"}
    | {".heic", ".heif", ".hif", ".heics", ".heifs"}
)


def open_regular(path: str | PathLike[str]) -> BinaryIO:
    """Open a regular file that is not empty. Pipes, sockets and devices are refused, never waited for.

    An :class:`InputError` says that it is missing, not a regular file, empty, or cannot be read.
    """
    try:
        stream = smallfile.open_regular(path)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except IsADirectoryError as error:
        raise InputError(f"{path} is a folder, not a picture") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {reason(error)}") from error
    if os.fstat(stream.fileno()).st_size == 0:
        stream.close()
        raise InputError(f"{path} is empty")
    return stream


def list_images(folder: str | PathLike[str]) -> list[Path]:
    """The picture files directly in ``folder``, by suffix, sorted by name; hidden files are left out.

    An :class:`InputError` says that ``folder`` is missing, not a folder, or cannot be read.
    """
    folder = arguments.path("a folder of pictures", folder)
    try:
        files = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
        return sorted(p for p in files if not p.is_dir())
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} cannot be listed: {reason(error)}") from error


def composed(name: str) -> str:
    """A name in one Unicode form (NFC): some systems and editors write ``é`` as two characters, others as one."""
    return unicodedata.normalize("NFC", name)


def stem(path: PathLike[str]) -> str:
    """The file's name without its suffix, :func:`composed`: files whose stems are equal belong together."""
    return composed(Path(path).stem)
