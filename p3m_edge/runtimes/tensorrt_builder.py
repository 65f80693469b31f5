"""TensorRT engines, built of the typed ONNX in an artefact, by whichever builder is here; without PyTorch.

The builder is a process of its own (:mod:`p3m_edge.runtimes.tensorrt_process`).
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from p3m_edge.errors import ArtefactError, MissingError, OutputError, P3MEdgeError, UsageError, ended
from p3m_edge.manifest import TYPED, Manifest, record_files
from p3m_edge.records import BuildRecord, Flavour
from p3m_edge.runtimes import cache
from p3m_edge.runtimes.cuda import Driver, Gpu
from p3m_edge.runtimes.process import python
from p3m_edge.runtimes.tensorrt_fit import NAMES, system
from p3m_edge.runtimes.tensorrt_messages import CURRENT, PATIENCE, Done, Failure, Here, Log, Message, Order, Progress
from p3m_edge.runtimes.tensorrt_options import BuildOptions, check_options, check_profile, commands, shapes
from p3m_edge.targets import get

PROCESS = "p3m_edge.runtimes.tensorrt_process"
EXTRA = "tensorrt-rtx"
_JETSON = Path("/etc/nv_tegra_release")
_ERRORS = {kind.__name__: kind for kind in (ArtefactError, MissingError, OutputError, UsageError)}
_STEP = 0.05
"""Progress is told each time that this share more is done."""
_EARLY = 0.05
"""Before that share is done, it is not said how long the rest takes."""

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Builder:
    """A builder of engines, and what it can do on this machine.

    Attributes
    ----------
    flavour, version
        Which one; ``version`` is None where it cannot be imported.
    compute_capabilities
        Of the GPUs that it builds for ahead of time, without one; TensorRT builds for the GPU that is here.
    driver
        NVIDIA's driver, and the GPUs that are here.
    no_gpu
        Why there are none.
    problem
        Why it cannot build; None: it can.
    """

    flavour: Flavour
    version: str | None = None
    compute_capabilities: tuple[str, ...] = ()
    driver: Driver | None = None
    no_gpu: str | None = None
    problem: str | None = None

    @property
    def gpu(self) -> Gpu | None:
        """The GPU that it builds for if nothing else is said, the first."""
        return self.driver.gpus[0] if self.driver else None


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
    return Builder(flavour, here.version, here.compute_capabilities, here.driver, here.no_gpu, here.problem)


def install_hint(flavour: Flavour | None = None) -> str:
    """How a builder comes onto this machine; None: the one that is meant for it."""
    if _JETSON.exists() and flavour != "tensorrt-rtx":
        return (
            "on a Jetson, TensorRT is the system's: sudo apt install python3-libnvinfer, "
            "and a virtual environment with --system-site-packages"
        )
    return "pip install tensorrt" if flavour == "tensorrt" else f'pip install "p3m-edge[{EXTRA}]"'


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
        shapes=shapes(options.profile, manifest.input),
        compute_capabilities=capabilities if builder.compute_capabilities else (),
        hardware_compatibility=options.hardware_compatibility, version_compatible=options.version_compatible,
        level=options.level, workspace_mb=options.workspace_mb, timing_cache=_timing_cache(builder, options, tell),
    )  # fmt: skip
    start = time.monotonic()
    done = _ask(order, _Teller(tell))
    assert isinstance(done, Done)
    seconds = time.monotonic() - start
    files = record_files(folder)
    gpu, driver = builder.gpu, builder.driver
    known = tuple(gpu.compute_capability if gpu and each == CURRENT else each for each in capabilities)
    record = BuildRecord(
        flavour=builder.flavour, version=builder.version, compute_capabilities=known, gpu=gpu.name if gpu else None,
        driver=driver.release if driver else None, cuda=driver.cuda if driver else None, system=system(),
        onnx_sha256=files[TYPED].sha256, profile=options.profile,
        hardware_compatibility=options.hardware_compatibility,
        version_compatible=options.version_compatible, level=options.level, workspace_mb=options.workspace_mb,
        types=done.types, seconds=round(seconds, 3),
    )  # fmt: skip
    engine = replace(
        manifest.engine, status="built", reason=None, minimum_version=builder.version, build=record,
        versions={**manifest.engine.versions, builder.flavour: builder.version},
    )  # fmt: skip
    built = replace(manifest, engine=engine, files=files)
    return replace(built, engine=replace(engine, commands=commands(built, options)))


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
    problems = []
    for flavour in (wanted,) if wanted else NAMES:
        builder = _examine(flavour)
        if builder.problem is None:
            check_options(flavour, options)
            return builder
        problems.append(builder.problem)
    raise MissingError(f"nothing here can build the engine: {'; '.join(problems)}", hint=install_hint(wanted))


def _capabilities(builder: Builder, options: BuildOptions) -> tuple[str, ...]:
    """Those that the engine is for."""
    here = (builder.gpu.compute_capability,) if builder.gpu else ()
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


def _timing_cache(builder: Builder, options: BuildOptions, tell: Tell) -> str | None:
    if builder.flavour != "tensorrt":
        return None
    if options.timing_cache is not None:
        return str(cache.root(options.timing_cache))
    try:
        return str(cache.root() / "tensorrt" / f"timing-{builder.version}.cache")
    except OutputError as error:
        tell(f"the timing cache is not kept: {error}")
        return None


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
    with tempfile.TemporaryFile() as said, python(PROCESS, said) as process:
        orders, messages = process.stdin, process.stdout
        assert orders is not None
        assert messages is not None
        try:
            with suppress(OSError):  # it has ended already; its exit code says how
                orders.write(msgspec.json.encode(order) + b"\n")
                orders.flush()
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
    assert process.stdin is not None
    try:
        with suppress(OSError):
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
