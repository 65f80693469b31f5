"""The contract between :class:`p3m_edge.runtimes.Matting` and the engines that run a model file.

An engine is a module named in :data:`ENGINES`, with the functions of :class:`EngineModule`. All that engines have in
common is done by :class:`p3m_edge.runtimes.engine.Engine`.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Literal, Protocol, cast, get_args

import numpy as np
from numpy.typing import NDArray

from p3m_edge import arguments
from p3m_edge.atomic import check_name
from p3m_edge.errors import ArtefactError, UsageError, missing_package, one_of, suggestion
from p3m_edge.manifest import Manifest
from p3m_edge.targets import EngineName
from p3m_edge.telemetry import silence_engines

Hint = Literal["latency", "throughput"]
Images = NDArray[np.uint8]
Outputs = dict[str, NDArray[np.float32]]
Runner = Callable[[Images, tuple[str, ...]], Outputs]

ALPHA = ("alpha",)
_DTYPES = {
    **dict.fromkeys(("tensor(uint8)", "u8", "UINT8"), "uint8"),
    **dict.fromkeys(("tensor(float)", "f32", "FLOAT"), "float32"),
}
"""What ONNX Runtime, OpenVINO and TensorRT call them, by NumPy's names."""


@dataclass(frozen=True)
class EngineOptions:
    """How to open an engine.

    Attributes
    ----------
    device
        What shall do the work, in the engine's own terms without regard to case: ``cpu``, ``cuda``, ``cuda:1``,
        ``tensorrt``, ``dml``, ``coreml``, ... (ONNX Runtime); ``CPU``, ``GPU``, ``GPU.1``, ``NPU`` (OpenVINO);
        ``cuda``, ``cuda:1`` (TensorRT). None: the processor, and for TensorRT the first GPU. What is asked for is
        obtained, or opening fails.
    threads
        Threads for one inference on the processor; None: the engine decides, or a processor quota that is below the
        number of cores (:func:`p3m_edge.resources.thread_limit`).
    hint
        ``latency``: one frame as soon as possible. ``throughput``: as many frames a second as possible, with
        several requests at work side by side.
    cache
        Keep compiled models, so that the next start is faster (engines that gain nothing by it keep none).
    cache_dir
        Where; None: ``P3M_EDGE_CACHE`` or the user's cache folder (:func:`p3m_edge.runtimes.cache.root`).
    sequence
        The images are frames in a row: a model file with a state (``smoothing`` in the manifest) keeps it from one to
        the next, until :meth:`p3m_edge.runtimes.engine.Engine.reset`. Else, and without a state, each is by itself.

    A value that is impossible or of another type is a ``UsageError``.
    """

    device: str | None = None
    threads: int | None = None
    hint: Hint = "latency"
    cache: bool = True
    cache_dir: Path | None = None
    sequence: bool = False

    def __post_init__(self) -> None:
        arguments.check_device(self.device)
        object.__setattr__(self, "threads", arguments.threads(self.threads))
        one_of("hint", self.hint, get_args(Hint))
        for name in ("cache", "sequence"):
            object.__setattr__(self, name, arguments.switch(name, getattr(self, name)))
        if self.cache_dir is not None:
            path = arguments.path("cache_dir", self.cache_dir)
            object.__setattr__(self, "cache_dir", check_name(path, UsageError))


@dataclass(frozen=True)
class EngineInfo:
    """What is really at work.

    Attributes
    ----------
    name, version
        The engine and its own version.
    device, device_name
        The device or provider used, as the engine calls it, and its description.
    precision
        The precision of the arithmetic that the engine was told to use: ``f32`` or ``f16``; ``graph``: that of
        the model file, tensor by tensor.
    hint
        As asked for.
    threads
        Threads for one inference; None: the engine's own choice, which it does not tell.
    requests
        How many inferences run side by side at most; more wait their turn.
    cache
        ``hit``: loaded from the cache; ``miss``: compiled, and now in the cache; ``off``: not wanted or not
        possible; ``none``: this engine or device keeps no cache.
    placement
        Nodes of the graph by the provider that runs them, where the engine tells.
    device_memory
        Bytes of the GPU's own memory for tensors and computing, without the weights; None: the engine does not tell.
    """

    name: str
    version: str
    device: str
    device_name: str
    precision: Literal["f32", "f16", "graph"] = "graph"
    hint: Hint = "latency"
    threads: int | None = None
    requests: int = 1
    cache: Literal["hit", "miss", "off", "none"] = "none"
    placement: dict[str, int] = field(default_factory=dict)
    device_memory: int | None = None


@dataclass(frozen=True)
class Phases:
    """One inference on a GPU with all its outputs, in milliseconds, as trtexec has them.

    ``enqueue`` is the host's time to order the computing; ``h2d``, ``compute`` and ``d2h`` are the GPU's, by events:
    input to the GPU, kernels, outputs to the host.
    """

    enqueue: float
    h2d: float
    compute: float
    d2h: float


@dataclass(frozen=True)
class Loaded:
    """A model that is ready to run: one runner for each inference that may be at work at the same time.

    A model with a state has one runner, and ``reset`` empties the state. ``timed`` is an inference that is measured in
    the GPU's stream, where the engine has one; no runner may be at work beside it.
    """

    info: EngineInfo
    runners: tuple[Runner, ...]
    reset: Callable[[], None] = lambda: None
    timed: Callable[[Images], Phases] | None = None


