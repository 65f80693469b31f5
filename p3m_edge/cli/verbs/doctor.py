"""``p3m-edge doctor``: what can be built, run and verified on this machine, and what is missing."""

from __future__ import annotations

import importlib.util
import platform
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal

from p3m_edge import __version__, shipped
from p3m_edge.benchmarks.fingerprint import Fingerprint, fingerprint
from p3m_edge.cli.probe import Package
from p3m_edge.cli.ui import Console, Part, megabytes
from p3m_edge.errors import CheckpointError
from p3m_edge.manifest import sha256
from p3m_edge.runtimes.engines import coreml
from p3m_edge.runtimes.engines.tensorrt.builder import builders, install_hint
from p3m_edge.runtimes.engines.tensorrt.library import NAMES
from p3m_edge.runtimes.engines.tensorrt.options import Builder
from p3m_edge.table import NONE, Styled, facts, table
from p3m_edge.targets import TARGETS, Target
from p3m_edge.workers.parent import Worker, WorkerError

EXAMPLES = """
p3m-edge doctor
p3m-edge doctor --json
"""
_TIMEOUT = 120.0  # seconds for one import; cold discs are slow
PACKAGES: dict[str, str | None] = {
    "numpy": None, "cv2": None, "PIL": None, "onnxruntime": "onnx", "openvino": "openvino", "torch": "torch",
    "onnx": "torch", "onnxscript": "torch", "safetensors": "torch", "skimage": "torch", "nncf": "quantize",
    "coremltools": "coreml", "coreai": "coreai", "coreai_torch": "coreai", "ai_edge_litert": "litert",
    "litert_torch": "litert-export", "litert_quantizer": "litert-export", "cuda": "tensorrt", "av": "video",
    "pillow_heif": "heif",
}  # fmt: skip
"""Import names, and the extra of this package that brings each (None: the base install)."""
_ENGINES = {"coreml": "coremltools", "litert": "ai_edge_litert", "tensorrt": "cuda"}
"""The package of an engine that is not named as the engine is."""
_APART = "litert-export"
"""The extra whose pins exclude those of the others: it is never in one line with them."""
_INT8_FEATURES = ("avx512_vnni", "avx_vnni", "amx_int8", "dotprod", "i8mm")
_STYLES = {"ok": None, "absent": "dim", "broken": "red", "damaged": "red"}
_NO_TENSORRT = "neither TensorRT nor TensorRT for RTX is here"
_ELSEWHERE = "Core ML runs on Apple's systems alone; verify interprets its programs"


@dataclass(frozen=True)
class Arguments:
    """Say for each target whether this machine can build it, run it and verify it, and why not; and whether the
    weights of this package are whole.
    Every package is tested by importing it in a process of its own, so that one that is installed but broken is
    reported with its cause. Nothing is installed or changed.
    """


@dataclass(frozen=True)
class Weights:
    """Weights of this package; ``cause`` says why they cannot be used."""

    arch: str
    status: Literal["ok", "damaged"]
    sha256: str | None = None
    licence: str | None = None
    provenance: str | None = None
    cause: str | None = None


@dataclass(frozen=True)
class Ability:
    """Whether something can be done here, and if not, why."""

    possible: bool
    reason: str | None = None


@dataclass(frozen=True)
class TargetState:
    """What this machine can do with a target; ``pip`` is the line that installs what is absent."""

    target: str
    build: Ability
    run: Ability
    verify: Ability
    pip: str | None


@dataclass(frozen=True)
class Diagnosis:
    """The whole answer. ``int8_features`` are the CPU's instructions for int8 dot products."""

    p3m_edge: str
    python: str
    machine: Fingerprint
    int8_features: tuple[str, ...]
    packages: tuple[Package, ...]
    weights: tuple[Weights, ...]
    builders: tuple[Builder, ...]
    targets: tuple[TargetState, ...]
    pip: str | None


def run(_args: Arguments, console: Console) -> None:
    """Examine this machine and print what was found; exit code 0 whatever is missing."""
    packages, engines, machine = _probe(), builders(), fingerprint()
    modules = (name for target in TARGETS.values() if not target.experimental for name in _build_modules(target))
    wanted = [name for name in modules if PACKAGES[name] != _APART]
    diagnosis = Diagnosis(
        p3m_edge=__version__,
        python=f"{platform.python_version()} ({sys.executable})",
        machine=machine,
        int8_features=tuple(name for name in _INT8_FEATURES if name in machine.features),
        packages=tuple(packages.values()),
        weights=tuple(map(_weights, shipped.SHIPPED)),
        builders=engines,
        targets=tuple(_target_state(target, packages, engines) for target in TARGETS.values()),
        pip=_pip(wanted, packages),
    )
    console.emit(diagnosis, _render(diagnosis))


def _weights(arch: str) -> Weights:
    try:
        header = shipped.read_header(arch)
    except CheckpointError as error:
        return Weights(arch, "damaged", cause=str(error))
    return Weights(arch, "ok", sha256(shipped.weights_path(arch)), header.licence, header.provenance)


def _probe() -> dict[str, Package]:
    """All packages; those that are installed are imported side by side."""
    with ExitStack() as stack:
        started: dict[str, Worker] = {}
        for name in filter(_installed, PACKAGES):
            started[name] = stack.enter_context(Worker("p3m_edge.cli.probe", timeout=_TIMEOUT))
            started[name].send("probe", name=name, extra=PACKAGES[name])
        return {name: _examined(name, extra, started.get(name)) for name, extra in PACKAGES.items()}


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):  # a broken parent package or a half-removed one
        return False


