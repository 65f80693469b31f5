"""``manifest.json``: what an artefact is, how it was made and what has been proved about it.

The dataclasses, here and in ``manifest_schema``, are the schema: they are written, read and checked as they stand, and
``docs/manifest.schema.json`` is generated from them (``python -m p3m_edge.manifest``). In the file they have a digest
before them, so that damage and edits are noticed: ``sha256``, the SHA-256 of the file without white space outside of
strings, and with the 64 characters of the digest itself replaced by zeros.
"""

from __future__ import annotations

import codecs
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import msgspec

from p3m_edge import arguments
from p3m_edge.atomic import check_name, is_aside, recover
from p3m_edge.checkpoint_header import NO_DIGEST, digest
from p3m_edge.errors import ArtefactError, shown, suggestion
from p3m_edge.manifest_schema import (
    MAX_INPUT_PIXELS,
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
from p3m_edge.smallfile import open_regular, parse_json, read_small
from p3m_edge.targets import TARGETS, Precision

SCHEMA_VERSION = 2
"""1 had no digest."""
DIGEST = "sha256"
MANIFEST = "manifest.json"
GOLDEN = "golden.npz"
SIGNATURE = "model.sig"
"""Of all other files (:mod:`p3m_edge.signature`), if the artefact is signed: the manifest cannot list it."""
TYPED = "model.onnx"
"""Of a TensorRT artefact: the graph with its types, of which engines are built."""
PLACE = "DIR"
"""Stands for the artefact's folder in the commands of its manifest, which knows no places."""
REJECTED_SUFFIX = ".rejected"
_MAX_MANIFEST_BYTES = 16 * 1024 * 1024
_CHUNK = 4 * 1024 * 1024  # of a file that is hashed; a third faster than hashlib.file_digest
_CHANNELS = {"alpha": 1, "local_alpha": 1, "global_logits": 3}
_VERSION = re.compile(r"\d{1,9}(\.\d{1,9}){0,5}([^\d\s]\S{0,63})?")
_MAX_STEP = 8192
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
    precision: Precision
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
    """The text of ``manifest.json``, with its digest."""
    return seal(msgspec.json.encode(manifest))


def seal(document: bytes) -> bytes:
    """A JSON object with its digest as the first entry, so that its first occurrence in the file is this one."""
    entries = msgspec.json.decode(document, type=dict[str, msgspec.Raw])
    entries.pop(DIGEST, None)
    text = msgspec.json.format(msgspec.json.encode({DIGEST: NO_DIGEST, **entries}), indent=-1)
    found = digest(text, NO_DIGEST)
    return msgspec.json.format(text.replace(NO_DIGEST.encode(), found.encode(), 1), indent=2) + b"\n"


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
        No artefact, a rejected one, an unreadable or invalid manifest, one that was changed or contradicts itself, or
        one of another schema.
    """
    folder = check_name(arguments.path("an artefact's folder", folder), ArtefactError)
    path = folder / MANIFEST
    if is_aside(folder):
        recover(folder)
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise ArtefactError(f"{folder} {what}", hint="an artefact is the folder that `p3m-edge export` wrote")
    if not allow_rejected and folder.resolve().name.endswith(REJECTED_SUFFIX):
        raise ArtefactError(f"{folder} was rejected by its gate and must not be used", hint="export it again")
    try:
        raw = read_small(path, _MAX_MANIFEST_BYTES).removeprefix(codecs.BOM_UTF8)
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
        document = parse_json(raw, object)
        schema = document.get("schema") if isinstance(document, dict) else None
        if type(schema) is int and schema != SCHEMA_VERSION:  # its fields may be others
            raise ArtefactError(
                f"{path} has schema {schema}; this version of p3m-edge reads {SCHEMA_VERSION}",
                hint=("upgrade p3m-edge, or " if schema > SCHEMA_VERSION else "") + "export the artefact again",
            )
        manifest = msgspec.convert(document, Manifest)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ArtefactError(f"{path} is not a valid manifest: {error}") from error
    written = document.get(DIGEST) if isinstance(document, dict) else None
    if not isinstance(written, str) or digest(msgspec.json.format(raw, indent=-1), written) != written:
        what = "has no digest" if written is None else "has been changed or damaged since it was written"
        raise ArtefactError(f"{path} {what}", hint="copy the artefact again, or export it again")
    for problem in problems(manifest):
        raise ArtefactError(f"{path} contradicts itself: {problem}", hint="export the artefact again")
    return manifest


def problems(manifest: Manifest) -> Iterator[str]:
    """How a manifest contradicts itself, a sentence for each contradiction."""
    yield from _target(manifest)
    for frame in dict.fromkeys((manifest.input, *(sized.input for sized in manifest.by_size()))):
        yield from _input(frame)
    names = [output.name for output in manifest.outputs]
    if "alpha" not in names or len(set(names)) < len(names):
        yield f"its outputs are {', '.join(names) or 'none'}, and one of them must be alpha"
    for output in manifest.outputs:
        if output.channels != _CHANNELS[output.name]:
            yield f"its output {output.name} has {output.channels} channels, not {_CHANNELS[output.name]}"
    if manifest.functions and manifest.function is None:
        yield "none of its functions takes its input"
    if manifest.parity is not None and manifest.parity.passed and manifest.parity.failures:
        yield f"its parity gate passed, and failed: {manifest.parity.failures[0]}"


def _target(manifest: Manifest) -> Iterator[str]:
    """Whether engine, precision and model file are those of the target."""
    target = TARGETS.get(manifest.target)
    if target is None:
        yield f"there is no target {shown(manifest.target)}: {suggestion(manifest.target, TARGETS)}"
        return
    for what, value, expected in (
        ("engine", manifest.engine.name, target.engine),
        ("precision", manifest.precision, target.precision),
        ("model file", manifest.model_file, target.model_file),
    ):
        if value != expected:
            yield f"the {what} of {target.name} is {expected}, not {shown(value)}"
    if not _VERSION.fullmatch(manifest.engine.minimum_version):
        yield f"its oldest engine {shown(manifest.engine.minimum_version)} is no version"


def _input(frame: InputRecord) -> Iterator[str]:
    """Whether there are frames that fit."""
    step = frame.multiple_of
    if not 1 <= step <= _MAX_STEP:
        yield f"its sides are multiples of {step}, which must be 1 to {_MAX_STEP}"
        return
    for name, side in {"width": frame.width, "height": frame.height}.items():
        if side is not None and (side < 1 or side % step):
            yield f"its {name} {side} is no positive multiple of {step}"
    pixels = frame.batch * (frame.width or step) * (frame.height or step)
    if frame.batch < 1 or pixels > MAX_INPUT_PIXELS:
        yield f"its batch of {frame.batch} frames is not one of 1 to {MAX_INPUT_PIXELS:,} pixels"


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
    arguments.instance("a manifest", manifest, Manifest)
    folder = arguments.path("an artefact's folder", folder)
    for required in (manifest.model_file, GOLDEN):
        if manifest.engine.status == "built" and not _lists(manifest, required):
            raise ArtefactError(f"the manifest of {folder} does not list {required}")
    for name, record in manifest.files.items():
        path = folder / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ArtefactError(f"the manifest of {folder} names a file outside it: {name}")
        try:
            with open_regular(path) as stream:
                size = os.fstat(stream.fileno()).st_size
            unchanged = size != record.bytes or sha256(path) == record.sha256
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise ArtefactError(f"{path} is missing", hint="export or copy the artefact again") from None
        except OSError as error:
            raise ArtefactError(f"{path} cannot be read: {error.strerror}") from error
        if size != record.bytes:
            raise ArtefactError(f"{path} has {size} bytes, the manifest says {record.bytes}")
        if not unchanged:
            raise ArtefactError(f"{path} was changed: its SHA-256 is not the one in the manifest")
    for path in _files(folder):
        if path.relative_to(folder).as_posix() not in manifest.files:
            raise ArtefactError(f"{path} is not listed in the manifest", hint="take it out of the artefact")


def sha256(path: Path) -> str:
    """The SHA-256 of a file, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open_regular(path) as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def record_files(folder: Path) -> dict[str, FileRecord]:
    """Size and hash of every file below ``folder``, by POSIX path, sorted; of all but manifest, signature and the
    system's own.
    """
    paths = _files(folder)
    return {p.relative_to(folder).as_posix(): FileRecord(sha256(p), p.stat().st_size) for p in paths}


def _lists(manifest: Manifest, name: str) -> bool:
    """Whether the manifest records ``name``: a file, or a folder with at least one file."""
    return name in manifest.files or any(listed.startswith(f"{name}/") for listed in manifest.files)


def _files(folder: Path) -> list[Path]:
    """What belongs into ``files``; a link counts as a file wherever it leads, and a pipe too: none hides anything."""
    return sorted(
        path
        for path in folder.rglob("*")
        if (not path.is_dir() or path.is_symlink())
        and path not in (folder / MANIFEST, folder / SIGNATURE)
        and path.name not in _SYSTEM_FILES
        and not path.name.startswith("._")  # what macOS adds to every file on foreign discs
    )


def json_schema() -> Mapping[str, object]:
    """The JSON Schema (draft 2020-12) of ``manifest.json``."""
    schema = msgspec.json.schema(Manifest)
    whole = schema["$defs"][Manifest.__name__]
    whole["properties"] = {DIGEST: {"type": "string", "pattern": "^[0-9a-f]{64}$"}, **whole["properties"]}
    whole["required"] = [DIGEST, *whole["required"]]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


if __name__ == "__main__":
    print(msgspec.json.format(msgspec.json.encode(json_schema()), indent=2).decode())
