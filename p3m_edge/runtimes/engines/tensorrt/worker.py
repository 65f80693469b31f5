"""The process in which TensorRT builds an engine, as the library may end it where the driver is absent or another.

TensorRT 10, TensorRT 11 and TensorRT for RTX are used alike: networks are strongly typed, by the graph alone.
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from p3m_edge.atomic import atomic_write
from p3m_edge.errors import ArtefactError, MissingError, OutputError, P3MEdgeError, UsageError
from p3m_edge.manifest import TYPED, Manifest
from p3m_edge.manifest_schema import Compatibility, Flavour
from p3m_edge.runtimes import cuda
from p3m_edge.runtimes.engines.tensorrt.library import NAMES, library, make_logger
from p3m_edge.runtimes.engines.tensorrt.options import CURRENT, Builder, BuildOptions, shapes
from p3m_edge.smallfile import read_small
from p3m_edge.targets import get
from p3m_edge.workers.child import called_off, described, serve, tell

T = TypeVar("T")

OLDEST = 10
"""The first TensorRT that takes its types from the graph in the way that is used here."""
_LINES = 3  # of the library's own, in an error
_MAX_TIMINGS = 1024**3  # bytes
_NAMED = 3  # layers, in an error
_LEVELS: dict[Compatibility, str] = {"same-cc": "SAME_COMPUTE_CAPABILITY", "ampere+": "AMPERE_PLUS"}
_PRODUCTS = frozenset({"CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY"})
_ADVICE = (
    ("plugin not found", "TensorRT has no such operator: make the graph of standard ones"),
    ("non-zero zero point", "quantise symmetrically, with zero points of 0 (--qdq s8s8)"),
    ("type int32 but must", "do not quantise biases (--qdq s8s8)"),
    ("uint8", "cast the frame to a floating-point type before anything else is done to it"),
)
"""What is in the parser's messages, and what to do about it."""


def examine(flavour: Flavour) -> Builder:
    """The version of a flavour that is here, and what it can build for; nothing is built."""
    driver, no_gpu, version, problem = None, None, None, None
    known: tuple[str, ...] = ()
    try:
        driver = cuda.driver()
    except MissingError as error:
        no_gpu = str(error)
    try:
        trt = library(flavour)
        version = str(trt.__version__)
        if flavour == "tensorrt-rtx":
            known = _known(trt)
        elif int(version.partition(".")[0]) < OLDEST:
            problem = f"TensorRT {version} is too old: {OLDEST} or newer is needed"
        elif driver is None:
            problem = f"TensorRT builds on a GPU alone: {no_gpu}"
    except MissingError as error:
        problem = str(error)
    return Builder(flavour, version, known, driver, no_gpu, problem)


def build(
    flavour: Flavour, folder: str, manifest: Manifest, options: BuildOptions, timing_cache: str | None
) -> dict[str, int]:
    """Build the engine of an artefact into its folder; returns how many layers give which type.

    ``options`` have the compute capabilities where they are not those of the GPU that is here.

    Raises
    ------
    UsageError, ArtefactError, OutputError, P3MEdgeError
        As :func:`p3m_edge.runtimes.engines.tensorrt.builder.build_into`.
    """
    return Build(flavour, Path(folder), manifest, options, Path(timing_cache) if timing_cache else None).run()