def _examined(name: str, extra: str | None, worker: Worker | None) -> Package:
    if worker is None:
        return Package(name, extra, "absent")
    try:
        return worker.receive(Package)
    except WorkerError as error:
        return Package(name, extra, "broken", cause=f"importing it fails: {error}")


def _build_modules(target: Target) -> tuple[str, ...]:
    return ("torch", *target.build_modules)


def _target_state(target: Target, packages: Mapping[str, Package], engines: Sequence[Builder]) -> TargetState:
    engine = _ENGINES.get(target.engine, target.engine)
    build = _ability(_missing(_build_modules(target), packages))
    running = verifying = _ability(_missing([engine], packages))
    if target.engine == "coreml" and not coreml.here():
        running, verifying = Ability(possible=False, reason=_ELSEWHERE), build
    if target.engine == "tensorrt":
        if build.possible and all(engine.problem for engine in engines):  # one without an engine can be made
            problems = "; ".join(str(engine.problem) for engine in engines)
            build = Ability(possible=True, reason=f"the typed ONNX alone, no engine: {problems}")
        absent = [] if any(engine.version for engine in engines) else [_NO_TENSORRT]
        no_gpu = (engine.no_gpu for engine in engines if engine.no_gpu)
        running = _ability([*_missing([engine], packages), *absent, *no_gpu])
        verifying = running if running.possible else build  # of the typed ONNX, without a GPU
    return TargetState(target.name, build, running, verifying, _pip((*_build_modules(target), engine), packages))


def _ability(reasons: Iterable[str]) -> Ability:
    text = "; ".join(dict.fromkeys(reasons))
    return Ability(possible=not text, reason=text or None)


def _missing(modules: Iterable[str], packages: Mapping[str, Package]) -> Iterator[str]:
    for package in map(packages.__getitem__, modules):
        if package.status == "absent":
            yield f"{package.name} is not installed"
        elif package.status == "broken":
            yield f"{package.name} does not import: {package.cause}"


def _pip(modules: Iterable[str], packages: Mapping[str, Package]) -> str | None:
    """The line that installs those of the modules that are absent."""
    names = ",".join(sorted({str(packages[name].extra) for name in modules if packages[name].status == "absent"}))
    return f'pip install "p3m-edge[{names}]"' if names else None


def _render(diagnosis: Diagnosis) -> Iterator[Part]:
    machine = diagnosis.machine
    cores, memory = f"usable cores: {machine.usable_cores}", f"memory: {megabytes(machine.memory_bytes)}"
    int8 = ", ".join(diagnosis.int8_features) or "none: int8 may be no faster than fp32"
    about = {
        "p3m-edge": f"{diagnosis.p3m_edge}, Python {diagnosis.python}",
        "system": f"{machine.system}, {machine.architecture}",
        "CPU": f"{machine.cpu or 'unknown'}, {cores}, {memory}",
        "CPU features": ", ".join(machine.features) or "none recognised",
        "int8 instructions": int8,
    }
    yield facts("this machine", about.items())
    yield table("packages", "package|extra|status|version|details", map(_package, diagnosis.packages))
    columns = "architecture|status|licence|SHA-256|provenance"
    yield table("weights of this package", columns, map(_weights_row, diagnosis.weights))
    columns = "builder|version|builds for|GPU|why not|to install"
    yield table("builders of TensorRT engines", columns, map(_builder, diagnosis.builders))
    columns = "target|build|run|verify|why not|to install"
    yield table("targets on this machine", columns, map(_target, diagnosis.targets))
    if diagnosis.pip:
        yield f"to build and run every available target:\n  {diagnosis.pip}"


def _package(package: Package) -> Styled:
    texts = {name: v if isinstance(v, str) else ", ".join(v) or "none" for name, v in package.details.items()}
    details = package.cause or "; ".join(f"{name.replace('_', ' ')}: {text}" for name, text in texts.items())
    cells = (package.name, package.extra or NONE, package.status, package.version or NONE, details)
    return Styled(cells, _STYLES[package.status])


def _weights_row(w: Weights) -> Styled:
    cells = (w.arch, w.status, w.licence or NONE, w.sha256 or NONE, w.cause or w.provenance or "")
    return Styled(cells, _STYLES[w.status])


def _builder(engine: Builder) -> Styled:
    here = engine.no_gpu or NONE
    if driver := engine.driver:
        gpus = ", ".join(f"{gpu.name} ({gpu.compute_capability})" for gpu in driver.gpus)
        here = f"{gpus}; driver {driver.release or 'of unknown release'}, CUDA {driver.cuda}"
    ahead = ", ".join(engine.compute_capabilities)
    builds = "nothing" if engine.problem else f"GPUs of {ahead}" if ahead else "the GPU here"
    install = "" if engine.version else install_hint(engine.flavour)
    cells = (NAMES[engine.flavour], engine.version or NONE, builds, here, engine.problem or "", install)
    return Styled(cells, "dim" if engine.problem else None)


def _target(state: TargetState) -> Styled:
    answers = ("yes" if ability.possible else "no" for ability in (state.build, state.run, state.verify))
    reasons = dict.fromkeys(ability.reason for ability in (state.build, state.run) if ability.reason)
    cells = (state.target, *answers, "; ".join(reasons), state.pip or "")
    return Styled(cells, None if state.run.possible or state.build.possible else "dim")
