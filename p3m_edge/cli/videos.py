"""``p3m-edge run`` on videos: which files it makes of each, and what it says about them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Literal

from p3m_edge import imageio
from p3m_edge.arrays import Array
from p3m_edge.cli.ui import Console, Part, progress
from p3m_edge.cli.verbs import unfinished
from p3m_edge.data.recipe import make_folder
from p3m_edge.errors import InputError, OutputError, P3MEdgeError, UsageError
from p3m_edge.imageio import Picture
from p3m_edge.pictures.results import Colour, read_background
from p3m_edge.pictures.sources import Source, collect, output_names
from p3m_edge.table import Styled, table
from p3m_edge.video import VideoBackground
from p3m_edge.video.codecs import OF_CODEC, is_video
from p3m_edge.video.convert import Kind, matte_video
from p3m_edge.video.draft import folder_of

if TYPE_CHECKING:
    from p3m_edge.cli.verbs.run import Arguments
    from p3m_edge.runtimes import Matting
    from p3m_edge.runtimes.compose import Effect

_LINES = 20  # of progress, where there is no terminal


@dataclass(frozen=True)
class VideoOutcome:
    """The result of one video.

    ``outputs`` are the files, or folders of PNG files, that are there now; ``resumed`` of the ``frames`` an earlier run
    had made; ``milliseconds`` are medians over the frames.
    """

    input: Path
    status: Literal["done", "skipped", "failed"]
    outputs: tuple[Path, ...] = ()
    reason: str | None = None
    frames: int = 0
    resumed: int = 0
    width: int | None = None
    height: int | None = None
    seconds: float = 0.0
    milliseconds: dict[str, float] | None = None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class VideoReport:
    """The result of a run on videos. ``trained`` is false for stand-in weights."""

    artefact: Path
    target: str
    trained: bool
    done: int
    skipped: int
    failed: int
    videos: tuple[VideoOutcome, ...]


def run(
    args: Arguments, words: Sequence[Path], behind: Colour | Picture | Path | None, effect: Effect,
    opened: Callable[[], Matting], console: Console,
) -> None:  # fmt: skip
    """Matte every video; those that fail are named at the end. :class:`UsageError`: there are pictures among them."""
    folders = [word for word in words if word.is_dir()]
    if args.rate is not None and not folders:
        raise UsageError("--rate is for a folder of pictures, and there is none among the inputs")
    taken = folders if args.rate is not None else []
    if others := [word for word in words if word not in taken and (word in folders or not is_video(word))]:
        other = others[0]
        raise UsageError(f"{other} is no video, as others of the inputs are", hint="matte pictures in a run of its own")
    files = collect([word for word in words if word not in folders]).pictures
    sources = (*files, *(Source(folder, PurePath()) for folder in folders))
    wanted = [_outputs(args, name) for name in output_names(sources)]
    single = is_video(args.out) and not args.out.is_dir()
    if single and (len(wanted) > 1 or len(wanted[0]) > 1):
        raise UsageError(f"{args.out} is one file, and there are several results", hint="name a folder as --out")
    if single and args.codec == "png":
        raise UsageError(f"--codec png makes folders of PNG files, and {args.out} is a file")
    background = as_array(behind)
    with opened() as matting:
        make_folder(args.out.parent if single else args.out)
        outcomes = []
        for source, outputs in zip(sources, wanted, strict=True):
            outcomes.append(_process(args, source.path, outputs, matting, background, effect, console))
            if console.lines:
                console.line(outcomes[-1])
        count = Counter(outcome.status for outcome in outcomes)
        manifest, folder = matting.manifest, matting.folder
    report = VideoReport(
        folder,
        manifest.target,
        manifest.model.trained,
        count["done"],
        count["skipped"],
        count["failed"],
        tuple(outcomes),
    )
    console.emit(replace(report, videos=()) if console.lines else report, _render(report), _error(report))


def _outputs(args: Arguments, name: PurePath) -> dict[Kind, Path]:
    """The file of each kind of result of one video."""
    suffix = args.out.suffix.lower()
    asked: tuple[tuple[Kind, bool], ...] = (
        ("alpha", args.alpha), ("cutout", args.cutout or args.layers), ("composite", args.background is not None),
        ("blur", args.blur), ("base", args.layers),
    )  # fmt: skip
    kinds = [kind for kind, wanted in asked if wanted]
    if is_video(args.out) and not args.out.is_dir():
        kinds = kinds or ["cutout" if suffix in (".mov", ".webm") else "alpha"]
        return dict.fromkeys(kinds, args.out)
    outputs: dict[Kind, Path] = {}
    for kind in kinds or ["alpha", "cutout"]:
        if args.codec == "png":
            outputs[kind] = args.out / name.parent / f"{name.name}.{kind}"
            continue
        codec = args.codec or ("prores" if kind == "cutout" else "h264")
        outputs[kind] = args.out / name.parent / f"{name.name}.{kind}{OF_CODEC[codec]}"
    return outputs


def read_behind(text: str, max_pixels: int = imageio.MAX_PIXELS) -> Colour | Picture | Path:
    """A background of videos and cameras: what pictures may have, or the path of a video that can be read."""
    path = Path(text).expanduser()
    if not is_video(path):
        return read_background(text, max_pixels)
    VideoBackground(path).close()  # or say so at once, and not of each video
    return path


def as_array(behind: Colour | Picture | Path | None) -> Colour | Array | Path | None:
    """A background as videos take it, in sRGB; a picture that is transparent in places is on white."""
    if not isinstance(behind, Picture):
        return behind
    return behind.rgb if behind.alpha is None else imageio.flatten(behind.rgb, behind.alpha, 255)


def _process(
    args: Arguments, source: Path, outputs: dict[Kind, Path], matting: Matting,
    background: Colour | Array | Path | None, effect: Effect, console: Console,
) -> VideoOutcome:  # fmt: skip
    """Matte one video; what is wrong with it, or with its files, is an outcome."""
    paths = tuple(outputs.values())
    missing = {kind: path for kind, path in outputs.items() if args.force or not path.exists()}
    if not missing:
        return VideoOutcome(source, "skipped", paths, "its results exist")
    try:
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
        with progress(console, lines=_LINES) as bars:
            done = matte_video(
                source, dict(missing), matting, background=background if "composite" in missing else None,
                effect=effect, codec=None if args.codec == "png" else args.codec, stabilise=not args.no_stabilise,
                audio=not args.mute, resume=args.resume, rate=args.rate if source.is_dir() else None,
                progress=partial(_tell, bars.progress, source, _Clock()),
            )  # fmt: skip
    except (InputError, OutputError) as error:
        console.trace(error)
        hint = f" ({error.hint})" if error.hint else ""
        return VideoOutcome(source, "failed", paths, f"{str(error).removeprefix(f'{source} ')}{hint}")
    finally:
        if not args.resume and any(folder_of(path).exists() for path in missing.values()):
            console.note(f"hint: {source} goes on where it was with --resume")
    for remark in done.remarks:
        console.warn(f"{source}: {remark}")
    return VideoOutcome(
        source, "done", paths, None, done.frames, done.resumed, done.width, done.height, round(done.seconds, 3),
        done.milliseconds, done.remarks,
    )  # fmt: skip


class _Clock:
    """When the first frame of a run was done, and which it was."""

    start: tuple[float, int] | None = None


def _tell(show: Callable[[str, int, int], None], source: Path, clock: _Clock, done: int, total: int | None) -> None:
    """Show how far it is, how fast, and how much time is left."""
    now = time.monotonic()
    clock.start = clock.start or (now, done)
    text, (since, first) = source.name, clock.start
    if now - since > 1:
        rate = (done - first) / (now - since)
        left = f", {(total - done) / rate:.0f} s left" if total and total > done else ""
        text += f": {rate:.1f} frames/s{left}"
    show(text, done, max(done, total or 0))


def _error(report: VideoReport) -> P3MEdgeError | None:
    if report.failed and len(report.videos) == 1:
        (video,) = report.videos
        return InputError(f"{video.input}: {video.reason}")
    return unfinished(report.failed, len(report.videos), "videos failed")


def _render(report: VideoReport) -> Iterator[Part]:
    done = [video for video in report.videos if video.status == "done"]
    if done:
        yield table("results", "video|frames|frames/s|files", map(_row, done))
    if report.failed and len(report.videos) > 1:
        failed = (video for video in report.videos if video.status == "failed")
        yield table("failed", "input|why", (Styled((str(v.input), v.reason or ""), "red") for v in failed))
    exist = " (their results exist; --force replaces them)" if report.skipped else ""
    yield f"{report.done} done, {report.skipped} skipped{exist}, {report.failed} failed"


def _row(video: VideoOutcome) -> tuple[str, ...]:
    rate = (video.frames - video.resumed) / max(video.seconds, 1e-3)
    return str(video.input), str(video.frames), f"{rate:.1f}", ", ".join(map(str, video.outputs))
