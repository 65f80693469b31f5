"""How many frames a second go through, how old they are when they come out, and what each part of the work costs.

    python -m p3m_edge.benchmarks.stream ARTEFACT [ARTEFACT ...] [--rounds N] [--frames N] [--json]

The frames are the bundled portrait, moved about in 1280x720, composited on a picture, with mattes that are stabilised.
All runs take turns, in an order that is shuffled in each round, and figures are medians of the rounds:

- ``cpu ms`` is the processor time (all threads) of one part of the work, which does nothing else meanwhile;
- ``decoded`` composes frames that are in memory, ``file`` a file of H.264 into another one: frames a second, beside the
  bound that the cores set, which is cores / (sum of the parts' processor time);
- ``camera`` is a source of 30 frames a second: the age of a result is the time from its capture to its composite;
- with ``--long N``, the memory that a process has taken after 500 frames of a stream and after N.

Where MediaPipe 0.10.21 is installed (it needs NumPy 1, so an environment of its own), its Selfie Segmentation takes the
network's place in a loop of the same parts.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib import resources
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import psutil

from p3m_edge.benchmarks import quality
from p3m_edge.benchmarks.fingerprint import fingerprint
from p3m_edge.data.sample import Image
from p3m_edge.errors import UsageError
from p3m_edge.imageio import read_image
from p3m_edge.resources import usable_cores
from p3m_edge.runtimes import Matting
from p3m_edge.runtimes.compose import Effect, apply
from p3m_edge.runtimes.fusion import estimate_fast
from p3m_edge.table import Table
from p3m_edge.video import ArraySource, FileSink, FileSource, Frame, MattingStream, PacedSource, Stabiliser, matte_video

SIZE = 1280, 720
RATE = 30.0
_DISTINCT, _WARMUP, _SETTLED = 30, 15, 500
_SEED = 0
_DECODED = ("prepare", "infer", "stabilise", "refine", "colours", "compose")
_FILE = (*_DECODED, "decode", "encode")


@dataclass(frozen=True)
class Part:
    """What one part of the work costs: processor time of a frame, in milliseconds."""

    method: str
    part: str
    cpu_ms: float


@dataclass(frozen=True)
class Throughput:
    """Frames a second, what the cores allow, and the first as a share of the second; None: not known."""

    method: str
    what: str
    frames_per_second: float
    bound: float | None = None
    share: float | None = None


@dataclass(frozen=True)
class Age:
    """The age of results of a live source, in milliseconds, and the share of its frames that were dropped."""

    method: str
    frames: int
    median: float
    p99: float
    first_half: float
    second_half: float
    dropped: float


@dataclass(frozen=True)
class MemoryGrowth:
    """The resident memory of the process, in MB, after 500 frames and at the end."""

    method: str
    frames: int
    settled: float
    end: float


Figures = Mapping[str, float]
Task = Callable[[], Figures]
"""One run; its figures by name."""


def moving_portrait(count: int) -> list[Image]:
    """Frames ``[720, 1280, 3]`` in which the bundled portrait goes round, as a hand-held camera would move."""
    with resources.as_file(resources.files("p3m_edge") / "assets" / "astronaut.jpg") as path:
        picture = read_image(path).rgb
    scale = 1.15 * max(SIZE[0] / picture.shape[1], SIZE[1] / picture.shape[0])
    frames = []
    for angle in np.linspace(0, 2 * math.pi, count, endpoint=False):
        x, y = 60 * np.cos(angle), 40 * np.sin(angle)
        middle = SIZE[0] / 2 + x - scale * picture.shape[1] / 2, SIZE[1] / 2 + y - scale * picture.shape[0] / 2
        affine = np.array([[scale, 0, middle[0]], [0, scale, middle[1]]])
        frames.append(np.asarray(cv2.warpAffine(picture, affine, SIZE, flags=cv2.INTER_LINEAR), np.uint8))
    return frames


def cpu_ms(call: Callable[[int], object], count: int) -> float:
    """Processor time of the process in one of so many calls, in milliseconds."""
    start = time.process_time()
    for number in range(count):
        call(number)
    return 1e3 * (time.process_time() - start) / count


class Bench:
    """The runs of one artefact; ``clip`` is a file with the frames, ``folder`` takes results."""

    def __init__(self, matting: Matting, frames: Sequence[Image], clip: Path, folder: Path, count: int) -> None:
        self._matting, self._frames, self._clip, self._folder, self._count = matting, frames, clip, folder, count
        self._background = frames[0][:, ::-1].copy()
        self._effect = Effect(background=self._background, colours="fast").fitted(frames[0])
        self._prepared = [matting.prepare(frame) for frame in frames]
        self._inferred = [matting.engine.collect(matting.begin(image))["alpha"][0, 0] for image, _ in self._prepared]
        places = (place for _, place in self._prepared)
        self._alphas = [matting.finish(*each) for each in zip(self._inferred, places, strict=True)]

    def tasks(self) -> dict[str, Task]:
        """Everything that takes turns."""
        return {"parts": self.parts, "decoded": self.decoded, "file": self.file}

    def parts(self) -> Figures:
        """The processor time of each part, in milliseconds."""
        matting, frames = self._matting, self._frames
        images, places = zip(*self._prepared, strict=True)
        stabiliser, total, as_it_is = Stabiliser(), len(frames), replace(self._effect, colours="frame")
        calls: dict[str, Callable[[int], object]] = {
            "prepare": lambda n: matting.prepare(frames[n % total]),
            "infer": lambda n: matting.engine.collect(matting.begin(images[n % total])),
            "stabilise": lambda n: stabiliser(self._inferred[n % total], images[n % total], n / RATE),
            "refine": lambda n: matting.finish(self._inferred[n % total], places[n % total]),
            "colours": lambda n: estimate_fast(frames[n % total], self._alphas[n % total], everywhere=False),
            "compose": lambda n: apply(frames[n % total], self._alphas[n % total], as_it_is),
        }
        found = {name: cpu_ms(call, self._count) for name, call in calls.items()}
        with FileSource(self._clip) as source:
            decoded = iter(source)
            found["decode"] = cpu_ms(lambda _: next(decoded), self._count)
        with FileSink(self._folder / "encoded.mp4") as sink:
            found["encode"] = cpu_ms(lambda n: sink.write(_frame(frames[n % total], n), frames[n % total]), self._count)
        return found

    def decoded(self) -> Figures:
        """From frames in memory to composites."""
        source = ArraySource(itertools.islice(itertools.cycle(self._frames), _WARMUP + self._count), RATE)
        start = 0.0
        for number, _ in enumerate(self._stream(source)):
            start = time.perf_counter() if number == _WARMUP - 1 else start
        return {"fps": self._count / (time.perf_counter() - start)}

    def file(self) -> Figures:
        """From file to file."""
        done = matte_video(
            self._clip, {"composite": self._folder / "composite.mp4"}, self._matting,
            background=self._background, effect=self._effect,
        )  # fmt: skip
        return {"fps": done.frames / done.seconds}

    def camera(self, seconds: float) -> tuple[list[float], float]:
        """The ages of results in milliseconds, and the share of frames that were dropped."""
        count = round(seconds * RATE)
        source = PacedSource(ArraySource(itertools.islice(itertools.cycle(self._frames), count), RATE))
        ages, dropped = list[float](), 0
        for result in self._stream(source):
            ages.append(result.timings.age)
            dropped = result.dropped
        return ages[_WARMUP:], dropped / count

    def memory(self, count: int) -> tuple[float, float]:
        """The memory that the process has taken after 500 frames, and after all, in MB."""
        settled, own = 0.0, psutil.Process()
        source = ArraySource(itertools.islice(itertools.cycle(self._frames), count), RATE)
        for number, _ in enumerate(self._stream(source), 1):
            settled = own.memory_info().rss / 1e6 if number == _SETTLED else settled
        return settled, own.memory_info().rss / 1e6

    def _stream(self, source: ArraySource | PacedSource) -> MattingStream:
        return MattingStream(source, self._matting, effect=lambda frame, alpha: apply(frame, alpha, self._effect))


def selfie_loop(frames: Sequence[Image], count: int) -> dict[str, Task]:
    """MediaPipe in a loop of the same parts, if it is installed: its mask as alpha, composited on the same picture."""
    effect = Effect(background=frames[0][:, ::-1].copy(), colours="fast").fitted(frames[0])

    def task(predict: quality.Predict) -> Figures:
        start = time.perf_counter()
        for frame in itertools.islice(itertools.cycle(frames), count):
            apply(frame, np.rint(255 * predict(frame)).astype(np.uint8), effect)
        return {"fps": count / (time.perf_counter() - start)}

    return {name: partial(task, predict) for name, predict in quality.selfie().items()}


def in_turns(tasks: Mapping[str, Task], rounds: int) -> dict[str, Figures]:
    """The medians of each task's figures; the tasks take turns, in another order each round."""
    rng, names = np.random.default_rng(_SEED), list(tasks)
    found: dict[str, list[Figures]] = {name: [] for name in names}
    for _ in range(rounds):
        for index in rng.permutation(len(names)):
            found[names[index]].append(tasks[names[index]]())
    return {name: {key: median(each[key] for each in runs) for key in runs[0]} for name, runs in found.items()}