def _say(line: str) -> None:
    """Write to stderr, whose last line the parent reports if this process ends."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _known(trt: ModuleType) -> tuple[str, ...]:
    """The compute capabilities that have a name, in order: ``SM86`` is 8.6."""
    names = (re.fullmatch(r"SM(\d+)(\d)", name) for name in dir(getattr(trt, "ComputeCapability", None)))
    pairs = sorted((int(match[1]), int(match[2])) for match in names if match)
    return tuple(f"{major}.{minor}" for major, minor in pairs)


class Build:
    """One build; for parameters and errors see :func:`build`."""

    def __init__(
        self, flavour: Flavour, folder: Path, manifest: Manifest, options: BuildOptions, timing_cache: Path | None
    ) -> None:
        self._graph, self._engine = folder / TYPED, folder / manifest.model_file
        self._manifest = manifest
        self._options = options
        self._timing_cache = timing_cache
        self._trt = library(flavour)
        self._name = f"{NAMES[flavour]} {self._trt.__version__}"
        self._logger = make_logger(self._trt, _say)

    def run(self) -> dict[str, int]:
        """Parse, check the types, build, and write the engine."""
        trt = self._trt
        tell("reading the graph", 0.0)
        builder = self._given(trt.Builder(self._logger), "no builder")
        creation = getattr(trt, "NetworkDefinitionCreationFlag", None)
        typed = getattr(creation, "STRONGLY_TYPED", None)  # the only way on 11, which may do without the flag
        network = self._given(builder.create_network(0 if typed is None else 1 << int(typed)), "no network")
        self._parse(network)
        types = self._check(network)
        config = self._given(builder.create_builder_config(), "no configuration")
        self._configure(builder, network, config)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about what the library will call otherwise some day
            timings = self._read_timings(config)
            plan = builder.build_serialized_network(network, config)
        if called_off.is_set():  # and nobody may want the engine that came all the same
            raise P3MEdgeError("the build was called off")
        self._given(plan, "no engine")
        tell("writing the engine", 1.0)
        atomic_write(self._engine, memoryview(plan), durable=True)
        if timings is not None:
            self._keep_timings(config, timings)
        return types

    def _make_monitor(self) -> Any:
        trt, phases = self._trt, Phases()

        class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]  # the base is the package's, as of Log
            def __init__(self) -> None:
                trt.IProgressMonitor.__init__(self)

            def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
                phases.start(phase_name, parent_phase, num_steps)
                tell(phase_name, phases.share)

            def phase_finish(self, phase_name: str) -> None:
                phases.finish(phase_name)

            def step_complete(self, phase_name: str, step: int) -> bool:
                phases.step(phase_name, step)
                tell(phase_name, phases.share)
                return not called_off.is_set()

        return Monitor()

    def _given(self, value: T | None, otherwise: str) -> T:
        """The result of a call of the library, which is None where it failed."""
        if value is None:
            raise self._failed(f"gives {otherwise}")
        return value

    def _failed(self, what: str) -> P3MEdgeError:
        # Without a driver it complains about that too, after whatever went wrong.
        told = self._logger.told()
        reasons = [line for line in told if "catchCudaError" not in line] or told
        said = "; ".join(reasons[:_LINES]) or "it does not say why"
        hint = "allow it more with --workspace" if "workspace" in said else None
        return P3MEdgeError(f"{self._name} {what}: {said}", hint=hint)

    def _parse(self, network: Any) -> None:
        parser = self._given(self._trt.OnnxParser(network, self._logger), "no parser")
        if parser.parse_from_file(str(self._graph)):
            return
        if not parser.num_errors:
            raise self._failed("cannot read the graph")
        error = parser.get_error(0)
        operator, node = (str(getattr(error, name, str)()) for name in ("node_operator", "node_name"))
        module = node.rpartition("/")[0]
        where = f"node {error.node()}" + (f" ({operator}, {node})" if operator or node else "")
        where += f" in the module {module}" if module else ""
        said = " ".join(str(error.desc()).split())
        advice = next((advice for part, advice in _ADVICE if part in said.lower()), None)
        more = f" (and {parser.num_errors - 1} more)" if parser.num_errors > 1 else ""
        raise P3MEdgeError(f"{self._name} refuses {where}: {said}{more}", hint=advice)

    def _check(self, network: Any) -> dict[str, int]:
        """Count the layers by the type of their output, and compare the types with the target's precision."""
        names = [network.get_input(index).name for index in range(network.num_inputs)]
        wanted = self._manifest.input.name
        if names != [wanted]:
            raise ArtefactError(f"{self._graph} takes {', '.join(names)}, and the manifest says {wanted}")
        layers = [network.get_layer(index) for index in range(network.num_layers)]
        given = [(layer, layer.get_output(0)) for layer in layers]
        types = Counter(tensor.dtype.name for _, tensor in given if tensor is not None)
        precision = get(self._manifest.target).precision
        if precision == "fp16":
            self._check_half(
                {
                    layer.name: tensor.dtype.name
                    for layer, tensor in given
                    if tensor is not None and layer.type.name in _PRODUCTS
                }
            )
        if precision == "int8" and not types["INT8"]:
            raise P3MEdgeError(
                f"no layer gives INT8 among {sum(types.values())}: the engine would be silently FP32",
                hint="the typed ONNX has no QuantizeLinear: export the artefact again",
            )
        return dict(sorted(types.items()))

    def _check_half(self, products: dict[str, str]) -> None:
        """Refuse convolutions and products that are not in half precision, but for those that are to be in single."""
        others = [name for name, found in products.items() if found != "HALF"]
        half = len(products) - len(others)
        wrong = [name for name in others if not name.startswith(self._manifest.fp32_nodes)]
        if wrong or (products and not half):
            named = ", ".join((wrong or list(products))[:_NAMED])
            raise P3MEdgeError(
                f"{half} of {len(products)} convolutions and products give HALF, and {named} should: "
                "the engine would be silently FP32",
                hint="export the artefact again",
            )

    def _configure(self, builder: Any, network: Any, config: Any) -> None:
        trt, options = self._trt, self._options
        if hasattr(trt, "IProgressMonitor"):
            config.progress_monitor = self._make_monitor()
        if options.level is not None:
            config.builder_optimization_level = options.level
        if options.workspace_mb is not None:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mb << 20)
        if options.version_compatible:
            config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
        if options.hardware_compatibility != "none":
            level = getattr(trt.HardwareCompatibilityLevel, _LEVELS[options.hardware_compatibility], None)
            if level is None:
                raise UsageError(f"{self._name} cannot build for {options.hardware_compatibility}", hint="--hw-compat")
            config.hardware_compatibility_level = level
        if options.compute_capabilities:
            config.num_compute_capabilities = len(options.compute_capabilities)
            for index, capability in enumerate(options.compute_capabilities):
                name = "CURRENT" if capability == CURRENT else f"SM{capability.replace('.', '')}"
                config.set_compute_capability(getattr(trt.ComputeCapability, name), index)
        if options.profile is not None:
            profile = self._given(builder.create_optimization_profile(), "no profile")
            profile.set_shape(self._manifest.input.name, *shapes(options.profile, self._manifest.input))
            if config.add_optimization_profile(profile) < 0:
                raise self._failed("refuses the profile")

    def _read_timings(self, config: Any) -> Any:
        """Attach the timings of earlier builds; None: none are kept."""
        path = self._timing_cache
        if path is None:
            return None
        try:
            kept = read_small(path, _MAX_TIMINGS) if path.exists() else b""
        except OSError as error:
            tell(f"the timing cache {path} cannot be read: {error.strerror}")
            kept = b""
        for data in (kept, b""):  # that of another version or GPU does not fit
            timings = config.create_timing_cache(data)
            if timings is not None and config.set_timing_cache(timings, False):
                return timings
        tell("the timing cache cannot be used")
        return None

    def _keep_timings(self, config: Any, timings: Any) -> None:
        """Write the timings for the next build, combined with those of a build that ran meanwhile."""
        path = self._timing_cache
        assert path is not None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                other = config.create_timing_cache(read_small(path, _MAX_TIMINGS))
                if other is not None:
                    timings.combine(other, False)
            data = timings.serialize()
            if data is not None:
                atomic_write(path, memoryview(data), durable=True)
        except (OSError, OutputError) as error:
            tell(f"the timing cache {path} is not kept: {described(error)}")


@dataclass
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


class Phases:
    """The library's progress as one share of the whole; a phase may have others within its steps."""

    def __init__(self) -> None:
        self._running: dict[str, _Phase] = {}
        self._most = 0.0

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        """A phase begins, within a step of its parent."""
        self._running[phase] = _Phase(parent, max(steps, 1))

    def step(self, phase: str, step: int) -> None:
        """A step of it (0, 1, ...) is done."""
        self._running[phase].done = step + 1

    def finish(self, phase: str) -> None:
        """It is over."""
        self._running.pop(phase, None)

    @property
    def share(self) -> float:
        """How much of the outermost phase is done, 0..1; it never falls, as phases end before the step they are in."""
        self._most = max(self._most, *self._within(None), 0.0)
        return self._most

    def _within(self, parent: str | None) -> list[float]:
        """The shares of the phases within another one."""
        return [
            min((phase.done + sum(self._within(name))) / phase.steps, 1.0)
            for name, phase in self._running.items()
            if phase.parent == parent
        ]


if __name__ == "__main__":
    try:
        serve({"examine": examine, "build": build})
    finally:
        os._exit(0)  # the library does not bear that Python winds up under it
