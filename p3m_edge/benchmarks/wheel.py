"""The installed package, packed as a wheel again: no build tool, no network, the same from a checkout or a wheel."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import p3m_edge
from p3m_edge.errors import MissingError, OutputError

_DISTRIBUTION = "p3m-edge"
_LEFT_OUT = {"__pycache__"}
_DATE = (2020, 1, 1, 0, 0, 0)  # a constant: the same package gives the same bytes
_MODE = 0o100644 << 16
_WHEEL = "Wheel-Version: 1.0\nGenerator: p3m-edge\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def distribution() -> metadata.Distribution:
    """The metadata of the package that is running.

    Raises
    ------
    MissingError
        The package is not installed (only importable), or its metadata is of another version.
    """
    # A build may leave an egg-info folder in a source tree, which comes first on the path and is no full installation.
    found = sorted(metadata.distributions(name=_DISTRIBUTION), key=lambda one: one.read_text("METADATA") is None)
    hint = "pip install p3m-edge, or `pip install -e .` in the source tree"
    if not found:
        raise MissingError("p3m-edge runs without being installed, so no wheel can be made of it", hint=hint)
    if found[0].version != p3m_edge.__version__:
        raise MissingError(
            f"the code is version {p3m_edge.__version__}, its installed metadata {found[0].version}", hint=hint
        )
    return found[0]


def make_wheel(folder: Path) -> Path:
    """Write ``p3m_edge-VERSION-py3-none-any.whl`` into ``folder`` and return its path.

    Raises
    ------
    MissingError
        As :func:`distribution`, or the package does not lie in plain files.
    OutputError
        The wheel cannot be written.
    """
    found = distribution()
    path = folder / f"p3m_edge-{found.version}-py3-none-any.whl"
    info = f"p3m_edge-{found.version}.dist-info"
    try:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            record = []
            for name, data in (*_package(), *_information(found, info)):
                _add(archive, name, data)
                digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
                record.append(f"{name},sha256={digest},{len(data)}\n")
            record.append(f"{info}/RECORD,,\n")
            _add(archive, f"{info}/RECORD", "".join(record).encode())
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error
    return path


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name, _DATE)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = _MODE
    archive.writestr(entry, data)


def _package() -> Iterator[tuple[str, bytes]]:
    root = Path(p3m_edge.__file__).parent
    if not root.is_dir():
        raise MissingError("p3m-edge runs from an archive, so no wheel can be made of it", hint="use that archive")
    for path in sorted(root.rglob("*")):
        inside = path.relative_to(root.parent)
        if path.is_file() and not _LEFT_OUT.intersection(inside.parts):
            yield inside.as_posix(), path.read_bytes()


def _information(found: metadata.Distribution, info: str) -> Iterator[tuple[str, bytes]]:
    yield f"{info}/METADATA", (found.read_text("METADATA") or found.read_text("PKG-INFO") or "").encode()
    yield f"{info}/WHEEL", _WHEEL.encode()
    entry_points = found.read_text("entry_points.txt")
    if entry_points:
        yield f"{info}/entry_points.txt", entry_points.encode()
    for file in found.files or ():
        folder, _, name = file.as_posix().partition(".dist-info/licenses/")
        if name and folder:
            yield f"{info}/licenses/{name}", file.read_binary()