def throughputs(method: str, medians: Mapping[str, Figures], cores: int) -> Iterator[Throughput]:
    """Frames a second beside the bound that the processor time of the parts sets."""
    for what, parts in (("decoded", _DECODED), ("file", _FILE)):
        bound = 1e3 * cores / sum(medians["parts"][part] for part in parts)
        rate = medians[what]["fps"]
        yield Throughput(method, what, rate, bound, rate / bound)


def ages(method: str, found: Sequence[float], dropped: float) -> Age:
    """Age and drops; the two halves show whether anything piles up."""
    half = len(found) // 2
    first, second = (median(part) for part in (found[:half], found[half:]))
    return Age(method, len(found), median(found), float(np.percentile(found, 99)), first, second, dropped)


def report(arguments: argparse.Namespace) -> tuple[object, Iterable[Table]]:
    """The document and the tables."""
    if arguments.rounds < 1 or arguments.frames < 2 or arguments.camera < 2 or 0 < arguments.long <= _SETTLED:
        raise UsageError("it takes a round, two frames, two seconds of a camera, and --long more than 500 frames")
    frames = moving_portrait(_DISTINCT)
    parts, rates, old, grown = list[Part](), list[Throughput](), list[Age](), list[MemoryGrowth]()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        clip, count = folder / "clip.mp4", arguments.frames
        with FileSink(clip) as sink:
            for number, frame in enumerate(itertools.islice(itertools.cycle(frames), count)):
                sink.write(_frame(frame, number), frame)
        opened = {
            str(path): stack.enter_context(quality.opened(path, arguments.threads, "uint8"))
            for path in arguments.artefacts
        }
        benches = {name: Bench(matting, frames, clip, folder, count) for name, matting in opened.items()}
        tasks = {f"{method}\0{name}": task for method, each in benches.items() for name, task in each.tasks().items()}
        medians = in_turns({**tasks, **(loops := selfie_loop(frames, count))}, arguments.rounds)
        for method, each in benches.items():
            own = {name: medians[f"{method}\0{name}"] for name in each.tasks()}
            parts += (Part(method, name, value) for name, value in own["parts"].items())
            rates += throughputs(method, own, usable_cores())
            old.append(ages(method, *each.camera(arguments.camera)))
            if arguments.long:
                grown.append(MemoryGrowth(method, arguments.long, *each.memory(arguments.long)))
        rates += (Throughput(name, "loop", medians[name]["fps"]) for name in loops)
    machine = fingerprint()
    document = {
        "machine": asdict(machine), "size": SIZE, "rounds": arguments.rounds, "frames": count,
        "parts": list(map(asdict, parts)), "throughput": list(map(asdict, rates)),
        "camera": list(map(asdict, old)), "memory": list(map(asdict, grown)),
    }  # fmt: skip
    return document, (
        quality.table(f"{machine.cpu}, {machine.usable_cores} cores", parts, "method part cpu_ms", cpu_ms=".2f"),
        quality.table(
            "", rates, "method what frames_per_second bound share", frames_per_second=".1f", bound=".1f", share=".0%"
        ),
        quality.table(
            f"A camera of {RATE:g} frames a second: age, ms", old,
            "method frames median p99 first_half second_half dropped",
            median=".1f", p99=".1f", first_half=".1f", second_half=".1f", dropped=".1%",
        ),
        quality.table("Memory, MB", grown, "method frames settled end", settled=".1f", end=".1f"),
    )  # fmt: skip


def _frame(image: Image, number: int) -> Frame:
    return Frame(image, number, number / RATE, time.perf_counter())


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = quality.parser(__doc__)
    parser.add_argument("artefacts", nargs="+", type=Path, metavar="ARTEFACT")
    parser.add_argument("--rounds", type=int, default=6, metavar="N", help="(default: 6)")
    parser.add_argument("--frames", type=int, default=90, metavar="N", help="of each run (default: 90)")
    parser.add_argument("--camera", type=float, default=60.0, metavar="S", help="seconds of the camera (default: 60)")
    parser.add_argument("--long", type=int, default=0, metavar="N", help="frames of a long stream: what memory does")
    return quality.run(parser, report, arguments)


if __name__ == "__main__":
    sys.exit(main())
