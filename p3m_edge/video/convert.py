"""One video file becomes others: every frame matted, composed and written, with its time stamp and the audio."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path
from time import perf_counter
from typing import Literal, cast, get_args

import msgspec
import numpy as np

from p3m_edge import arguments
from p3m_edge.arrays import Array, Pixels
from p3m_edge.errors import InputError, OutputError, UsageError, one_of
from p3m_edge.imageio import list_images
from p3m_edge.metrics import as_float32
from p3m_edge.runtimes import Matting, compose
from p3m_edge.video.background import Applied, VideoBackground
from p3m_edge.video.codecs import Codec, choose, is_video
from p3m_edge.video.draft import Draft, FileDraft, SequenceDraft
from p3m_edge.video.frame import Alpha, Timings
from p3m_edge.video.read import FileSource
from p3m_edge.video.source import SequenceSource
from p3m_edge.video.stream import MattingStream, Render, TimedRender, rendered
from p3m_edge.video.write import check_audio

Kind = Literal["alpha", "cutout", "composite", "blur", "base"]
"""The matte in grey; the subject with an alpha channel; on another background; before its own background, blurred; the
frames as they are, as the layer below the cut-out."""
KINDS: tuple[Kind, ...] = get_args(Kind)
Behind = Sequence[int] | Array | str | Path
"""A background: three values in 0..255, a picture ``[h, w, 3]``, or a video file."""
_SAMPLES = 100  # frames whose times are kept
_WARM_UP = 15  # frames before the first one that is wanted, which the stabiliser sees


@dataclass(frozen=True)
class Converted:
    """What came of a video.

    Attributes
    ----------
    outputs
        The files, or folders of PNG files.
    frames, resumed
        How many each of them has; how many of these an earlier run had made.
    width, height
        Of the frames.
    seconds
        That it took.
    milliseconds
        The median over the last frames of each part of the work: those of :class:`~p3m_edge.video.frame.Timings`, where
        ``composed`` is for all outputs, and ``written``.
    remarks
        What must be known about the frames.
    """

    outputs: dict[Kind, Path]
    frames: int
    resumed: int
    width: int
    height: int
    seconds: float
    milliseconds: dict[str, float]
    remarks: tuple[str, ...]


def matte_video(
    source: str | Path, outputs: Mapping[Kind, str | Path], matting: Matting, *,
    background: Behind | None = None, effect: compose.Effect | None = None, codec: Codec | None = None,
    stabilise: bool = True, audio: bool = True, resume: bool = False, rate: float | None = None,
    progress: Callable[[int, int | None], None] = lambda done, of: None,
) -> Converted:  # fmt: skip
    """Matte a video file: as many frames as it has, with their time stamps, in the colours and bits of the source.

    Results appear when they are complete; until then their segments are in a folder beside them (``.clip.mp4.parts``),
    which stays if the run ends early.

    Parameters
    ----------
    source
        Any file that FFmpeg reads, or, with a ``rate``, a folder of numbered pictures.
    outputs
        For each kind the file that is written, or replaced: .mp4, .m4v, .mov, .mkv or .webm; any other name is a folder
        of PNG files. ``base`` and ``cutout`` are layers of equal length.
    matting
        An open artefact whose frames are RGB.
    background
        For ``composite``: three values in 0..255, a picture ``[h, w, 3]``, or the path of a video, of which each frame
        gets what is shown at its time (:class:`~p3m_edge.video.background.VideoBackground`).
    effect
        How pictures are mixed (feather, light wrap and others); the background is that of each kind.
    codec
        Of all video files; None: what is usual in each.
    stabilise, audio
        Steady the mattes in time; copy the audio of the source.
    resume
        Go on after the last whole segment of an earlier run with the same arguments.
    rate
        Of a folder of pictures, in frames a second.
    progress
        Called with the frames that are done, and how many there are as far as the source says.

    Raises
    ------
    UsageError
        The arguments do not fit together, or to the earlier run.
    MissingError
        PyAV, or an encoder, is absent.
    InputError, OutputError
        A file cannot be read, or a frame matted; a result cannot be written, or would replace one of the inputs.
    """
    start, path = perf_counter(), arguments.path("a video", source)
    paths = _checked(path, outputs, matting, background)
    with ExitStack() as stack:
        renders = {kind: renderer(kind, stack, background, effect) for kind in paths}
        clip = stack.enter_context(FileSource(path)) if rate is None else SequenceSource(path, rate)
        info = clip.info
        mixed = [getattr(effect, each.name, each.default) for each in fields(compose.Effect)[1:]]
        job = _job(path, matting, background, codec, stabilise, audio, mixed, rate)
        drafts = _drafts(paths, job, clip, codec, stack, audio=audio, resume=resume)
        done = min(draft.done for draft in drafts.values())
        for draft in drafts.values():
            draft.keep(done)
        clip.start = max(0, done - _WARM_UP)
        stream = stack.enter_context(MattingStream(clip, matting, stabilise=stabilise))
        times, frames = _write_all(stream, drafts, renders, done, info.frames, progress)
        if not frames:
            raise InputError(f"{path} has no frames")
        for draft in drafts.values():
            draft.finish()
    remarks = _remarks(clip, paths, renders.values())
    return Converted(paths, frames, done, info.width, info.height, perf_counter() - start, times, remarks)


def _remarks(
    clip: FileSource | SequenceSource, paths: Mapping[Kind, Path], renders: Iterable[Render | TimedRender]
) -> tuple[str, ...]:  # fmt: skip
    """What must be known about the source, the backgrounds and the results."""
    remarks = list(clip.remarks)
    for render in renders:
        if isinstance(render, VideoBackground):
            remarks += (f"the background: {remark}" for remark in render.remarks)
    if (clip.info.width % 2 or clip.info.height % 2) and any(map(is_video, paths.values())):
        remarks.append("odd sides have one row or column more in video files")
    return tuple(remarks)


def renderer(
    kind: Kind, stack: ExitStack, background: Behind | None = None, effect: compose.Effect | None = None
) -> Render | TimedRender:  # fmt: skip
    """What makes the pictures of a kind.

    Parameters
    ----------
    kind
        What is wanted.
    stack
        Closes what is open: a video as background.
    background
        For ``composite``.
    effect
        How it is mixed; its background is that of the kind.
    """
    if one_of("kind of result", kind, KINDS) == "alpha":
        return _grey
    if kind == "base":
        return lambda frame, alpha: frame
    mixed = effect or compose.Effect()
    if kind == "composite":
        if background is None:
            raise UsageError("a composite needs a background")
        if isinstance(background, str | Path):
            return stack.enter_context(VideoBackground(background, mixed))
        return Applied(replace(mixed, background=background))
    return Applied(replace(mixed, background="blur" if kind == "blur" else "transparent"))


def _grey(frame: Array, alpha: Alpha) -> Pixels:
    if alpha.dtype == frame.dtype:
        return cast(Pixels, alpha)
    return compose.quantized(as_float32("the alpha", alpha), frame.dtype)


def _checked(
    source: Path, outputs: Mapping[Kind, str | Path], matting: Matting, background: Behind | None
) -> dict[Kind, Path]:  # fmt: skip
    arguments.instance("the matting", matting, Matting)
    if not isinstance(outputs, Mapping) or not outputs:
        raise UsageError("the outputs are kinds with their files, at least one", hint=f"kinds: {', '.join(KINDS)}")
    paths = {one_of("kind of result", kind, KINDS): arguments.path("an output", path) for kind, path in outputs.items()}
    read = {"input": source}
    if isinstance(background, str | Path):
        read["background"] = arguments.path("a background", background)
    for path in paths.values():
        for what, each in read.items():
            if path.exists() and each.exists() and path.samefile(each):
                raise OutputError(f"{path} is the {what} and is not overwritten", hint="choose another --out")
        if path.is_dir() and is_video(path):
            raise OutputError(f"{path} is a folder")
    if len({path.resolve() for path in paths.values()}) < len(paths):
        raise UsageError("two kinds of result have the same file")
    if ("composite" in paths) != (background is not None):
        raise UsageError("a background and a composite belong together")
    return paths


def _drafts(
    paths: Mapping[Kind, Path], job: bytes, clip: FileSource | SequenceSource, codec: Codec | None, stack: ExitStack, *,
    audio: bool, resume: bool,
) -> dict[Kind, Draft]:  # fmt: skip
    """The results in the making, all of which can be written, as far as can be said now; the stack stops them."""
    codecs = {kind: choose(each, codec, alpha=kind == "cutout") for kind, each in paths.items() if is_video(each)}
    heard = clip.path if audio and clip.info.audio else None
    for kind in codecs:
        check_audio(clip.info.audio if heard else (), paths[kind])
    drafts: dict[Kind, Draft] = {}
    for kind, path in paths.items():
        own = kind.encode() + b" " + job
        if kind in codecs:
            drafts[kind] = FileDraft(
                path, own, clip.info.format, codecs[kind], alpha=kind == "cutout", audio=heard, resume=resume
            )
        else:
            drafts[kind] = SequenceDraft(path, own, resume=resume)
        stack.callback(drafts[kind].stop)
    return drafts


def _job(source: Path, matting: Matting, background: Behind | None, *options: object) -> bytes:
    """All that the frames of a result depend on, besides its kind."""
    behind: object = background
    if isinstance(background, np.ndarray):
        behind = hashlib.sha256(background.tobytes()).hexdigest()
    elif isinstance(background, str | Path):
        behind = _identity(Path(background))
    artefact = hashlib.sha256(msgspec.json.encode(matting.manifest)).hexdigest()
    parts = [_identity(source), artefact, matting.select, behind, *options]
    return msgspec.json.format(msgspec.json.encode(parts))


def _identity(path: Path) -> list[tuple[str, int, int]]:
    """A file, or the pictures of a folder, and what changes with their content."""
    files = [(each, each.stat()) for each in (list_images(path) if path.is_dir() else [path])]
    return [(str(each.resolve()), status.st_size, status.st_mtime_ns) for each, status in files]


def _write_all(
    stream: MattingStream, drafts: Mapping[Kind, Draft], renders: Mapping[Kind, Render | TimedRender], done: int,
    total: int | None, progress: Callable[[int, int | None], None],
) -> tuple[dict[str, float], int]:  # fmt: skip
    """Write the results of a stream; the median milliseconds of each part of the work, and the number of frames."""
    times: deque[list[float]] = deque(maxlen=_SAMPLES)
    for result in stream:
        if result.frame.index < done:
            continue
        began = perf_counter()
        pictures = {kind: rendered(renders[kind], result.frame, result.alpha) for kind in drafts}
        composed = perf_counter()
        for kind, draft in drafts.items():
            draft.write(result.frame, pictures[kind])
        parts = result.timings._replace(composed=1e3 * (composed - began))
        times.append([*parts, 1e3 * (perf_counter() - composed)])
        done = result.frame.index + 1
        progress(done, total)
    medians = np.median(np.array(times), axis=0).tolist() if times else ()
    return dict(zip((*Timings._fields, "written"), medians, strict=bool(times))), done
