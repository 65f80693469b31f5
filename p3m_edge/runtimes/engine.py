"""The contract between :class:`p3m_edge.runtimes.Matting` and the engines that run a model file.

An engine is a module with two plain functions, named in :data:`ENGINES`:

``require() -> module``
    Import the engine's package; :class:`~p3m_edge.errors.MissingError` names the extra to install.
``load(manifest, model, options) -> Loaded``
    Load the model file and say what came of it. The runners do the work; each is used by one thread at a time.

Everything that engines have in common stands here, once: checks of what goes in, waiting for a free runner,
asynchronous requests, closing. Shapes: ``N`` batch, ``C`` channels, ``H`` height, ``W`` width.
"""

from __future__ import annotations

import importlib
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Literal, Protocol, Self, cast, get_args

import numpy as np
from numpy.typing import NDArray

from p3m_edge.errors import ArtefactError, InputError, MissingError, P3MEdgeError, UsageError, suggestion
from p3m_edge.manifest import InputRecord, Manifest
from p3m_edge.targets import EngineName

Hint = Literal["latency", "throughput"]
Images = NDArray[np.uint8]
Outputs = dict[str, NDArray[np.float32]]
Runner = Callable[[Images, tuple[str, ...]], Outputs]
Ticket = Future[Outputs]

ALPHA = ("alpha",)


