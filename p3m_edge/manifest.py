"""``manifest.json``: what an artefact is, how it was made and what has been proved about it.

The dataclasses, here and in ``records``, are the schema: they are written, read and checked as they stand, and
``docs/manifest.schema.json`` is generated from them (``python -m p3m_edge.manifest``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import msgspec

from p3m_edge.atomic import check_name
from p3m_edge.errors import ArtefactError
from p3m_edge.records import (
    EngineRecord,
    FileRecord,
    FunctionRecord,
    InputRecord,
    ModelRecord,
    OutputRecord,
    ParityRecord,
    PicturesRecord,
    QuantizationRecord,
    Unpool,
    VerifiedRecord,
)

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
GOLDEN = "golden.npz"
TYPED = "model.onnx"
"""Of a TensorRT artefact: the graph with its types, of which engines are built."""
PLACE = "DIR"
"""Stands for the artefact's folder in the commands of its manifest, which knows no places."""
REJECTED_SUFFIX = ".rejected"
_MAX_MANIFEST_BYTES = 16 * 1024 * 1024
_CHUNK = 4 * 1024 * 1024  # of a file that is hashed; a third faster than hashlib.file_digest
_SYSTEM_FILES = frozenset({".DS_Store", ".directory", ".localized", "Thumbs.db", "desktop.ini"})


@dataclass(frozen=True)
class Manifest:
    """The whole of ``manifest.json``.

    ``functions``: where one package takes several sizes, its function for each; ``input`` is that of the first, which
    is the default. Empty: there is one size. ``smoothing``: the weight of the matte before in that of the next frame,
    where the model file keeps it as a state; None: it keeps nothing. ``looked_at``: pictures on which, besides those of
    ``parity``, activations were looked at for overflow in half precision.
    """

    schema: int
    target: str
    precision: str
    model_file: str
    engine: EngineRecord
    model: ModelRecord
    input: InputRecord
    outputs: tuple[OutputRecord, ...]
    unpool: Unpool
    files: dict[str, FileRecord]
    parity: ParityRecord | None
    verified: VerifiedRecord
    fp32_nodes: tuple[str, ...] = ()
    p3m_edge: str = ""
    quantization: QuantizationRecord | None = None
    functions: tuple[FunctionRecord, ...] = ()
    smoothing: Annotated[float, msgspec.Meta(gt=0, lt=1)] | None = None
    looked_at: PicturesRecord | None = None

    @property
    def function(self) -> str | None:
        """The function that takes ``input``; None: there is but one, and it needs no name."""
        sizes = {(each.width, each.height): each.name for each in self.functions}
        return sizes.get((self.input.width or 0, self.input.height or 0))

    def by_size(self) -> tuple[Manifest, ...]:
        """One for each function, with its ``input``, the default first; itself alone where there is one size."""
        if not self.functions:
            return (self,)
        frames = (replace(self.input, width=each.width, height=each.height) for each in self.functions)
        return tuple(replace(self, input=frame) for frame in frames)


def write(manifest: Manifest, folder: Path) -> None:
    """Write ``manifest.json`` into ``folder`` (which is still private to the export)."""
    (folder / MANIFEST).write_bytes(encode(manifest))


