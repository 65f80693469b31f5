"""The process that times one artefact through the runtime that apps use."""

from __future__ import annotations

import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from p3m_edge.errors import InputError, UsageError
from p3m_edge.workers.child import serve

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from p3m_edge.refine import Place
    from p3m_edge.runtimes import Matting

_PATCH = 8  # pixels of one colour in the synthetic frame, so that resizing has something to do


class TimedWorker(ABC):
    """What every worker does: warm up, time rounds of calls, tell its memory. Its public methods are its operations."""

    @abstractmethod
    def _bare(self) -> object:
        """The call that is timed."""

    def _times(self, *, turn: int, bare: bool) -> dict[str, float]:
        """One call of each kind, in milliseconds; ``bare`` leaves out all but the bare one."""
        return {"latency": timed_ms(self._bare)}

    def warmup(self, calls: int) -> Mapping[str, object]:
        """Calls that do not count."""
        for _ in range(calls):
            self._bare()
        return {}

    def round(self, iterations: int, seconds: float | None, bare: bool = False) -> Mapping[str, object]:
        """One round: a call that does not count, then those that do."""
        self._bare()
        found: dict[str, list[float]] = {}
        done, since = 0, perf_counter()
        while not enough(done, since, iterations, seconds):
            for name, value in self._times(turn=done, bare=bare).items():
                found.setdefault(name, []).append(value)
            done += 1
        return found

    def memory(self) -> Mapping[str, object]:
        """The peak so far."""
        return {"bytes": peak_memory()}

    @classmethod
    def run(cls) -> int:
        """Serve until the parent closes the pipe; returns the exit code."""
        worker = cls()
        names = [name for name in dir(worker) if not name.startswith("_") and name != "run"]
        return serve({name: getattr(worker, name) for name in names})


