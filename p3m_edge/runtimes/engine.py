"""A loaded model: checks of what goes in, waiting for a free runner, asynchronous requests, closing.

Everything that engines have in common when they run stands here, once; what each of them has to offer is in
:mod:`p3m_edge.runtimes.contract`. Shapes: ``N`` batch, ``C`` channels, ``H`` height, ``W`` width.
"""

from __future__ import annotations

import os
import shlex
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Self

import numpy as np

from p3m_edge import arguments
from p3m_edge.errors import ArtefactError, InputError, P3MEdgeError, UsageError, shown, suggestion
from p3m_edge.manifest import PLACE, Manifest
from p3m_edge.manifest_schema import InputRecord, ProfileRecord
from p3m_edge.runtimes.contract import ALPHA, EngineOptions, Images, Loaded, Outputs, Phases, Runner, engine_module
from p3m_edge.runtimes.forks import bind, keep
from p3m_edge.runtimes.size import check_profile, profile_of

Ticket = Future[Outputs]


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
    arguments.instance("a manifest", manifest, Manifest)
    folder = arguments.path("an artefact's folder", folder)
    options = EngineOptions() if options is None else options
    arguments.instance("an engine's options", options, EngineOptions)
    if manifest.engine.status != "built":
        raise not_built(manifest, folder)
    loaded = engine_module(manifest.engine.name).load(manifest, folder / manifest.model_file, options)
    return Engine(manifest, loaded)


class Engine:
    """A loaded model. Every method may be called from any thread of the process that loaded it.

    In a child that a fork made of that process every method raises ``UsageError`` but :meth:`close`, which does
    nothing; nor is the model freed there: its threads were left behind, and its end would wait for them.
    """

    def __init__(self, manifest: Manifest, loaded: Loaded) -> None:
        self.info = loaded.info
        self._process = os.getpid()
        self._loaded: Loaded | None = loaded
        self._input = manifest.input
        self._names = tuple(output.name for output in manifest.outputs)
        self._idle = list(loaded.runners)
        self._profile = profile_of(manifest)
        self._change = threading.Condition()
        self._workers: ThreadPoolExecutor | None = None
        self._closed = False
        self._busy = 0.0
        bind(self)

    def forked(self) -> None:
        """In a child of its process: leave it as it is, for ever."""
        if self._loaded is not None:
            keep(self._loaded)
            self._loaded = None

    @property
    def outputs(self) -> tuple[str, ...]:
        """The outputs of the model, by the manifest."""
        return self._names

    @property
    def busy(self) -> float:
        """Seconds that inferences have taken so far, those at work at the same time added up."""
        return self._busy

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
        return self._run(images, self._check(images, outputs))

    def infer_alone(self, images: Images, outputs: Sequence[str] = ALPHA) -> Outputs:
        """The same for images that follow no others, also where the engine was opened for a sequence."""
        self.reset()
        return self.infer(images, outputs)

    def reset(self) -> None:
        """Forget the frames before: the next one begins a sequence. Waits for an inference at work."""
        with self._runner() as (loaded, _):
            loaded.reset()

    def timed(self, images: Images) -> Phases | None:
        """One inference with all outputs, measured in the GPU's own stream; None: this engine cannot be measured so.

        Errors are those of :meth:`infer`.
        """
        check_images(images, self._input, self._profile)
        with self._runner() as (loaded, _), self._work():
            return None if loaded.timed is None else loaded.timed(images)

    def submit(self, images: Images, outputs: Sequence[str] = ALPHA) -> Ticket:
        """Begin an inference and return at once; at most ``info.requests`` are at work, the others wait in order.

        ``images`` must not change until the result has been collected. Parameters and errors are those of
        :meth:`infer`; failures of the inference itself are raised by :meth:`collect`.
        """
        names = self._check(images, outputs)
        self._check_process()
        with self._change:
            if self._closed:
                raise closed()
            if self._workers is None:
                self._workers = ThreadPoolExecutor(self.info.requests, thread_name_prefix="p3m-edge")
            return self._workers.submit(self._run, images, names)

    def collect(self, ticket: Ticket) -> Outputs:
        """Wait for the result of :meth:`submit`.

        Raises
        ------
        UsageError
            The engine was closed before the inference began, or it is no ticket.
        P3MEdgeError
            The engine failed.
        """
        self._check_process()
        if not isinstance(ticket, Future):
            raise UsageError(f"a ticket is what submit() gave, not {shown(ticket)}")
        try:
            return ticket.result()
        except CancelledError:
            raise closed() from None

    def close(self) -> None:
        """Wait for what is at work, drop what has not begun, free the model. Closing again does nothing."""
        if self._process != os.getpid():
            return
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
            self._loaded = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _check(self, images: Images, outputs: Sequence[str]) -> tuple[str, ...]:
        names = (outputs,) if isinstance(outputs, str) or not isinstance(outputs, Iterable) else tuple(outputs)
        for name in names:
            if not isinstance(name, str) or name not in self._names:
                raise UsageError(f"the model has no output {shown(name)}", hint=suggestion(str(name), self._names))
        if not names:
            raise UsageError("no output was asked for", hint=f"there are {', '.join(self._names)}")
        check_images(images, self._input, self._profile)
        return names

    def _run(self, images: Images, names: tuple[str, ...]) -> Outputs:
        with self._runner() as (_, run), self._work():
            return run(images, names)

    @contextmanager
    def _work(self) -> Iterator[None]:
        """Around an inference: it is timed, and what the engine raises becomes our error."""
        since = perf_counter()
        try:
            yield
        except P3MEdgeError:
            raise
        except Exception as error:  # engines have no common base for what they raise
            reason = " ".join(str(error).split())
            raise P3MEdgeError(f"the inference failed in {self.info.name}: {reason}") from error
        finally:
            taken = perf_counter() - since
            with self._change:
                self._busy += taken

    def _check_process(self) -> None:
        if self._process != os.getpid():
            raise UsageError(
                "the engine belongs to the process that loaded it, and this one was forked from that",
                hint="load it after the fork; a Matting does so by itself",
            )

    @contextmanager
    def _runner(self) -> Iterator[tuple[Loaded, Runner]]:
        """What was loaded, and a runner that nobody else has."""
        self._check_process()
        with self._change:
            self._change.wait_for(lambda: self._closed or self._idle)
            if self._closed or self._loaded is None:
                raise closed()
            loaded, runner = self._loaded, self._idle.pop()
        try:
            yield loaded, runner
        finally:
            with self._change:
                self._idle.append(runner)
                self._change.notify_all()


def not_built(manifest: Manifest, folder: Path) -> ArtefactError:
    """The error for an artefact whose model file is not there; it says how to build it."""
    reason = f": {manifest.engine.reason}" if manifest.engine.reason else ""
    own = manifest.engine.commands[0].replace(PLACE, shlex.quote(str(folder))) if manifest.engine.commands else None
    hint = own and f"on the device: {own}"
    return ArtefactError(f"the model file of {folder} has not been built{reason}", hint=hint)


def check_images(images: Images, record: InputRecord, profile: ProfileRecord | None = None) -> None:
    """Raise ``InputError`` unless the model takes the array; ``profile``: the sizes that its engine is made for."""
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
    if profile is not None:
        check_profile((images.shape[2], images.shape[1]), profile, InputError)


def closed() -> UsageError:
    """The error of what is used after it was closed."""
    return UsageError("the engine is closed")