def encode(manifest: Manifest) -> bytes:
    """The text of ``manifest.json``."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def read(folder: Path, *, allow_rejected: bool = False) -> Manifest:
    """Read and validate ``folder/manifest.json``; the other files are not touched.

    Parameters
    ----------
    folder
        The artefact.
    allow_rejected
        Also read an artefact that failed its gate: to look at it, never to run it.

    Raises
    ------
    ArtefactError
        No artefact, a rejected one, an unreadable or invalid manifest, or one of a newer schema.
    """
    folder = check_name(folder, ArtefactError)
    path = folder / MANIFEST
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise ArtefactError(f"{folder} {what}", hint="an artefact is the folder that `p3m-edge export` wrote")
    if not allow_rejected and folder.resolve().name.endswith(REJECTED_SUFFIX):
        raise ArtefactError(f"{folder} was rejected by its gate and must not be used", hint="export it again")
    try:
        if path.stat().st_size > _MAX_MANIFEST_BYTES:
            raise ArtefactError(f"{path} is too large to be a manifest")
        raw = path.read_bytes()
    except FileNotFoundError:
        raise ArtefactError(f"{folder} holds no {MANIFEST}: it is not an artefact") from None
    except OSError as error:
        raise ArtefactError(f"{path} cannot be read: {error.strerror}") from error
    manifest = _parse(raw, path)
    gates = (manifest.parity, manifest.quantization)
    if not allow_rejected and any(gate is not None and not gate.passed for gate in gates):
        raise ArtefactError(f"{folder} failed its gate and must not be used", hint="export it again")
    return manifest


def _parse(raw: bytes, path: Path) -> Manifest:
    try:
        document = msgspec.json.decode(raw)
        schema = document.get("schema") if isinstance(document, dict) else None
        if isinstance(schema, int) and schema > SCHEMA_VERSION:
            raise ArtefactError(
                f"{path} has schema {schema}; this version reads up to {SCHEMA_VERSION}",
                hint="upgrade p3m-edge, or export the artefact again",
            )
        manifest = msgspec.convert(document, Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ArtefactError(f"{path} is not a valid manifest: {error}") from error
    if manifest.function is None and manifest.functions:
        raise ArtefactError(f"{path} is not a valid manifest: none of its functions takes its input")
    if manifest.schema != SCHEMA_VERSION:
        raise ArtefactError(f"{path} has schema {manifest.schema}, which this version does not read")
    return manifest


def check_files(manifest: Manifest, folder: Path) -> None:
    """Compare the folder with the manifest: every recorded file by size and SHA-256, and no file besides.

    A file that nobody recorded is an error too: it may be what another tool or engine loads instead. What operating
    systems scatter into folders (``.DS_Store``, ``Thumbs.db``, ...) is overlooked. A ``model_file`` may be a folder,
    of which every file is recorded.

    Raises
    ------
    ArtefactError
        A file is missing, has another size, another hash, a path that leaves the folder, or is not recorded.
    """
    folder = Path(folder)
    for required in (manifest.model_file, GOLDEN):
        if manifest.engine.status == "built" and not _lists(manifest, required):
            raise ArtefactError(f"the manifest of {folder} does not list {required}")
    for name, record in manifest.files.items():
        path = folder / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ArtefactError(f"the manifest of {folder} names a file outside it: {name}")
        if not path.is_file():
            raise ArtefactError(f"{path} is missing", hint="export or copy the artefact again")
        if path.stat().st_size != record.bytes:
            raise ArtefactError(f"{path} has {path.stat().st_size} bytes, the manifest says {record.bytes}")
        try:
            unchanged = sha256(path) == record.sha256
        except OSError as error:
            raise ArtefactError(f"{path} cannot be read: {error.strerror}") from error
        if not unchanged:
            raise ArtefactError(f"{path} was changed: its SHA-256 is not the one in the manifest")
    for path in _files(folder):
        if path.relative_to(folder).as_posix() not in manifest.files:
            raise ArtefactError(f"{path} is not listed in the manifest", hint="take it out of the artefact")


def sha256(path: Path) -> str:
    """The SHA-256 of a file, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def record_files(folder: Path) -> dict[str, FileRecord]:
    """Size and hash of every file below ``folder`` but the manifest (and the system's own), by POSIX path, sorted."""
    paths = _files(folder)
    return {p.relative_to(folder).as_posix(): FileRecord(sha256(p), p.stat().st_size) for p in paths}


def _lists(manifest: Manifest, name: str) -> bool:
    """Whether the manifest records ``name``: a file, or a folder with at least one file."""
    return name in manifest.files or any(listed.startswith(f"{name}/") for listed in manifest.files)


def _files(folder: Path) -> list[Path]:
    """What belongs into ``files``; a link counts as a file wherever it leads, so that none hides anything."""
    return sorted(
        path
        for path in folder.rglob("*")
        if (path.is_file() or path.is_symlink())
        and path != folder / MANIFEST
        and path.name not in _SYSTEM_FILES
        and not path.name.startswith("._")  # what macOS adds to every file on foreign discs
    )


def json_schema() -> Mapping[str, Any]:
    """The JSON Schema (draft 2020-12) of ``manifest.json``."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(Manifest)}


if __name__ == "__main__":
    print(msgspec.json.format(msgspec.json.encode(json_schema()), indent=2).decode())
