"""``p3m-edge live``: matte a camera."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from p3m_edge.arrays import Pixels
from p3m_edge.cli.default_artefact import default_artefact
from p3m_edge.cli.options import argument, group, option
from p3m_edge.cli.options.shared import Runtime
from p3m_edge.cli.options.values import SIZE, Size, people, picture_size, positive, real
from p3m_edge.cli.ui import Console
from p3m_edge.cli.videos import as_array, read_behind
from p3m_edge.errors import InputError, MissingError, OutputError, UsageError
from p3m_edge.runtimes import Matting
from p3m_edge.runtimes.compose import Effect
from p3m_edge.runtimes.people import Who
from p3m_edge.video import (
    CameraSource,
    FileSink,
    FileSource,
    Format,
    Matted,
    MattingStream,
    PacedSource,
    Sink,
    Source,
    Timings,
    VirtualCameraSink,
    WindowSink,
)
from p3m_edge.video.convert import renderer
from p3m_edge.video.sink import WindowClosedError

EXAMPLES = """
p3m-edge live
p3m-edge live --background beach.jpg
p3m-edge live --background waves.mp4
p3m-edge live --camera 1 --blur --virtual-camera
p3m-edge live out/demo/openvino-fp16 --background '#00ff00' --record me.mp4
p3m-edge live --camera clip.mp4 --frames 300 --json
"""
_EVERY = 1.0  # seconds between two lines of the status
_KEPT = 3000  # frames whose ages count in the summary


@dataclass(frozen=True)
class Status:
    """How it goes: frames so far and dropped ones; of the last second, frames a second and median milliseconds."""

    frames: int
    dropped: int
    fps: float
    age: float
    milliseconds: dict[str, float]


@dataclass(frozen=True)
class LiveReport:
    """The result: of all frames, with the median and the 99th percentile of the age of the last ones, in ms."""

    artefact: Path
    target: str
    trained: bool
    camera: str
    frames: int
    dropped: int
    seconds: float
    fps: float
    age_median: float | None
    age_p99: float | None
    recorded: Path | None


@dataclass(frozen=True)
class Arguments:
    """Matte a camera, live: the newest picture is taken, and those that came meanwhile are dropped. What is shown is
    the subject before its own background, blurred, or on --background. It goes into a window where a display and an
    OpenCV with windows are, and into whatever else is asked for. Ctrl-C (or Escape in the window) ends it; a recording
    is finished then, without sound. A camera that vanishes is waited for, 10 seconds.

    With --json, every second is a line of JSON on stdout, and the last line is the summary. A virtual camera needs
    pyvirtualcam, which is not part of this package (its licence is the GPL), and OBS or, on Linux, v4l2loopback.
    """

    artefact: Path | None = argument(
        "the folder that export wrote (default: that of this package)", "ARTEFACT", nargs="?"
    )
    camera: str = option("its number or path; a video file is played at its own rate", "0", metavar="N")
    resolution: Size | None = option(
        "ask the camera for this size", metavar="WIDTHxHEIGHT", parse=picture_size(16, 8192)
    )
    rate: float | None = option(
        "ask the camera for so many frames a second", metavar="N", parse=real("a rate", lambda value: 0 < value <= 1000)
    )
    frames: int | None = option("end after so many frames", metavar="N", parse=positive)
    background: str | None = option(
        "a colour ('#00ff00', white), a picture (beach.jpg) or a video", metavar="B", group="result"
    )
    blur: bool = option("blur the background (default, if there is no --background)", default=False)
    people: Who = option(
        "whose alpha is kept where several people stand apart", "all", metavar="largest|all|N", parse=people
    )
    no_stabilise: bool = option("leave every matte as the network gives it", default=False)
    record: Path | None = option("write a video file: .mp4, .mov, .mkv, .webm", group="where to")
    force: bool = option("replace a recording that exists", default=False)
    virtual_camera: bool = option("be a camera for other programs", default=False)
    no_window: bool = option("open no window", default=False)
    size: Size | None = option(f"the default artefact's input size (default: {SIZE})", group="inference")
    runtime: Runtime = group(Runtime)


def run(args: Arguments, console: Console) -> None:
    """Matte until it is ended; a status every second."""
    if args.background is not None and args.blur:
        raise UsageError("--background and --blur are two things", hint="leave one of them out")
    if args.size is not None and args.artefact is not None:
        raise UsageError(f"--size is for the default artefact: {args.artefact} has its own")
    behind = None if args.background is None else as_array(read_behind(args.background))
    _check_recording(args, behind)
    with ExitStack() as stack:
        effect = renderer("blur" if behind is None else "composite", stack, behind, Effect(colours="fast"))
        source, form = _camera(args)
        stack.callback(source.close)
        sinks: list[Sink] = []
        for opened in _sinks(args, form, console):
            stack.enter_context(opened)
            sinks.append(opened)
        artefact = args.artefact or default_artefact(args.size or SIZE, console)
        matting = stack.enter_context(Matting(artefact, **vars(args.runtime), dtype="uint8", select=args.people))
        stream = stack.enter_context(MattingStream(source, matting, stabilise=not args.no_stabilise, effect=effect))
        meter, ended = _Meter(), None
        with console.status("live") as tell:
            try:
                for result in stream:
                    for sink in sinks:
                        sink.write(result.frame, cast(Pixels, result.picture))
                    if (status := meter.add(result)) is not None:
                        console.line(status) if console.json else tell(_line(status))
                    if meter.frames == args.frames:
                        break
            except WindowClosedError:
                pass
            except (KeyboardInterrupt, InputError) as error:  # what has been recorded is finished all the same
                ended = error
    report = meter.report(args, artefact, matting)
    if console.json:
        console.line(report, ended)
    else:
        console.emit(report, [_line(report)])
    if ended is not None:
        raise ended


def _check_recording(args: Arguments, behind: object) -> None:
    """Whether a recording would replace what must stay."""
    if args.record is None or not args.record.exists():
        return
    if not args.force:
        raise OutputError(f"{args.record} exists", hint="--force replaces it")
    for what, path in (("camera", Path(args.camera)), ("background", behind)):
        if isinstance(path, Path) and path.is_file() and path.samefile(args.record):
            raise OutputError(f"{args.record} is the {what} and is not overwritten", hint="choose another --record")


def _camera(args: Arguments) -> tuple[Source, Format]:
    """Where the frames come from, and how a recording of them is timed and coloured."""
    if args.camera.isdecimal() or not Path(args.camera).is_file():
        device = int(args.camera) if args.camera.isdecimal() else args.camera
        return CameraSource(device, args.resolution, args.rate), Format()
    clip = FileSource(args.camera)
    return PacedSource(clip), clip.info.format


def _sinks(args: Arguments, form: Format, console: Console) -> Iterator[FileSink | VirtualCameraSink | WindowSink]:
    """Where the pictures go; what was asked for and is not there is an error, but for the window."""
    if args.virtual_camera:
        yield VirtualCameraSink(args.rate or 30.0)
    if args.record is not None:
        yield FileSink(args.record, form)
    if not args.no_window:
        try:
            yield WindowSink()
        except MissingError as error:
            console.note(f"{error} ({error.hint})")


class _Meter:
    """Counts frames, and says once a second how it goes."""

    def __init__(self) -> None:
        self.frames = self._dropped = 0
        self._start = self._since = time.perf_counter()
        self._last: list[Timings] = []
        self._ages: deque[float] = deque(maxlen=_KEPT)

    def add(self, result: Matted) -> Status | None:
        """Count a frame; the status, if its second is over."""
        self.frames += 1
        self._dropped = result.dropped
        self._last.append(result.timings)
        self._ages.append(result.timings.age)
        now = time.perf_counter()
        if now - self._since < _EVERY:
            return None
        medians = np.median(np.array(self._last), axis=0).round(2).tolist()
        fps = round(len(self._last) / (now - self._since), 1)
        self._since, self._last = now, []
        times = dict(zip(Timings._fields, medians, strict=True))
        return Status(self.frames, self._dropped, fps, times["age"], times)

    def report(self, args: Arguments, artefact: Path, matting: Matting) -> LiveReport:
        """What came of it."""
        seconds = time.perf_counter() - self._start
        median, p99 = np.percentile(self._ages, [50, 99]).round(1).tolist() if self._ages else (None, None)
        info = matting.info
        return LiveReport(
            artefact, info.target, info.trained, args.camera, self.frames, self._dropped, round(seconds, 2),
            round(self.frames / seconds, 1), median, p99, args.record,
        )  # fmt: skip


def _line(status: Status | LiveReport) -> str:
    age = status.age if isinstance(status, Status) else status.age_median
    aged = "" if age is None else f", age {age:.0f} ms"
    return f"{status.frames} frames, {status.fps:.1f} a second{aged}, {status.dropped} dropped"
