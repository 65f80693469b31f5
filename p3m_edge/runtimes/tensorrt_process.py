"""The process in which TensorRT builds an engine: ``python -m p3m_edge.runtimes.tensorrt_process``.

A library without its driver, or with another's, may end the process that uses it; so that process is not ours. It
reads an :class:`Order` from stdin and answers with messages on stdout, one JSON document a line. It ends when stdin is
closed.

TensorRT 10, TensorRT 11 and TensorRT for RTX are used in the same way: what the graph says about types is all that is
said about them, and the network is strongly typed.
"""

from __future__ import annotations

import importlib
import os
import re
import signal
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn, TypeVar

import msgspec

from p3m_edge.atomic import atomic_write
from p3m_edge.errors import ArtefactError, MissingError, OutputError, P3MEdgeError, UsageError
from p3m_edge.records import Compatibility, Flavour
from p3m_edge.runtimes import cuda
from p3m_edge.runtimes.tensorrt_fit import MODULES, NAMES
from p3m_edge.runtimes.tensorrt_messages import CURRENT, PATIENCE, Done, Failure, Here, Log, Message, Order, Progress
from p3m_edge.runtimes.tensorrt_phases import Phases
from p3m_edge.smallfile import read_small

T = TypeVar("T")
Send = Callable[[Message], None]

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


def examine(flavour: Flavour) -> Here:
    """Say which version of a flavour is here, what it can build for, and on which GPU; nothing is built."""
    driver, no_gpu = None, None
    try:
        driver = cuda.driver()
    except MissingError as error:
        no_gpu = str(error)
    try:
        trt = _load(flavour)
    except MissingError as error:
        return Here(driver=driver, no_gpu=no_gpu, problem=str(error))
    version = str(trt.__version__)
    problem = None
    if flavour == "tensorrt" and int(version.partition(".")[0]) < OLDEST:
        problem = f"TensorRT {version} is too old: {OLDEST} or newer is needed"
    elif flavour == "tensorrt" and driver is None:
        problem = f"TensorRT builds on a GPU alone: {no_gpu}"
    return Here(version, _known(trt) if flavour == "tensorrt-rtx" else (), driver, no_gpu, problem)


def _load(flavour: Flavour) -> ModuleType:
    for name in MODULES[flavour]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise MissingError(f"{NAMES[flavour]} cannot be imported: {_line(error)}") from error
        except Exception as error:
            raise MissingError(f"{NAMES[flavour]} cannot be imported: {_line(error)}") from error
    raise MissingError(f"{NAMES[flavour]} is not installed")


def _known(trt: ModuleType) -> tuple[str, ...]:
    """The compute capabilities that have a name, in order: ``SM86`` is 8.6."""
    names = (re.fullmatch(r"SM(\d+)(\d)", name) for name in dir(getattr(trt, "ComputeCapability", None)))
    pairs = sorted((int(match[1]), int(match[2])) for match in names if match)
    return tuple(f"{major}.{minor}" for major, minor in pairs)


