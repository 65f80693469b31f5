"""Local folders and object stores by their address, by fsspec; every fault is the store's own, in one line."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p3m_edge.atomic import atomic_file, reason
from p3m_edge.errors import InputError, MissingError, OutputError, P3MEdgeError, UsageError, needing

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)")  # at least two letters: C:/ is a drive
_WHOLE = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "oci")
"""Object stores, in which a file appears when all of it is there."""
_TAGS = ("ETag", "etag", "md5Hash", "content_md5")


def address(path: Path | str) -> str:
    """What was written where a path is expected, as fsspec takes it: paths join the slashes of ``s3://``."""
    found = _URL.fullmatch(str(path))
    if found is None:
        return str(path)
    return f"/{found[2]}" if found[1] == "file" else f"{found[1]}://{found[2]}"


def is_remote(path: Path | str) -> bool:
    """Whether it is an address in a store, and no local path."""
    return "://" in address(path)


@contextmanager
def telling(place: str, error: type[P3MEdgeError] = InputError) -> Iterator[None]:
    """Whatever a store raises in the block becomes ``error``, with the store's own words on one line."""
    try:
        yield
    except P3MEdgeError:
        raise
    except Exception as fault:
        text = " ".join(reason(fault).split()) or type(fault).__name__
        raise error(f"{place}: {text}") from fault


def opened(where: str) -> tuple[AbstractFileSystem, str]:
    """The file system of an address, and the path in it.

    Raises
    ------
    MissingError
        fsspec, or the package for this kind of store, is not installed.
    UsageError
        There is no such kind of store.
    InputError
        The store cannot be used, for example without credentials.
    """
    with needing("ray"):
        from fsspec.core import url_to_fs
    try:
        with telling(where):
            fs, path = url_to_fs(where)
    except InputError as error:
        if isinstance(error.__cause__, ImportError):
            raise MissingError(
                str(error), hint="pip install s3fs for s3://, gcsfs for gs://, adlfs for az://"
            ) from error
        if isinstance(error.__cause__, ValueError):
            raise UsageError(str(error)) from error
        raise
    return fs, path


def tag_of(info: dict[str, Any]) -> str | None:
    """What a store says of a file's content, so that another content has another one; None: it says nothing."""
    return next((f"{name}:{info[name]}" for name in _TAGS if info.get(name)), None)


def tag(where: str) -> str:
    """The store's word for the content of a file, or else its SHA-256. :class:`InputError`: it cannot be read."""
    fs, path = opened(where)
    with telling(where):
        said = tag_of(fs.info(path)) if is_remote(where) else None
        if said is not None:
            return said
        with fs.open(path, "rb") as stream:
            return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"


def fetch(where: str, folder: Path) -> Path:
    """The file as a local one: itself, or a copy in a folder. :class:`InputError`: it cannot be read."""
    if not is_remote(where):
        return Path(where)
    fs, path = opened(where)
    copy = folder / Path(where).name
    with telling(where):
        fs.get_file(path, str(copy))
    return copy


class Store:
    """A folder for results, at an address. Every method raises :class:`OutputError` where the store does not let it.

    :class:`UsageError`: in this kind of store, files appear before they are complete.
    """

    def __init__(self, where: str) -> None:
        self.where = where.rstrip("/") or where
        self.remote = is_remote(where)
        if self.remote and (kind := where.partition("://")[0]) not in _WHOLE:
            hint = f"local folders and object stores: {', '.join(_WHOLE)}"
            raise UsageError(f"results cannot be written to {kind}://, where files are not whole at once", hint=hint)
        self._fs, self._root = opened(self.where)

    def at(self, name: str) -> str:
        """The address of a file below."""
        return f"{self.where}/{name}"

    def names(self) -> set[str]:
        """All files below, hidden ones too, by their names from here on."""
        with telling(self.where, OutputError):
            self._fs.invalidate_cache()
            return {name.removeprefix(self._root).lstrip("/") for name in self._fs.find(self._root)}

    def exists(self, name: str) -> bool:
        with telling(self.where, OutputError):
            return bool(self._fs.exists(f"{self._root}/{name}"))

    def read(self, name: str) -> bytes | None:
        """The content of a small file; None: there is none."""
        with telling(self.where, OutputError), suppress(FileNotFoundError):
            return bytes(self._fs.cat_file(f"{self._root}/{name}"))
        return None

    def create(self, name: str, data: bytes) -> bool:
        """Write a file that is not there; False: it is, and stays."""
        with telling(self.where, OutputError):
            try:
                if not self.remote:
                    (Path(self._root) / name).parent.mkdir(parents=True, exist_ok=True)
                    with (Path(self._root) / name).open("xb") as stream:
                        stream.write(data)
                else:
                    self._fs.pipe_file(f"{self._root}/{name}", data, mode="create")
            except FileExistsError:
                return False
            except OSError as error:
                if self.remote and self._fs.exists(f"{self._root}/{name}"):  # S3's failed precondition
                    return False
                raise error
        return True

    def write(self, name: str, data: bytes) -> None:
        """Write a small file, whole."""
        if self.remote:
            with telling(self.at(name), OutputError):
                self._fs.pipe_file(f"{self._root}/{name}", data)
        else:
            with atomic_file(self.at(name), parents=True) as stream:
                stream.write(data)

    def put(self, file: Path, name: str) -> None:
        """Copy a local file to its place, where it appears whole."""
        self.write(name, file.read_bytes())

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with telling(self.at(name), OutputError), suppress(FileNotFoundError):
            self._fs.rm_file(f"{self._root}/{name}")