class EngineModule(Protocol):
    """The functions of an engine's module."""

    def require(self) -> ModuleType:
        """Import the engine's package; :class:`~p3m_edge.errors.MissingError` names the extra to install."""

    def load(self, manifest: Manifest, model: Path, options: EngineOptions) -> Loaded:
        """Load the model file; each of the runners is used by one thread at a time."""


ENGINES: dict[str, str] = {name: f"p3m_edge.runtimes.engines.{name}" for name in get_args(EngineName)}
"""The module of each engine."""


def engine_module(name: str) -> EngineModule:
    """The module of an engine; its package is not imported yet.

    Raises
    ------
    ArtefactError
        Nobody knows an engine of that name.
    """
    if name in ENGINES:
        return cast(EngineModule, importlib.import_module(ENGINES[name]))
    raise ArtefactError(f"the artefact asks for an unknown engine {name!r}", hint=suggestion(name, ENGINES))


def import_package(module: str, extra: str, needed: str = "__name__", *, name: str = "") -> ModuleType:
    """The package of an engine, without its telemetry; ``extra`` brings it, and errors call it by ``name``.

    Raises
    ------
    MissingError
        It cannot be imported, or lacks the attribute that is ``needed``.
    """
    silence_engines()
    try:
        package = importlib.import_module(module)
    except (ImportError, OSError) as error:
        raise missing_package(name or module, extra, error) from error
    if not hasattr(package, needed):  # two flavours in one environment, one removed: an empty shell is left behind
        raise missing_package(name or module, extra, ImportError("the installation is incomplete"))
    return package


def parse_device(
    asked: str | None, engine: str, known: Sequence[str], numbered: Collection[str] = (), mark: str = ":"
) -> tuple[str, str]:
    """A device as the engine spells it, and its number in digits, if one was given: ``cuda:1``, ``GPU.1``.

    ``known`` are the names without regard to case, the default first; those that are ``numbered`` may have a number
    behind the ``mark``. Everything else is a ``UsageError``.
    """
    name, marked, number = (asked or known[0]).partition(mark)
    device = {each.lower(): each for each in known}.get(name.lower())
    if device is None:
        hint = suggestion(name, known)
    elif marked and not (device in numbered and number.isascii() and number.isdecimal()):
        hint = f"with a number: {', '.join(f'{each}{mark}0' for each in numbered) or 'none'}"
    else:
        return device, number
    raise UsageError(f"unknown device {asked!r} for {engine}", hint=hint)


def check_version(manifest: Manifest, version: str, package: str | None = None) -> None:
    """Raise ``ArtefactError`` for an engine that is older than the artefact allows.

    ``package`` is what pip calls it, if that is not the engine's name.
    """
    minimum = manifest.engine.minimum_version
    if release(version) < release(minimum):
        raise ArtefactError(
            f"the artefact needs {manifest.engine.name} {minimum} or newer; {version} is installed",
            hint=f'pip install "{package or manifest.engine.name}>={minimum}"',
        )


def check_signature(
    manifest: Manifest, model: Path, inputs: Mapping[str, tuple[str, Iterable[object]]], outputs: Mapping[str, str]
) -> None:
    """Raise ``ArtefactError`` unless a model's inputs and outputs are those of its manifest.

    ``inputs`` and ``outputs`` have the dtypes by name, as the engine calls them; of inputs also the shape, in which an
    open side is no number or -1.
    """
    record = manifest.input
    found = {
        name: f"{_DTYPES.get(dtype, dtype)} {[side if isinstance(side, int) and side >= 0 else None for side in shape]}"
        for name, (dtype, shape) in inputs.items()
    }
    expected = {record.name: f"uint8 {[record.batch, record.height, record.width, 3]}"}
    if found != expected:
        told, wanted = (", ".join(f"{name}: {text}" for name, text in each.items()) for each in (found, expected))
        raise mismatch(model, f"its inputs are {told}; expected {wanted}")
    for output in manifest.outputs:
        kind = outputs.get(output.name, "missing")
        if _DTYPES.get(kind, kind) != "float32":
            raise mismatch(model, f"its output {output.name} is {kind}")


def mismatch(model: Path, what: str) -> ArtefactError:
    """The error for a model file that is not the one its manifest describes."""
    return ArtefactError(f"{model} does not match its manifest: {what}", hint="export the artefact again")


def unreadable(model: Path, engine: str, cause: Exception) -> ArtefactError:
    """The error for a model file that the engine cannot load."""
    reason = " ".join(str(cause).split())
    return ArtefactError(f"{engine} cannot load {model}: {reason}", hint="export the artefact again")


def release(version: str) -> tuple[int, ...]:
    """The numbers of a version, to compare it: ``2026.4.1-22982-e213a`` -> (2026, 4, 1)."""
    found = re.match(r"\d+(\.\d+)*", version)
    numbers = [int(part) for part in found.group().split(".")] if found else []
    while numbers and numbers[-1] == 0:  # 1.20 and 1.20.0 are one version
        numbers.pop()
    return tuple(numbers)