@dataclass(frozen=True)
class EngineOptions:
    """How to open an engine.

    Attributes
    ----------
    device
        What shall do the work, in the engine's own terms without regard to case: ``cpu``, ``cuda``, ``cuda:1``,
        ``tensorrt``, ``dml``, ``coreml``, ... (ONNX Runtime); ``CPU``, ``GPU``, ``GPU.1``, ``NPU`` (OpenVINO).
        None: the processor. What is asked for is obtained, or opening fails.
    threads
        Threads for one inference on the processor; None: the engine decides.
    hint
        ``latency``: one frame as soon as possible. ``throughput``: as many frames a second as possible, with
        several requests at work side by side.
    cache
        Keep compiled models, so that the next start is faster (engines that gain nothing by it keep none).
    cache_dir
        Where; None: ``P3M_EDGE_CACHE`` or the user's cache folder (:func:`p3m_edge.runtimes.cache.root`).
    """

    device: str | None = None
    threads: int | None = None
    hint: Hint = "latency"
    cache: bool = True
    cache_dir: Path | None = None


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
    """

    name: str
    version: str
    device: str
    device_name: str
    precision: Literal["f32", "f16", "graph"]
    hint: Hint
    threads: int | None
    requests: int
    cache: Literal["hit", "miss", "off", "none"]
    placement: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Loaded:
    """A model that is ready to run: one runner for each inference that may be at work at the same time."""

    info: EngineInfo
    runners: tuple[Runner, ...]


class EngineModule(Protocol):
    """What the module of an engine offers."""

    def require(self) -> ModuleType: ...

    def load(self, manifest: Manifest, model: Path, options: EngineOptions) -> Loaded: ...


ENGINES: dict[str, str] = {
    "onnxruntime": "p3m_edge.runtimes.onnxrt",
    "openvino": "p3m_edge.runtimes.ov",
}


def engine_module(name: str) -> EngineModule:
    """The module of an engine; its package is not imported yet.

    Raises
    ------
    MissingError
        The engine is planned, but this version does not have it.
    ArtefactError
        Nobody knows an engine of that name.
    """
    if name in ENGINES:
        return cast(EngineModule, importlib.import_module(ENGINES[name]))
    if name in get_args(EngineName):
        raise MissingError(
            f"the engine {name!r} is not available yet in this version", hint=f"available now: {', '.join(ENGINES)}"
        )
    raise ArtefactError(f"the artefact asks for an unknown engine {name!r}", hint=suggestion(name, ENGINES))


def open_engine(manifest: Manifest, folder: Path, options: EngineOptions | None = None) -> Engine:
    """Load an artefact's model file. The files are taken as they are: check them before.

    Parameters
    ----------
    manifest, folder
        The artefact.
    options
        Device, threads, hint and cache.

    Raises
    ------
    MissingError
        The engine, its package or the device is not here, or is not what would be used.
    ArtefactError
        The file was not built, cannot be loaded, does not match the manifest, needs a newer engine, or does not
        fit the device.
    UsageError
        An unknown device, or impossible options.
    """
    options = options or EngineOptions()
    if options.hint not in get_args(Hint):
        raise UsageError(f"unknown hint {options.hint!r}", hint=suggestion(str(options.hint), get_args(Hint)))
    if options.threads is not None and options.threads < 1:
        raise UsageError(f"the number of threads must be positive, not {options.threads}")
    if manifest.engine.status != "built":
        reason = f": {manifest.engine.reason}" if manifest.engine.reason else ""
        raise ArtefactError(f"the model file of {folder} has not been built{reason}")
    loaded = engine_module(manifest.engine.name).load(manifest, folder / manifest.model_file, options)
    return Engine(manifest, loaded)


class Engine:
    """A loaded model. Every method may be called from any thread."""

    def __init__(self, manifest: Manifest, loaded: Loaded) -> None:
        self.info = loaded.info
        self._input = manifest.input
        self._names = tuple(output.name for output in manifest.outputs)
        self._idle = list(loaded.runners)
        self._change = threading.Condition()
        self._workers: ThreadPoolExecutor | None = None
        self._closed = False

    @property
    def outputs(self) -> tuple[str, ...]:
        """The outputs of the model, by the manifest."""
        return self._names

    def infer(self, images: Images, outputs: Sequence[str] = ALPHA) -> Outputs:
        """Run the network; waits while ``info.requests`` other inferences are at work.

        Parameters
        ----------
        images
            ``[N, H, W, 3]``, uint8, RGB, of the manifest's size. Read without a copy if it is C-contiguous and
            writeable; it must not change until the call returns.
        outputs
            The outputs wanted; an output that is not asked for is not copied out.

        Returns
        -------
        outputs
            By name ``[N, C, H, W]``, float32: memory of their own.

        Raises
        ------
        InputError
            The images have another shape or dtype.
        UsageError
            An unknown output, or the engine is closed.
        P3MEdgeError
            The engine failed (out of memory, device lost).
        """
        names = self._check_outputs(outputs)
        check_images(images, self._input)
        return self._run(images, names)

    def submit(self, images: Images, outputs: Sequence[str] = ALPHA) -> Ticket:
        """Begin an inference and return at once; at most ``info.requests`` are at work, the others wait in order.

        ``images`` must not change until the result has been collected. Parameters and errors are those of
        :meth:`infer`; failures of the inference itself are raised by :meth:`collect`.
        """
        names = self._check_outputs(outputs)
        check_images(images, self._input)
        with self._change:
            if self._closed:
                raise _closed()
            if self._workers is None:
                self._workers = ThreadPoolExecutor(self.info.requests, thread_name_prefix="p3m-edge")
            return self._workers.submit(self._run, images, names)

    def collect(self, ticket: Ticket) -> Outputs:
        """Wait for the result of :meth:`submit`.

        Raises
        ------
        UsageError
            The engine was closed before the inference began.
        P3MEdgeError
            The engine failed.
        """
        try:
            return ticket.result()
        except CancelledError:
            raise _closed() from None

    def close(self) -> None:
        """Wait for what is at work, drop what has not begun, free the model. Closing again does nothing."""
        with self._change:
            if self._closed:
                return
            self._closed = True
            self._change.notify_all()
        if self._workers is not None:
            self._workers.shutdown(wait=True, cancel_futures=True)
        with self._change:
            self._change.wait_for(lambda: len(self._idle) == self.info.requests)
            self._idle.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_outputs(self, outputs: Sequence[str]) -> tuple[str, ...]:
        names = (outputs,) if isinstance(outputs, str) else tuple(outputs)
        for name in names:
            if name not in self._names:
                raise UsageError(f"the model has no output {name!r}", hint=suggestion(name, self._names))
        return names

    def _run(self, images: Images, names: tuple[str, ...]) -> Outputs:
        with self._runner() as run:
            try:
                return run(images, names)
            except Exception as error:  # engines have no common base for what they raise
                reason = " ".join(str(error).split())
                raise P3MEdgeError(f"the inference failed in {self.info.name}: {reason}") from error

    @contextmanager
    def _runner(self) -> Iterator[Runner]:
        with self._change:
            self._change.wait_for(lambda: self._closed or self._idle)
            if self._closed:
                raise _closed()
            runner = self._idle.pop()
        try:
            yield runner
        finally:
            with self._change:
                self._idle.append(runner)
                self._change.notify_all()


def check_images(images: Images, record: InputRecord) -> None:
    """Whether an array is what the model file takes.

    Raises
    ------
    InputError
        It is not.
    """
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
        kind = images.dtype if isinstance(images, np.ndarray) else type(images).__name__
        raise InputError(f"the network takes a uint8 array, not {kind}")
    expected = (record.batch, record.height or "H", record.width or "W", 3)
    fits = len(images.shape) == 4 and all(
        isinstance(want, str) or have == want for have, want in zip(images.shape, expected, strict=True)
    )
    if not fits or any(side < 1 or side % record.multiple_of for side in images.shape[1:3]):
        text = ", ".join(str(side) for side in expected)
        step = f", H and W multiples of {record.multiple_of}" if "H" in expected or "W" in expected else ""
        raise InputError(f"the network takes [{text}]{step}, not {list(images.shape)}")


def check_version(manifest: Manifest, version: str) -> None:
    """Whether an engine of that version may load the artefact; a newer one than that which built it may.

    Raises
    ------
    ArtefactError
        The engine is older than the artefact allows.
    """
    minimum = manifest.engine.minimum_version
    if _numbers(version) < _numbers(minimum):
        raise ArtefactError(
            f"the artefact needs {manifest.engine.name} {minimum} or newer; {version} is installed",
            hint=f'pip install "{manifest.engine.name}>={minimum}"',
        )


def mismatch(model: Path, what: str) -> ArtefactError:
    """The error for a model file that is not the one its manifest describes."""
    return ArtefactError(f"{model} does not match its manifest: {what}", hint="export the artefact again")


def unreadable(model: Path, engine: str, cause: Exception) -> ArtefactError:
    """The error for a model file that the engine cannot load."""
    reason = " ".join(str(cause).split())
    return ArtefactError(f"{engine} cannot load {model}: {reason}", hint="export the artefact again")


def _numbers(version: str) -> tuple[int, ...]:
    """``2026.4.1-22982-e213a`` -> (2026, 4, 1); what follows the release number does not count."""
    release = re.match(r"\d+(\.\d+)*", version)
    numbers = [int(part) for part in release.group().split(".")] if release else []
    while numbers and numbers[-1] == 0:  # 1.20 and 1.20.0 are one version
        numbers.pop()
    return tuple(numbers)


def _closed() -> UsageError:
    return UsageError("the engine is closed")
