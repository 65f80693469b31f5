"""``manifest.json``: what an artefact is, how it was made and what has been proved about it.

The dataclasses below are the schema: they are written, read and checked as they stand, and
``docs/manifest.schema.json`` is generated from them (``python -m p3m_edge.manifest``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from p3m_edge.errors import ArtefactError
from p3m_edge.targets import Limits

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

Level = Literal["device", "program", "typed", "none"]
OutputName = Literal["alpha", "local_alpha", "global_logits"]
Unpool = Literal["select", "native", "nearest", "none"]
Form = Literal["array", "image"]
Flavour = Literal["tensorrt", "tensorrt-rtx"]
Compatibility = Literal["none", "same-cc", "ampere+"]


@dataclass(frozen=True)
class FileRecord:
    """One file of the artefact."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class ProfileRecord:
    """The frames that a TensorRT engine with a dynamic size takes: smallest, tuned for, largest ``(width, height)``."""

    minimum: tuple[int, int]
    optimum: tuple[int, int]
    maximum: tuple[int, int]


@dataclass(frozen=True)
class BuildRecord:
    """How a TensorRT engine was built, which is where it runs: an engine fits one version, system and kind of GPU.

    Attributes
    ----------
    flavour, version
        TensorRT or TensorRT for RTX, and its full version.
    compute_capabilities
        Of the GPUs that it is for: ``8.9``, ...
    gpu, driver, cuda
        Of the machine that built it; None: it was built ahead of time, on a machine without one.
    system
        ``linux-x86_64``, ``windows-amd64``, ...
    onnx_sha256
        Of the typed ONNX beside it, of which it was built.
    profile
        The sizes that it takes; None: that of ``input``.
    hardware_compatibility, version_compatible
        What else it was allowed to run on, at a cost in speed.
    level, workspace_mb
        The builder's optimisation level (0..5) and the limit of its workspace; None: the builder's own.
    types
        How many layers give which type, counted after parsing.
    seconds
        What the build took.
    """

    flavour: Flavour
    version: str
    compute_capabilities: tuple[str, ...]
    gpu: str | None
    driver: str | None
    cuda: str | None
    system: str
    onnx_sha256: str
    profile: ProfileRecord | None
    hardware_compatibility: Compatibility
    version_compatible: bool
    level: int | None
    workspace_mb: int | None
    types: dict[str, int]
    seconds: float


@dataclass(frozen=True)
class EngineRecord:
    """The engine that runs the artefact, and whether its model file has been built.

    ``versions`` are the packages that built the file; ``minimum_version`` is the oldest engine that may load it.
    ``reason`` says why it is not built, ``commands`` build it on the device (TensorRT), and ``build`` is how it was.
    """

    name: str
    status: Literal["built", "not-built"]
    minimum_version: str
    versions: dict[str, str]
    reason: str | None = None
    commands: tuple[str, ...] = ()
    build: BuildRecord | None = None


@dataclass(frozen=True)
class ModelRecord:
    """The network and its weights. ``trained`` is false for deterministic stand-in weights."""

    arch: str
    parameters: int
    trained: bool
    checkpoint_sha256: str
    licence: str
    provenance: str


@dataclass(frozen=True)
class InputRecord:
    """The frame that goes into the model file: ``[batch, height, width, 3]``, uint8, RGB. ``None``: dynamic."""

    name: str
    batch: int
    height: int | None
    width: int | None
    multiple_of: int = 32
    dtype: Literal["uint8"] = "uint8"
    layout: Literal["NHWC"] = "NHWC"
    colour: Literal["RGB"] = "RGB"


@dataclass(frozen=True)
class FunctionRecord:
    """A function of a package that has several: its name, and the size of the frame that it takes."""

    name: str
    width: int
    height: int


@dataclass(frozen=True)
class OutputRecord:
    """One output of the model file, ``[batch, channels, height, width]``, float32.

    ``alpha`` (0..1) is what apps use; ``local_alpha`` (0..1) and ``global_logits`` (background, unknown,
    foreground) are there so that the artefact can be verified. ``form``: what it is where the engine itself has images
    besides arrays (Core ML); the runtime gives arrays.
    """

    name: OutputName
    channels: int
    dtype: Literal["float32"] = "float32"
    layout: Literal["NCHW"] = "NCHW"
    form: Form = "array"


@dataclass(frozen=True)
class ParityItem:
    """How one picture came out, against the eager deploy module.

    ``None``: the artefact lacks that output, or gives what is no number.

    The errors are those of :class:`p3m_edge.runtimes.golden.Difference` (older artefacts have no ``grad_mean``).
    ``sad`` (thousands), ``grad`` and ``conn`` compare the two final alphas with the published measures, as sums over
    the first picture of the batch; they are reported, not gated.
    """

    image: str
    logits_mean: float | None
    local_mean: float | None
    local_share: float | None
    flips: float | None
    alpha_mean: float | None
    alpha_max: float | None
    alpha_share: float
    sad: float
    mse: float | None
    grad: float
    conn: float
    grad_mean: float | None = None


