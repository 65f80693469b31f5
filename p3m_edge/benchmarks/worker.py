"""The process that times one artefact through the runtime that apps use."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from p3m_edge.errors import UsageError
from p3m_edge.workers.child import serve

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from p3m_edge.refine import Place
    from p3m_edge.runtimes import Matting

_PATCH = 8  # pixels of one colour in the synthetic frame, so that resizing has something to do


class ArtefactWorker:
    """Times an artefact. With a batch of N a call is one of N frames: ``[N, H, W, 3]`` of the network."""

    _matting: Matting
    _frame: NDArray[np.uint8]
    _images: NDArray[np.uint8]
    _alpha: NDArray[np.float32]
    _place: Place

    def load(
        self,
        folder: str,
        device: str,
        threads: int | None,
        hint: str,
        cache: str | None,
        frame: str | None,
        frame_size: list[int],
        seed: int,
    ) -> Mapping[str, Any]:
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
        width, height = frame_size
        self._frame = _read(Path(frame)) if frame is not None else _synthetic(width, height, seed)
        info = self._matting.info
        return {
            "import_ms": (imported - start) * 1e3,
            "load_ms": (loaded - imported) * 1e3,
            "arch": info.arch,
            "used": asdict(info.engine) | {"arithmetic": info.engine.precision},
        }

    def first(self) -> Mapping[str, Any]:
        """The first call, end to end; then what the other measurements need is laid out."""
        milliseconds = timed_ms(self._end_to_end)
        image, self._place = self._matting.prepare(self._frame)
        self._images = image[None].repeat(self._batch, axis=0)
        self._alpha = self._matting.engine.infer(self._images)["alpha"][0, 0]
        return {"ms": milliseconds, "height": image.shape[0], "width": image.shape[1]}

    def selftest(self) -> Mapping[str, Any]:
        """The golden vectors on this machine; figures that are not finite show in the failures alone."""
        from p3m_edge.benchmarks.report.schema import worst

        found = self._matting.selftest()
        items = [asdict(item) for item in found.items]
        figures = [value for item in items for value in item.values() if isinstance(value, float)]
        return {
            "passed": found.passed,
            "failures": found.failures,
            "worst": worst(found.items),
            "limits": asdict(found.limits),
            "items": items if all(map(math.isfinite, figures)) else [],
        }

    def placement(self, package: str, device: str, function: str | None) -> Mapping[str, Any]:
        """Core ML's plan for a function of a package; the artefact need not be loaded."""
        from p3m_edge.benchmarks.placement import plan

        return asdict(plan(Path(package), device, function))

    def warmup(self, calls: int) -> Mapping[str, Any]:
        """Calls that do not count."""
        for _ in range(calls):
            self._bare()
        return {}

    def round(self, iterations: int, seconds: float | None, bare: bool = False) -> Mapping[str, Any]:
        """One round: a call that does not count, then those that do; ``bare`` leaves out all but the bare calls.

        Bare and whole calls take turns, and take turns in going first. What the whole call adds is read inside it,
        against the engine's own clock: the difference of two calls would drown in their noise.
        """
        self._bare()
        found: dict[str, list[float]] = {"latency": []}
        since = perf_counter()
        while not enough(len(found["latency"]), since, iterations, seconds):
            if bare:
                found["latency"].append(timed_ms(self._bare))
                continue
            pair: dict[str, Callable[[], object]] = {"latency": self._bare, "end_to_end": self._end_to_end}
            order = list(pair) if len(found["latency"]) % 2 == 0 else list(reversed(pair))
            times: dict[str, float] = {}
            for name in order:
                before = self._matting.engine.busy
                times[name] = timed_ms(pair[name])
                if name == "end_to_end":
                    times["overhead"] = times[name] - 1e3 * (self._matting.engine.busy - before)
            times["preprocess"] = timed_ms(self._before)
            times["postprocess"] = timed_ms(self._after)
            for name, value in times.items():
                found.setdefault(name, []).append(value)
        return found

    def gpu(self, warmup_ms: float, seconds: float, iterations: int) -> Mapping[str, Any]:
        """Inferences as :mod:`p3m_edge.benchmarks.phases` has them, in ms: [enqueue, h2d, compute, d2h] each."""
        since = perf_counter()
        while perf_counter() - since < warmup_ms / 1e3:
            self._timed()
        samples: list[tuple[float, ...]] = []
        since = perf_counter()
        while len(samples) < iterations or perf_counter() - since < seconds:
            samples.append(self._timed())
        return {"samples": samples, "seconds": perf_counter() - since}

    def throughput(self, iterations: int, seconds: float | None) -> Mapping[str, Any]:
        """Frames per second with all requests of the engine at work and one frame waiting for its turn."""
        self._end_to_end()
        if self._batch > 1:
            return self._batches(iterations, seconds)
        ahead = self._matting.engine.info.requests + 1
        submitted = collected = 0
        since = perf_counter()
        while not enough(submitted, since, max(iterations, 2 * ahead), seconds):
            self._matting.submit(self._frame)
            submitted += 1
            if self._matting.pending > ahead:
                self._matting.collect()
                collected += 1
        while collected < submitted:
            self._matting.collect()
            collected += 1
        return {"per_second": collected / (perf_counter() - since)}

    def matte(self, picture: str, out: str) -> Mapping[str, Any]:
        """Write the alpha of a picture, ``[H, W]`` float32 at its size, as an ``.npy`` file."""
        import numpy as np

        np.save(out, self._matting(_read(Path(picture))), allow_pickle=False)
        return {}

    def memory(self) -> Mapping[str, Any]:
        """The peak so far."""
        return {"bytes": peak_memory()}

    def _batches(self, iterations: int, seconds: float | None) -> Mapping[str, Any]:
        lots = self._matting.engine.info.requests + 1
        done, since = 0, perf_counter()
        while not enough(done, since, iterations, seconds):
            done += len(self._matting.batch([self._frame] * (self._batch * lots)))
        return {"per_second": done / (perf_counter() - since)}

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


def main() -> int:
    """Serve until the parent closes the pipe."""
    worker = ArtefactWorker()
    names = ("load", "first", "selftest", "placement", "warmup", "round", "gpu", "throughput", "matte", "memory")
    return serve({name: getattr(worker, name) for name in names})


if __name__ == "__main__":
    sys.exit(main())
