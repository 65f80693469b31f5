"""TensorRT engines, built of the typed ONNX in an artefact, by whichever builder is here; without PyTorch.

The builder is a process of its own (:mod:`p3m_edge.runtimes.tensorrt_process`).
"""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from p3m_edge.errors import ArtefactError, MissingError, OutputError, P3MEdgeError, UsageError, ended
from p3m_edge.manifest import (
    TYPED,
    BuildRecord,
    Compatibility,
    Flavour,
    InputRecord,
    Manifest,
    ProfileRecord,
    record_files,
)
from p3m_edge.runtimes import cache
from p3m_edge.runtimes.tensorrt_process import (
    CURRENT,
    NAMES,
    PATIENCE,
    Done,
    Failure,
    Gpu,
    Here,
    Log,
    Message,
    Order,
    Progress,
    Shapes,
)
from p3m_edge.targets import get

PROCESS = [sys.executable, "-P", "-m", "p3m_edge.runtimes.tensorrt_process"]
MAX_SIDE = 8192
LEVELS = range(6)
"""The builder's optimisation levels."""
EXTRA = "tensorrt-rtx"
_JETSON = Path("/etc/nv_tegra_release")
_ERRORS = {kind.__name__: kind for kind in (ArtefactError, MissingError, OutputError, UsageError)}
_STEP = 0.05
"""Progress is told each time that this share more is done."""
_EARLY = 0.05
"""Before that share is done, it is not said how long the rest takes."""
_TRTEXEC: dict[Compatibility, str] = {"same-cc": "sameComputeCapability", "ampere+": "ampere+"}

Tell = Callable[[str], None]


@dataclass(frozen=True)
class BuildOptions:
    """How to build an engine.

    Attributes
    ----------
    flavour
        The builder; None: TensorRT where it and a GPU are, else TensorRT for RTX.
    compute_capabilities
        ``8.6``, ...: build ahead of time for these GPUs (TensorRT for RTX alone); empty: for the GPU that is here, or
        without one for all that the builder knows. ``current``: for the GPU that is here, known or not.
    profile
        The sizes of a dynamic artefact.
    hardware_compatibility, version_compatible
        Let it run on more GPUs, or on newer versions, at a cost in speed (TensorRT alone).
    level
        0..5, of the builder's optimisation; None: the builder's own.
    workspace_mb
        Limit of the memory for the build; None: the builder's own.
    timing_cache
        Keeps what the builder measured, so that the next build is faster (TensorRT alone); None: a file in the folder
        of :mod:`p3m_edge.runtimes.cache`.
    """

    flavour: Flavour | None = None
    compute_capabilities: tuple[str, ...] = ()
    profile: ProfileRecord | None = None
    hardware_compatibility: Compatibility = "none"
    version_compatible: bool = False
    level: int | None = None
    workspace_mb: int | None = None
    timing_cache: Path | None = None


@dataclass(frozen=True)
class Builder:
    """A builder of engines, and what it can do on this machine.

    Attributes
    ----------
    flavour, version
        Which one; ``version`` is None where it cannot be imported.
    compute_capabilities
        Of the GPUs that it builds for ahead of time, without one; TensorRT builds for the GPU that is here.
    gpu, driver, cuda
        The name of the GPU that is here, the version of its driver, and the newest CUDA that it supports.
    gpu_capability
        The compute capability of that GPU.
    no_gpu
        Why there is none.
    problem
        Why it cannot build; None: it can.
    """

    flavour: Flavour
    version: str | None = None
    compute_capabilities: tuple[str, ...] = ()
    gpu: str | None = None
    driver: str | None = None
    cuda: str | None = None
    gpu_capability: str | None = None
    no_gpu: str | None = None
    problem: str | None = None


def builders() -> tuple[Builder, ...]:
    """What this machine has to build engines, TensorRT first; each is tried in a process of its own.

    One that is broken, or takes its process with it, is among them with its ``problem``.
    """
    return tuple(_examine(flavour) for flavour in NAMES)


