"""Build TensorRT engines from an artefact's typed ONNX, without PyTorch.

The library runs in a process of its own (:mod:`p3m_edge.runtimes.engines.tensorrt.worker`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from p3m_edge.errors import ArtefactError, MissingError, OutputError, P3MEdgeError
from p3m_edge.manifest import TYPED, Manifest, record_files
from p3m_edge.manifest_schema import BuildRecord, Flavour
from p3m_edge.runtimes import cache
from p3m_edge.runtimes.engines.tensorrt.compatibility import system
from p3m_edge.runtimes.engines.tensorrt.library import NAMES
from p3m_edge.runtimes.engines.tensorrt.options import (
    CURRENT,
    Builder,
    BuildOptions,
    check_options,
    check_profile,
    commands,
)
from p3m_edge.workers.messages import PATIENCE, Progress
from p3m_edge.workers.parent import Worker, WorkerError

WORKER = "p3m_edge.runtimes.engines.tensorrt.worker"
EXTRA = "tensorrt-rtx"
_JETSON = Path("/etc/nv_tegra_release")
_STEP = 0.05
"""Progress is told each time that this share more is done; before the first, it is not said how long the rest takes."""

Tell = Callable[[str], None]
_T = TypeVar("_T")


def builders() -> tuple[Builder, ...]:
    """The builders of this machine, TensorRT first; one that is broken or crashes has a ``problem``."""
    return tuple(map(_examine, NAMES))


def _examine(flavour: Flavour) -> Builder:
    try:
        return _ask(flavour, Builder, "examine")
    except P3MEdgeError as error:
        return Builder(flavour, problem=str(error))


def install_hint(flavour: Flavour | None = None) -> str:
    """How to install a builder; None: the one that is meant for this machine."""
    if _JETSON.exists() and flavour != "tensorrt-rtx":
        return (
            "on a Jetson, TensorRT is the system's: sudo apt install python3-libnvinfer, "
            "and a virtual environment with --system-site-packages"
        )
    return "pip install tensorrt" if flavour == "tensorrt" else f'pip install "p3m-edge[{EXTRA}]"'


def build_into(manifest: Manifest, folder: Path, options: BuildOptions, tell: Tell = lambda text: None) -> Manifest:
    """Build the engine of an artefact into its folder; ``tell`` hears of the progress.

    Returns
    -------
    manifest
        With the engine and all files as they are now; the one in the folder is not touched.

    Raises
    ------
    MissingError
        No builder is here that could do it, or it does not know the GPU.
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
    exact = replace(
        options, timing_cache=None,
        compute_capabilities=capabilities if builder.compute_capabilities else (),
    )  # fmt: skip
    start = time.monotonic()
    types = _ask(
        builder.flavour, dict[str, int], "build", _Teller(tell), folder=str(folder.absolute()), manifest=manifest,
        options=exact, timing_cache=_timing_cache(builder, options, tell),
    )  # fmt: skip
    seconds = time.monotonic() - start
    files = record_files(folder)
    gpu, driver = builder.gpu, builder.driver
    record = BuildRecord(
        flavour=builder.flavour, version=builder.version, gpu=gpu.name if gpu else None,
        compute_capabilities=tuple(gpu.compute_capability if gpu and e == CURRENT else e for e in capabilities),
        driver=driver.release if driver else None, cuda=driver.cuda if driver else None, system=system(),
        onnx_sha256=files[TYPED].sha256, profile=options.profile,
        hardware_compatibility=options.hardware_compatibility, version_compatible=options.version_compatible,
        level=options.level, workspace_mb=options.workspace_mb, types=types, seconds=round(seconds, 3),
    )  # fmt: skip
    engine = replace(
        manifest.engine, status="built", reason=None, minimum_version=builder.version, build=record,
        versions={**manifest.engine.versions, builder.flavour: builder.version},
    )  # fmt: skip
    built = replace(manifest, engine=engine, files=files)
    return replace(built, engine=replace(engine, commands=commands(built, options)))


def choose(options: BuildOptions) -> Builder:
    """The builder that the options name, or the first that works.

    ``MissingError`` says what is wrong with each; ``UsageError``: it lacks an option that is asked for.
    """
    wanted: Flavour | None = options.flavour or ("tensorrt-rtx" if options.compute_capabilities else None)
    problems = []
    for flavour in (wanted,) if wanted else NAMES:
        builder = _examine(flavour)
        if builder.problem is None:
            check_options(flavour, options)
            return builder
        problems.append(builder.problem)
    raise MissingError(f"nothing here can build the engine: {'; '.join(problems)}", hint=install_hint(wanted))


def _capabilities(builder: Builder, options: BuildOptions) -> tuple[str, ...]:
    """The compute capabilities that the engine is for."""
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
    """Puts the progress into words, with an estimate of the time left, and not too often."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._start = time.monotonic()
        self._told = -_STEP

    def __call__(self, progress: Progress) -> None:
        text, share = progress.text, progress.share
        if share is not None:
            if share < self._told + _STEP:
                return
            self._told = share
            text += f": {share:.0%}"
            if _STEP <= share < 1:
                left = (time.monotonic() - self._start) * (1 - share) / share
                text += f", about {max(left, 1):.0f} s left"
        self._tell(text)


def _ask(
    flavour: Flavour,
    kind: type[_T],
    operation: str,
    hear: Callable[[Progress], None] = lambda progress: None,
    **arguments: object,
) -> _T:
    """Run an operation in the process; interrupted, it stops after its current step and leaves nothing half made."""
    with Worker(WORKER, patience=PATIENCE) as worker:
        worker.send(operation, flavour=flavour, **arguments)
        try:
            return worker.receive(kind, hear)
        except WorkerError as error:
            original = error.original()
            if original is error:
                original = P3MEdgeError(f"{NAMES[flavour]}: {error}", hint=error.hint)
            raise original from error
