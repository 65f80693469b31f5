"""The objects in a manifest, a dataclass for each; :class:`p3m_edge.manifest.Manifest` is the whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from p3m_edge.targets import Limits

Level = Literal["device", "emulated", "program", "typed", "none"]
"""What an artefact has been verified by, the strongest first."""
OutputName = Literal["alpha", "local_alpha", "global_logits"]
Unpool = Literal["select", "native", "nearest", "none"]
Form = Literal["array", "image"]
Flavour = Literal["tensorrt", "tensorrt-rtx"]
Compatibility = Literal["none", "same-cc", "ampere+"]

MAX_INPUT_PIXELS = 8192 * 8192
"""The most pixels in one inference, all frames of its batch together: no machine has the memory for more."""


@dataclass(frozen=True)
class FileRecord:
    """One file of the artefact."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class ProfileRecord:
    """The frame sizes of a TensorRT engine of dynamic size: smallest, tuned for, largest ``(width, height)``."""

    minimum: tuple[int, int]
    optimum: tuple[int, int]
    maximum: tuple[int, int]


@dataclass(frozen=True)
class BuildRecord:
    """How a TensorRT engine was built; it fits one version, system and kind of GPU.

    Attributes
    ----------
    flavour, version
        TensorRT or TensorRT for RTX, and its full version.
    compute_capabilities
        Of the GPUs that it is for: ``8.9``, ...
    gpu, driver, cuda
        Of the machine that built it; None: it had no GPU.
    system
        ``linux-x86_64``, ``windows-amd64``, ...
    onnx_sha256
        Of the typed ONNX that it was built of.
    profile
        The sizes that it takes; None: that of ``input``.
    hardware_compatibility, version_compatible
        What else it may run on, at a cost in speed.
    level, workspace_mb
        The builder's optimisation level (0..5) and the limit of its workspace; None: the builder's own.
    types
        The number of layers by the type of their output, counted after parsing.
    seconds
        The duration of the build.
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
    ``reason`` says why it is not built; TensorRT has ``commands`` that build it on the device, and its ``build``.
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

    Apps use ``alpha`` (0..1); ``local_alpha`` (0..1) and ``global_logits`` (background, unknown, foreground) are there
    to verify the artefact. ``form``: what Core ML gives, which has images besides arrays; the runtime gives arrays.
    """

    name: OutputName
    channels: int
    dtype: Literal["float32"] = "float32"
    layout: Literal["NCHW"] = "NCHW"
    form: Form = "array"


@dataclass(frozen=True)
class ParityItem:
    """The errors of one picture against the eager deploy module.

    ``None``: the artefact lacks that output, or gives NaN or infinity. The errors are those of
    :class:`p3m_edge.runtimes.golden.Difference` (older artefacts have no ``grad_mean``). ``sad`` (thousands), ``grad``
    and ``conn`` are the published measures of the final alpha, as sums over the first picture of the batch; they are
    reported, not gated.
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
    """The parity gate: limits, pictures, verdict. ``loosened`` lists limits that the user relaxed.

    ``headroom``: by which factor all results in half precision could grow before one overflows, where the artefact was
    interpreted.
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

    ``digest``, the SHA-256 of their list (names and SHA-256 of the files, or the generator and its numbers), tells
    whoever has the pictures that it was these; ``source`` is the name of their folder. ``remarks`` say what the set
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
    """Mattes of a quantised network compared with those of the same network in float32, over the measuring pictures.

    ``sad`` and ``float_sad`` are means over the pictures, in thousands, against the true mattes; ``rise`` is the share
    by which the first exceeds the second, and likewise ``mse_rise`` and ``grad_rise``. They are ``None`` without true
    mattes, but for ``grad_rise``, which is then that of the clips' frames. ``dtssd``, ``float_dtssd`` and
    ``dtssd_rise`` are the same for short clips with exact alphas; older artefacts have none. ``mean_difference`` is the
    mean absolute difference of the two alphas (0..1). ``flips`` is the share of pixels that change between background
    and foreground, ``unknown_flips`` of those that change to or from unknown; ``None`` without logits.
    """

    sad: float | None
    float_sad: float | None
    rise: float | None
    mean_difference: float
    flips: float | None
    unknown_flips: float | None
    mse_rise: float | None = None
    grad_rise: float | None = None
    dtssd: float | None = None
    float_dtssd: float | None = None
    dtssd_rise: float | None = None


@dataclass(frozen=True)
class AttemptRecord:
    """One attempt to quantise, with its accuracy and speed.

    ``accuracy`` decides, and ``failures`` says what was beyond the gate; ``accuracy`` and ``speed`` are ``None`` where
    the attempt gave no network that works. ``here`` is the accuracy of this machine's runtime at full optimisation,
    where that differs (8-bit products that saturate on older processors). ``speed`` is the speed-up over the float32
    artefact on the machine that exported, with its 95 % interval; ``None`` for Core ML, which is not timed. ``fp32``
    are the parts of the network that stay in float32 (Core ML: in half precision).
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
    """How an artefact was quantised: the attempts (``rungs``) in order; ``chosen`` is the one that it holds.

    ``calibration`` is ``None`` where the weights alone have fewer bits. ``passed`` is false where no attempt met the
    gate: the artefact then holds the best of them and is rejected. ``budget_spent``: the time or the number of attempts
    ended the search before all was tried.
    """

    form: str
    calibration: PicturesRecord | None
    measuring: PicturesRecord
    max_drop: float
    rungs: tuple[AttemptRecord, ...]
    chosen: str
    passed: bool
    budget_spent: bool = False


@dataclass(frozen=True)
class UnitRecord:
    """A processing unit that passed the golden vectors, and the largest value of each error on it."""

    unit: str
    errors: dict[str, float]


@dataclass(frozen=True)
class EmulatedRecord:
    """A self-test on an emulated processor; it says nothing about speed.

    Attributes
    ----------
    processor
        By the emulator's name: ``cortex-a72``; with what was switched on or off: ``max,sme=off``.
    emulator
        Its name and version.
    passed
        Whether the golden vectors are within the limits there.
    errors
        The largest value of each error; empty where the process died.
    failures
        What exceeded its limit, or how the process died.
    versions
        The packages that ran there.
    """

    processor: str
    emulator: str
    passed: bool
    errors: dict[str, float]
    failures: tuple[str, ...]
    versions: dict[str, str]


@dataclass(frozen=True)
class VerifiedRecord:
    """The level of the verification, with machine and versions.

    ``units``: where a Core ML artefact ran, if the result of a Mac was imported: ``CPU``, or with ``GPU``, ``NE`` or
    ``ALL`` the graphics processor, the Neural Engine or both of them as well. ``emulated``: the processors that it ran
    on in an emulation, whatever the level.
    """

    level: Level
    machine: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    units: tuple[UnitRecord, ...] = ()
    emulated: tuple[EmulatedRecord, ...] = ()