def _examine(flavour: Flavour) -> Builder:
    try:
        here = _ask(Order(flavour), lambda message: None)
    except P3MEdgeError as error:
        return Builder(flavour, problem=str(error))
    assert isinstance(here, Here)
    gpu = here.gpu or Gpu("", "", None, None)
    return Builder(
        flavour, here.version, here.compute_capabilities, gpu.name or None, gpu.driver, gpu.cuda,
        gpu.compute_capability or None, here.no_gpu, here.problem,
    )  # fmt: skip


def install_hint(flavour: Flavour | None = None) -> str:
    """How a builder comes onto this machine; None: the one that is meant for it."""
    if _JETSON.exists() and flavour != "tensorrt-rtx":
        return (
            "on a Jetson, TensorRT is the system's: sudo apt install python3-libnvinfer, "
            "and a virtual environment with --system-site-packages"
        )
    return "pip install tensorrt" if flavour == "tensorrt" else f'pip install "p3m-edge[{EXTRA}]"'


def check_profile(profile: ProfileRecord | None, frame: InputRecord) -> None:
    """Whether the sizes fit the input of an artefact.

    Raises
    ------
    UsageError
        They are missing or not wanted, out of order, or not multiples of what the network takes.
    """
    dynamic = frame.height is None
    if profile is None:
        if dynamic:
            raise UsageError(
                "an engine of an artefact with an open size is built for sizes from one to another",
                hint="for example --min 256x256 --opt 512x512 --max 1024x1024",
            )
        return
    if not dynamic:
        raise UsageError(
            f"the artefact has the fixed size {frame.width}x{frame.height}, and takes no others",
            hint="leave out --min, --opt and --max, or export with --dynamic",
        )
    named = {"--min": profile.minimum, "--opt": profile.optimum, "--max": profile.maximum}
    for option, (width, height) in named.items():
        for side, value in (("width", width), ("height", height)):
            if not 0 < value <= MAX_SIDE or value % frame.multiple_of:
                raise UsageError(
                    f"{option}: the {side} {value} must be a multiple of {frame.multiple_of} up to {MAX_SIDE}"
                )
    for index, side in enumerate(("width", "height")):
        values = [size[index] for size in named.values()]
        if values != sorted(values):
            raise UsageError(f"the {side} must not fall from --min to --opt to --max: {', '.join(map(str, values))}")


def build_into(manifest: Manifest, folder: Path, options: BuildOptions, tell: Tell = lambda text: None) -> Manifest:
    """Build the engine of an artefact of its typed ONNX, into its folder.

    Parameters
    ----------
    manifest, folder
        Of the artefact; the manifest in the folder is not touched.
    options
        How.
    tell
        Told of the builder's progress.

    Returns
    -------
    manifest
        With the engine as it is now, and all files.

    Raises
    ------
    MissingError
        No builder that could do it is here, or it does not know the GPU.
    UsageError
        Options that do not fit the artefact or the builder.
    ArtefactError
        The typed ONNX is missing, or not what the manifest says.
    OutputError
        The disc is full.
    P3MEdgeError
        The builder refuses the graph (node, operator, module), gives other types than the graph has, or was killed.
    """
    source = folder / TYPED
    if not source.is_file():
        raise ArtefactError(f"{source} is missing: engines are built of it", hint="export the artefact again")
    check_profile(options.profile, manifest.input)
    builder = choose(options)
    assert builder.version is not None
    capabilities = _capabilities(builder, options)
    order = Order(
        flavour=builder.flavour, onnx=str(source.absolute()), engine=str((folder / manifest.model_file).absolute()),
        precision=get(manifest.target).precision, fp32_nodes=manifest.fp32_nodes, input=manifest.input.name,
        shapes=_shapes(options.profile, manifest.input),
        compute_capabilities=capabilities if builder.compute_capabilities else (),
        hardware_compatibility=options.hardware_compatibility, version_compatible=options.version_compatible,
        level=options.level, workspace_mb=options.workspace_mb, timing_cache=_timing_cache(builder, options),
    )  # fmt: skip
    start = time.monotonic()
    done = _ask(order, _Teller(tell))
    assert isinstance(done, Done)
    seconds = time.monotonic() - start
    files = record_files(folder)
    known = tuple(builder.gpu_capability or "" if each == CURRENT else each for each in capabilities)
    record = BuildRecord(
        flavour=builder.flavour, version=builder.version, compute_capabilities=known,
        gpu=builder.gpu, driver=builder.driver, cuda=builder.cuda, system=system(), onnx_sha256=files[TYPED].sha256,
        profile=options.profile, hardware_compatibility=options.hardware_compatibility,
        version_compatible=options.version_compatible, level=options.level, workspace_mb=options.workspace_mb,
        types=done.types, seconds=round(seconds, 3),
    )  # fmt: skip
    engine = replace(
        manifest.engine, status="built", reason=None, minimum_version=builder.version, build=record,
        versions={**manifest.engine.versions, builder.flavour: builder.version},
    )  # fmt: skip
    built = replace(manifest, engine=engine, files=files)
    return replace(built, engine=replace(engine, commands=commands(built, options)))