class ArtefactWorker(TimedWorker):
    """Times an artefact. With a batch of N a call is one of N frames: ``[N, H, W, 3]`` of the network."""

    _matting: Matting
    _frame: NDArray[np.uint8]
    _images: NDArray[np.uint8]
    _alpha: NDArray[np.float32]
    _place: Place

    def load(
        self, folder: str, device: str, threads: int | None, hint: str, cache: str | None, frame: str | None,
        frame_size: tuple[int, int], seed: int,
    ) -> Mapping[str, object]:  # fmt: skip
        """Load the artefact, as an app would; the frame is made outside the time that counts.

        ``cache`` is the folder of compiled models; None: no cache.
        """
        start = perf_counter()
        from p3m_edge.runtimes import Matting

        imported = perf_counter()
        self._matting = Matting(
            folder, device, threads, "throughput" if hint == "throughput" else "latency",
            cache=cache is not None, cache_dir=cache,
        )  # fmt: skip
        loaded = perf_counter()
        self._frame = _read(Path(frame)) if frame is not None else _synthetic(*frame_size, seed)
        info = self._matting.info
        return {
            "import_ms": (imported - start) * 1e3,
            "load_ms": (loaded - imported) * 1e3,
            "arch": info.arch,
            "used": asdict(info.engine) | {"arithmetic": info.engine.precision},
        }

    def first(self) -> Mapping[str, object]:
        """The first call, end to end; then what the other measurements need is laid out."""
        milliseconds = timed_ms(self._end_to_end)
        image, self._place = self._matting.prepare(self._frame)
        self._images = image[None].repeat(self._batch, axis=0)
        self._alpha = self._matting.engine.infer(self._images)["alpha"][0, 0]
        return {"ms": milliseconds, "height": image.shape[0], "width": image.shape[1]}

    def selftest(self) -> object:
        """The golden vectors on this machine; figures that are not finite show in the failures alone."""
        from p3m_edge.benchmarks.report.schema import Parity
        from p3m_edge.runtimes.golden import worst

        found = self._matting.selftest()
        figures = [value for item in found.items for value in vars(item).values() if isinstance(value, float)]
        items = found.items if all(map(math.isfinite, figures)) else ()
        return Parity(found.passed, found.failures, worst(found.items), found.limits, items)

    def placement(self, package: str, device: str, function: str | None) -> object:
        """Core ML's plan for a function of a package; the artefact need not be loaded."""
        from p3m_edge.benchmarks.placement import plan

        return plan(Path(package), device, function)

    def gpu(self, warmup_ms: float, seconds: float, iterations: int) -> Mapping[str, object]:
        """Inferences for :mod:`p3m_edge.benchmarks.gpu_times`, in ms: [enqueue, h2d, compute, d2h] each."""
        since = perf_counter()
        while perf_counter() - since < warmup_ms / 1e3:
            self._timed()
        samples: list[tuple[float, ...]] = []
        since = perf_counter()
        while len(samples) < iterations or perf_counter() - since < seconds:
            samples.append(self._timed())
        return {"samples": samples, "seconds": perf_counter() - since}

    def throughput(self, iterations: int, seconds: float | None) -> Mapping[str, object]:
        """Frames per second with all requests of the engine at work and one frame waiting for its turn."""
        self._end_to_end()
        ahead = self._matting.engine.info.requests + 1
        done, since = 0, perf_counter()
        if self._batch > 1:
            while not enough(done, since, iterations, seconds):
                done += len(self._matting.batch([self._frame] * (self._batch * ahead)))
        else:
            while not enough(done, since, max(iterations, 2 * ahead), seconds):
                self._matting.submit(self._frame)
                done += 1
                if self._matting.pending > ahead:
                    self._matting.collect()
            while self._matting.pending:
                self._matting.collect()
        return {"throughput": [done / (perf_counter() - since)]}

    def matte(self, picture: str, out: str) -> Mapping[str, object]:
        """Write the alpha of a picture, ``[H, W]`` float32 at its size, as an ``.npy`` file."""
        import numpy as np

        alpha = self._matting(_read(Path(picture)))
        if not np.isfinite(alpha).all():
            raise InputError("its alpha is not finite")
        np.save(out, alpha, allow_pickle=False)
        return {}

    def _times(self, *, turn: int, bare: bool) -> dict[str, float]:
        """Bare and whole call take turns in going first.

        What the whole call adds is read inside it, against the engine's own clock: the difference of two calls would
        drown in their noise.
        """
        if bare:
            return super()._times(turn=turn, bare=True)
        times = super()._times(turn=turn, bare=True) if turn % 2 == 0 else {}
        before = self._matting.engine.busy
        times["end_to_end"] = timed_ms(self._end_to_end)
        times["overhead"] = times["end_to_end"] - 1e3 * (self._matting.engine.busy - before)
        if turn % 2 == 1:
            times |= super()._times(turn=turn, bare=True)
        return times | {"preprocess": timed_ms(self._before), "postprocess": timed_ms(self._after)}

    @property
    def _batch(self) -> int:
        return self._matting.manifest.input.batch

    def _timed(self) -> tuple[float, ...]:
        found = self._matting.engine.timed(self._images)
        if found is None:
            raise UsageError("this engine's time on the GPU cannot be measured")
        return found.enqueue, found.h2d, found.compute, found.d2h

    def _bare(self) -> object:
        return self._matting.engine.infer(self._images)

    def _end_to_end(self) -> object:
        return self._matting(self._frame) if self._batch == 1 else self._matting.batch([self._frame] * self._batch)

    def _before(self) -> None:
        for _ in range(self._batch):
            self._matting.prepare(self._frame)

    def _after(self) -> None:
        for _ in range(self._batch):
            self._matting.finish(self._alpha, self._place)


def _read(path: Path) -> NDArray[np.uint8]:
    from p3m_edge.imageio import read_image

    return read_image(path).rgb


def _synthetic(width: int, height: int, seed: int) -> NDArray[np.uint8]:
    """Coloured squares, ``[height, width, 3]``: what is in a frame does not change how long it takes."""
    import numpy as np

    grid = (-(-height // _PATCH), -(-width // _PATCH), 3)
    small = np.random.default_rng(seed).integers(0, 256, grid, dtype=np.uint8)
    return np.ascontiguousarray(small.repeat(_PATCH, axis=0).repeat(_PATCH, axis=1)[:height, :width])


def timed_ms(call: Callable[[], object]) -> float:
    """The duration of one call, in milliseconds."""
    start = perf_counter()
    call()
    return (perf_counter() - start) * 1e3


def enough(done: int, since: float, iterations: int, seconds: float | None) -> bool:
    """Whether a round may end: after ``iterations`` calls or, if given, after ``seconds`` (and one call at least)."""
    if seconds is None:
        return done >= iterations
    return done >= 1 and perf_counter() - since >= seconds


def peak_memory() -> int:
    """The largest resident set of this process so far, in bytes.

    On Linux this is ``VmHWM``: ``ru_maxrss`` survives ``exec`` and may be the parent's.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) if sys.platform == "darwin" else int(peak) * 1024


if __name__ == "__main__":
    sys.exit(ArtefactWorker.run())