class Build:
    """One build: the library, what it says, and whether it is called off.

    Parameters
    ----------
    order
        What to build.
    send
        Takes the messages.
    """

    def __init__(self, order: Order, send: Send) -> None:
        self.cancelled = threading.Event()
        self._order = order
        self._send = send
        self._trt = _load(order.flavour)
        self._errors: list[str] = []
        self._logger = self._make_logger()

    def run(self) -> Done:
        """Parse, check the types, build, and write the engine.

        Raises
        ------
        UsageError, ArtefactError, OutputError, P3MEdgeError
            As :func:`p3m_edge.runtimes.tensorrt_builder.build_into`.
        """
        trt, order = self._trt, self._order
        self._send(Progress("reading the graph", 0.0))
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
            cache = self._timing(config)
            plan = builder.build_serialized_network(network, config)
        if self.cancelled.is_set():  # and nobody may want the engine that came all the same
            raise P3MEdgeError("the build was called off")
        self._given(plan, "no engine")
        self._send(Progress("writing the engine", 1.0))
        atomic_write(order.engine, memoryview(plan), durable=True)
        if cache is not None:
            self._keep_timing(config, cache)
        return Done(types)

    def _make_logger(self) -> Any:
        trt, errors, send = self._trt, self._errors, self._send

        class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if severity > trt.ILogger.WARNING:
                    return
                line = " ".join(message.split())
                if severity <= trt.ILogger.ERROR:
                    errors.append(line)
                send(Log("library", line))

        return Logger()

    def _make_monitor(self) -> Any:
        trt, send, cancelled = self._trt, self._send, self.cancelled
        phases = Phases()

        class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                trt.IProgressMonitor.__init__(self)

            def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
                phases.start(phase_name, parent_phase, num_steps)
                send(Progress(phase_name, phases.share))

            def phase_finish(self, phase_name: str) -> None:
                phases.finish(phase_name)

            def step_complete(self, phase_name: str, step: int) -> bool:
                phases.step(phase_name, step)
                send(Progress(phase_name, phases.share))
                return not cancelled.is_set()

        return Monitor()

    def _given(self, value: T | None, otherwise: str) -> T:
        """What a call of the library gave, which is None where it failed."""
        if value is None:
            raise self._failed(f"gives {otherwise}")
        return value

    def _failed(self, what: str) -> P3MEdgeError:
        # Without a driver it complains about that too, after whatever went wrong.
        reasons = [line for line in self._errors if "catchCudaError" not in line] or self._errors
        said = "; ".join(dict.fromkeys(reasons[:_LINES])) or "it does not say why"
        hint = "allow it more with --workspace" if "workspace" in said else None
        return P3MEdgeError(f"{NAMES[self._order.flavour]} {self._trt.__version__} {what}: {said}", hint=hint)

    def _parse(self, network: Any) -> None:
        parser = self._given(self._trt.OnnxParser(network, self._logger), "no parser")
        if parser.parse_from_file(self._order.onnx):
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
        name = f"{NAMES[self._order.flavour]} {self._trt.__version__}"
        raise P3MEdgeError(f"{name} refuses {where}: {said}{more}", hint=advice)

    def _check(self, network: Any) -> dict[str, int]:
        """Count the types of what the layers give, and compare them with what was ordered."""
        order = self._order
        names = [network.get_input(index).name for index in range(network.num_inputs)]
        if names != [order.input]:
            raise ArtefactError(f"{order.onnx} takes {', '.join(names)}, and the manifest says {order.input}")
        types: Counter[str] = Counter()
        products: dict[str, str] = {}
        for index in range(network.num_layers):
            layer = network.get_layer(index)
            tensor = layer.get_output(0)
            if tensor is None:
                continue
            types[tensor.dtype.name] += 1
            if layer.type.name in _PRODUCTS:
                products[layer.name] = tensor.dtype.name
        if order.precision == "fp16":
            self._check_half(products)
        if order.precision == "int8" and not types["INT8"]:
            raise P3MEdgeError(
                f"no layer gives INT8 among {sum(types.values())}: the engine would be silently FP32",
                hint="the typed ONNX has no QuantizeLinear: export the artefact again",
            )
        return dict(sorted(types.items()))

    def _check_half(self, products: dict[str, str]) -> None:
        half = [name for name, found in products.items() if found == "HALF"]
        others = [
            name for name, found in products.items() if found != "HALF" and not name.startswith(self._order.fp32_nodes)
        ]
        if others or (products and not half):
            named = ", ".join((others or list(products))[:_NAMED])
            raise P3MEdgeError(
                f"{len(half)} of {len(products)} convolutions and products give HALF, and {named} should: "
                "the engine would be silently FP32",
                hint="export the artefact again",
            )

    def _configure(self, builder: Any, network: Any, config: Any) -> None:
        trt, order = self._trt, self._order
        if hasattr(trt, "IProgressMonitor"):
            config.progress_monitor = self._make_monitor()
        if order.level is not None:
            config.builder_optimization_level = order.level
        if order.workspace_mb is not None:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, order.workspace_mb << 20)
        if order.version_compatible:
            config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
        if order.hardware_compatibility != "none":
            level = getattr(trt.HardwareCompatibilityLevel, _LEVELS[order.hardware_compatibility], None)
            if level is None:
                raise UsageError(
                    f"TensorRT {trt.__version__} cannot build for {order.hardware_compatibility}", hint="--hw-compat"
                )
            config.hardware_compatibility_level = level
        if order.compute_capabilities:
            config.num_compute_capabilities = len(order.compute_capabilities)
            for index, capability in enumerate(order.compute_capabilities):
                name = "CURRENT" if capability == CURRENT else f"SM{capability.replace('.', '')}"
                config.set_compute_capability(getattr(trt.ComputeCapability, name), index)
        if order.shapes is not None:
            profile = self._given(builder.create_optimization_profile(), "no profile")
            shapes = order.shapes
            profile.set_shape(order.input, shapes.minimum, shapes.optimum, shapes.maximum)
            if config.add_optimization_profile(profile) < 0:
                raise self._failed("refuses the profile")

    def _timing(self, config: Any) -> Any:
        """Attach what earlier builds have measured; None: nothing is kept."""
        if self._order.timing_cache is None:
            return None
        path = Path(self._order.timing_cache)
        try:
            kept = read_small(path, _MAX_TIMINGS) if path.exists() else b""
        except OSError as error:
            self._send(Log("remark", f"the timing cache {path} cannot be read: {error.strerror}"))
            kept = b""
        for data in (kept, b""):  # that of another version or GPU does not fit
            cache = config.create_timing_cache(data)
            if cache is not None and config.set_timing_cache(cache, False):
                return cache
        self._send(Log("remark", "the timing cache cannot be used"))
        return None

    def _keep_timing(self, config: Any, cache: Any) -> None:
        """Write it for the next build, with what another one has written in the meantime."""
        path = Path(str(self._order.timing_cache))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                other = config.create_timing_cache(read_small(path, _MAX_TIMINGS))
                if other is not None:
                    cache.combine(other, False)
            data = cache.serialize()
            if data is not None:
                atomic_write(path, memoryview(data), durable=True)
        except (OSError, OutputError) as error:
            self._send(Log("remark", f"the timing cache {path} is not kept: {_line(error)}"))


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _watch(build: Build) -> None:
    """Call the build off when the parent closes the pipe, or is no more; then insist."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    build.cancelled.set()
    threading.Event().wait(PATIENCE)
    os._exit(1)


def serve(send: Send) -> None:
    """Do what the first line of stdin orders."""
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=Order)
    if not order.onnx:
        send(examine(order.flavour))
        return
    try:
        build = Build(order, send)
        threading.Thread(target=_watch, args=(build,), daemon=True).start()
        send(build.run())
    except P3MEdgeError as error:
        send(Failure(type(error).__name__, str(error), error.hint))
    except Exception as error:  # noqa: BLE001 - whatever the library raises
        send(Failure(P3MEdgeError.__name__, f"{NAMES[order.flavour]} fails: {_line(error)}", None))


def main() -> NoReturn:
    """Serve one order; the exit code says nothing but that the process came to its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing but messages may reach the parent
    lock = threading.Lock()
    encoder = msgspec.json.Encoder()

    def send(message: Message) -> None:
        with lock, suppress(BrokenPipeError):  # the parent is no more; the library's callbacks must not raise
            answers.write(encoder.encode(message) + b"\n")
            answers.flush()

    try:
        serve(send)
    finally:
        os._exit(0)  # the library does not bear that Python winds up under it


if __name__ == "__main__":
    main()