def commands(manifest: Manifest, options: BuildOptions, folder: str = "DIR") -> tuple[str, ...]:
    """Lines that build the engine on the device: our own, and trtexec's.

    ``folder`` is the artefact's. What trtexec writes is an engine for other programs: an artefact lists its files.
    """
    own, foreign = ["p3m-edge", "build", folder], ["trtexec", f"--onnx={folder}/{TYPED}"]
    foreign += ["--saveEngine=model.engine", "--stronglyTyped"]
    if manifest.engine.status == "built":
        own.append("--force")
    if options.flavour is not None:
        own += ["--flavour", options.flavour]
    if options.profile is not None and (shapes := _shapes(options.profile, manifest.input)) is not None:
        profile = options.profile
        for name, size, shape in (
            ("min", profile.minimum, shapes.minimum),
            ("opt", profile.optimum, shapes.optimum),
            ("max", profile.maximum, shapes.maximum),
        ):
            own += [f"--{name}", "x".join(map(str, size))]
            foreign.append(f"--{name}Shapes={manifest.input.name}:{'x'.join(map(str, shape))}")
    if options.hardware_compatibility != "none":
        own += ["--hw-compat", options.hardware_compatibility]
        foreign.append(f"--hardwareCompatibilityLevel={_TRTEXEC[options.hardware_compatibility]}")
    if options.version_compatible:
        own.append("--version-compat")
        foreign.append("--versionCompatible")
    if options.level is not None:
        own += ["--opt-level", str(options.level)]
        foreign.append(f"--builderOptimizationLevel={options.level}")
    if options.workspace_mb is not None:
        own += ["--workspace", str(options.workspace_mb)]
        foreign.append(f"--memPoolSize=workspace:{options.workspace_mb}")
    lines = (own,) if options.flavour == "tensorrt-rtx" else (own, foreign)
    return tuple(shlex.join(line) for line in lines)


def system() -> str:
    """The system here, as build records name it: an engine runs on no other."""
    return f"{platform.system()}-{platform.machine()}".lower()


def choose(options: BuildOptions) -> Builder:
    """The builder that is meant, or that can do it.

    Raises
    ------
    MissingError
        None that could do it is here; the message says what is wrong with each.
    UsageError
        It cannot do what the options ask for.
    """
    wanted: Flavour | None = (
        "tensorrt-rtx" if options.flavour is None and options.compute_capabilities else options.flavour
    )
    found = [builder for builder in builders() if wanted in (None, builder.flavour)]
    usable = next((builder for builder in found if builder.problem is None), None)
    if usable is None:
        reasons = "; ".join(str(builder.problem) for builder in found)
        raise MissingError(f"nothing here can build the engine: {reasons}", hint=install_hint(wanted))
    _check_options(usable.flavour, options)
    return usable


def _check_options(flavour: Flavour, options: BuildOptions) -> None:
    unknown: dict[str, bool] = {}
    if flavour == "tensorrt-rtx":
        unknown = {
            "--hw-compat": options.hardware_compatibility != "none",
            "--version-compat": options.version_compatible,
            "--timing-cache": options.timing_cache is not None,
        }
    elif options.compute_capabilities:
        unknown = {"--sm": True}
    for option, given in unknown.items():
        if given:
            (other,) = set(NAMES) - {flavour}
            raise UsageError(f"{NAMES[flavour]} has no {option}: {NAMES[other]} has", hint=f"leave out {option}")
    if options.level is not None and options.level not in LEVELS:
        raise UsageError(f"the optimisation level is {LEVELS[0]} to {LEVELS[-1]}, not {options.level}")
    if options.workspace_mb is not None and options.workspace_mb < 1:
        raise UsageError(f"a workspace has at least 1 MB, not {options.workspace_mb}")