@dataclass(frozen=True)
class ParityRecord:
    """The parity gate: limits, the pictures, the verdict. ``loosened`` lists limits that the user relaxed.

    ``headroom``: how many times larger all results in half precision could have been before one overflows, where the
    artefact was interpreted.
    """

    passed: bool
    limits: Limits
    items: tuple[ParityItem, ...]
    failures: tuple[str, ...] = ()
    loosened: tuple[str, ...] = ()
    headroom: float | None = None


@dataclass(frozen=True)
class PicturesRecord:
    """Pictures that a quantisation was calibrated or measured with.

    ``digest`` is the SHA-256 of their list (names and SHA-256 of the files, or the generator and its numbers), so that
    whoever has them can tell; ``source`` is their folder's name without those above it. ``remarks`` say what the set
    cannot prove.
    """

    kind: Literal["files", "synthetic"]
    source: str
    pictures: int
    digest: str
    seed: int
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class AccuracyRecord:
    """Mattes of a quantised network beside those of the same network in float32, over the measuring pictures.

    ``sad`` and ``float_sad`` are means over the pictures, in thousands, against the true mattes; ``rise`` is by which
    share the first is above the second, and ``mse_rise`` and ``grad_rise`` are the same for MSE and GRAD. They are
    ``None`` where there are no true mattes. ``mean_difference`` is the mean absolute difference of the two alphas
    (0..1). ``flips`` is the share of pixels that change between background and foreground, ``unknown_flips`` of those
    that change to or from unknown; ``None`` without logits.
    """

    sad: float | None
    float_sad: float | None
    rise: float | None
    mean_difference: float
    flips: float | None
    unknown_flips: float | None
    mse_rise: float | None = None
    grad_rise: float | None = None


@dataclass(frozen=True)
class RungRecord:
    """One attempt to quantise: what it was, how its mattes are, how fast it is.

    ``accuracy`` decides, and ``failures`` says what was beyond the gate; ``accuracy`` and ``speed`` are ``None`` where
    no network came of it that works. ``here`` is what this machine's runtime shows at full optimisation, where that is
    not the same (8-bit products that saturate on older processors). ``speed`` is how many times as fast as the float32
    artefact it is on the machine that exported, with its 95 % interval; ``None`` for Core ML, which is not timed.
    ``fp32`` are the parts of the network that stay in float32 (Core ML: in half precision).
    """

    name: str
    what: str
    accuracy: AccuracyRecord | None
    failures: tuple[str, ...]
    here: AccuracyRecord | None
    speed: tuple[float, float, float] | None
    bytes: int
    seconds: float
    fp32: tuple[str, ...] = ()


@dataclass(frozen=True)
class QuantizationRecord:
    """How an artefact in fewer bits came about: the rungs that were tried, in order; ``chosen`` is the one in it.

    ``calibration`` is ``None`` where the weights alone have fewer bits.

    ``passed`` is false where no rung met the gate: the artefact then holds the best of them and is rejected.
    ``budget_spent``: the time or the number of attempts ended it, and there was more to try.
    """

    form: str
    calibration: PicturesRecord | None
    measuring: PicturesRecord
    max_drop: float
    rungs: tuple[RungRecord, ...]
    chosen: str
    passed: bool
    budget_spent: bool = False


@dataclass(frozen=True)
class UnitRecord:
    """A unit of the machine that passed the golden vectors, and the largest value of each error on it."""

    unit: str
    errors: dict[str, float]


@dataclass(frozen=True)
class VerifiedRecord:
    """What has been proved, at which level, on which machine, with which versions.

    ``units``: what a Core ML artefact ran on, where the result of a Mac was imported. ``CPU``: the processor alone;
    ``GPU``, ``NE``, ``ALL``: Core ML had the graphics processor, the Neural Engine or all of them as well.
    """

    level: Level
    machine: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    units: tuple[UnitRecord, ...] = ()


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
        Also read an artefact that failed its parity gate: to look at it, never to run it.

    Raises
    ------
    ArtefactError
        No artefact, a rejected one, an unreadable or invalid manifest, or one of a newer schema.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise ArtefactError(f"{folder} {what}", hint="an artefact is the folder that `p3m-edge export` wrote")
    if not allow_rejected and folder.resolve().name.endswith(REJECTED_SUFFIX):
        raise ArtefactError(f"{folder} was rejected by its parity gate and must not be used", hint="export it again")
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
        raise ArtefactError(f"{folder} failed its parity gate and must not be used", hint="export it again")
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