def _capabilities(builder: Builder, options: BuildOptions) -> tuple[str, ...]:
    """Those that the engine is for."""
    here = (builder.gpu_capability,) if builder.gpu_capability is not None else ()
    if builder.flavour == "tensorrt":
        return here
    wanted = options.compute_capabilities or here or builder.compute_capabilities
    for capability in wanted:
        if capability == CURRENT:
            if not here:
                raise MissingError(f"there is no GPU to build for: {builder.no_gpu}", hint="name it: --sm 8.6")
        elif capability not in builder.compute_capabilities:
            known = ", ".join(builder.compute_capabilities)
            raise MissingError(
                f"{NAMES[builder.flavour]} {builder.version} does not know GPUs of compute capability {capability}",
                hint=f"it knows {known}; for others, build with TensorRT on the device",
            )
    return tuple(dict.fromkeys(wanted))


def _shapes(profile: ProfileRecord | None, frame: InputRecord) -> Shapes | None:
    if profile is None:
        return None
    sizes = (profile.minimum, profile.optimum, profile.maximum)
    return Shapes(*((frame.batch, height, width, 3) for width, height in sizes))


def _timing_cache(builder: Builder, options: BuildOptions) -> str | None:
    if builder.flavour != "tensorrt":
        return None
    path = options.timing_cache or cache.root() / "tensorrt" / f"timing-{builder.version}.cache"
    return str(path.absolute())


class _Teller:
    """Says what the process reports in words, with the time that is left, and not too often."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._start = time.monotonic()
        self._told = -_STEP

    def __call__(self, message: Progress | Log) -> None:
        if isinstance(message, Log):
            if message.kind == "remark":
                self._tell(message.text)
            return
        if message.share < self._told + _STEP:
            return
        self._told = message.share
        text = f"{message.phase}: {message.share:.0%}"
        if _EARLY <= message.share < 1:
            left = (time.monotonic() - self._start) * (1 - message.share) / message.share
            text += f", about {max(left, 1):.0f} s left"
        self._tell(text)


def _ask(order: Order, hear: Callable[[Progress | Log], None]) -> Here | Done:
    """Have the process do it, and wait for that.

    Raises
    ------
    P3MEdgeError
        Or one of its kinds: it failed, or the process was ended.
    """
    answer: Here | Done | Failure | None = None
    logs: list[str] = []
    decoder = msgspec.json.Decoder(Message)
    with tempfile.TemporaryFile() as said, subprocess.Popen(
        PROCESS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, bufsize=0
    ) as process:  # fmt: skip
        orders, messages = process.stdin, process.stdout
        assert orders is not None
        assert messages is not None
        try:
            with suppress(OSError):  # it has ended already; its exit code says how
                orders.write(msgspec.json.encode(order) + b"\n")
            for line in messages:
                message = decoder.decode(line)
                if isinstance(message, Progress | Log):
                    if isinstance(message, Log):
                        logs.append(message.text)
                    hear(message)
                else:
                    answer = message
            code = process.wait()
        except BaseException:
            _call_off(process)
            raise
        if answer is None:
            said.seek(0)
            raise _died(order.flavour, code, said.read(), logs)
    if isinstance(answer, Failure):
        raise _ERRORS.get(answer.error, P3MEdgeError)(answer.message, hint=answer.hint)
    return answer


def _call_off(process: subprocess.Popen[bytes]) -> None:
    """Close the pipe, at which the builder stops after the step that it is at; wait for that, then insist."""
    try:
        if process.stdin is not None:
            process.stdin.close()
        process.wait(PATIENCE)
    except BaseException:  # also a second Ctrl-C
        process.kill()
        process.wait()
        raise


def _died(flavour: Flavour, code: int, told: bytes, logs: list[str]) -> P3MEdgeError:
    last = f"; its last words: {logs[-1]}" if logs else ""
    hint = "it may have needed more memory than there is" if code == -9 else None
    return P3MEdgeError(f"{NAMES[flavour]}: {ended(code, told)}{last}", hint=hint)
