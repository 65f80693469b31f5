"""``p3m-edge run``: matte pictures and videos."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from p3m_edge.atomic import is_aside
from p3m_edge.bulk.matte import MatteWork, find_pictures, read_artefact
from p3m_edge.bulk.store import address, is_remote
from p3m_edge.cli import bulk, videos
from p3m_edge.cli.default_artefact import default_artefact
from p3m_edge.cli.options import argument, given, group, option
from p3m_edge.cli.options.shared import Bulk, Runtime
from p3m_edge.cli.options.values import SIZE, Size, gigabytes, people, pixels, real, share
from p3m_edge.cli.ui import Console, Part, progress
from p3m_edge.cli.verbs import unfinished
from p3m_edge.data.recipe import make_folder
from p3m_edge.errors import InputError, P3MEdgeError, UsageError
from p3m_edge.imageio import MAX_PIXELS, Picture
from p3m_edge.manifest import MANIFEST, REJECTED_SUFFIX, Manifest
from p3m_edge.pictures.batch import RESULTS_EXIST, Job, Outcome, identities, matte_all
from p3m_edge.pictures.memory import EFFECTS, Budget
from p3m_edge.pictures.results import KINDS, Recipe, read_background
from p3m_edge.pictures.sources import (
    STANDARD_INPUT,
    Names,
    Sources,
    collect,
    expanded,
    read_names,
    with_pages,
)
from p3m_edge.pictures.watch import watch
from p3m_edge.runtimes import Matting
from p3m_edge.runtimes.compose import Effect
from p3m_edge.runtimes.contract import Hint
from p3m_edge.runtimes.people import Who
from p3m_edge.table import Styled, table
from p3m_edge.video.codecs import is_video

EXAMPLES = """
p3m-edge run portrait.jpg --out mattes
p3m-edge run out/demo/openvino-fp16 portrait.jpg --out mattes
p3m-edge run out/demo/onnx-fp32 photos/ --recursive --out mattes
p3m-edge run out/demo/onnx-fp32 portrait.jpg --out mattes --background '#00ff00'
p3m-edge run out/demo/onnx-fp32 portrait.jpg --out mattes --cutout --background beach.jpg --blur
p3m-edge run group.jpg --out mattes --people largest
find photos -newer last -print0 | p3m-edge run --files-from - --out mattes
p3m-edge run incoming --out mattes --watch --json-lines
p3m-edge run portrait.jpg --out mattes --background beach.jpg --light-wrap 0.4 --feather 1 --linear
p3m-edge run clip.mp4 --out clip-green.mp4 --background '#00ff00'
p3m-edge run clip.mp4 --out clip-beach.mp4 --background beach.mp4
p3m-edge run clip.mp4 --out clip-cut.mov --cutout
p3m-edge run clip.mp4 --out layers --layers --resume
p3m-edge run frames --rate 25 --out clip.mp4 --background white
p3m-edge run s3://bucket/photos --recursive --out s3://bucket/mattes --executor ray
"""
_FEW = 5  # up to so many pictures, each one's files are listed, and what must be known about them
_OF_VIDEOS = ("codec", "layers", "mute", "no_stabilise")
_UNTRAINED = "the weights of this artefact are stand-ins and NOT TRAINED: its mattes mean nothing"


@dataclass(frozen=True)
class RunReport:
    """The result of a run. ``trained`` is false for stand-in weights; ``left_out`` are earlier results."""

    artefact: Path
    target: str
    trained: bool
    out: Path | str
    done: int
    skipped: int
    failed: int
    left_out: int
    pictures: tuple[Outcome, ...]


@dataclass(frozen=True)
class Arguments:
    """Matte pictures or videos, with an artefact that export wrote, or with the one that is in this package. With
    OpenVINO and PyTorch a faster one is made at the first run, and kept in the user's cache. Each picture gives, below
    --out and in the sub-folder it came from,
      <stem>.alpha.png      the alpha matte (grey)
      <stem>.cutout.png     the subject on transparency, straight colour
      <stem>.composite.png  the subject on --background
      <stem>.blur.png       the subject on its own background, blurred
    Without --alpha, --cutout, --background or --blur: alpha and cut-out. 16-bit pictures give 16-bit results. What is
    transparent in a picture stays transparent in its results.
    Pictures that would share a name keep their suffix in it (1.jpg.alpha.png); of several folders, each keeps its name.
    With --pages all, every page or frame of a file is a picture (scan-2.alpha.png).

    Several pictures are read, matted and written at the same time; reports keep the order of the inputs. With --watch,
    a picture is complete when two looks, half a second apart, find the same file, of one size and time.

    Inputs are never overwritten. Results that exist are left alone and only what is missing is made; --force replaces
    them. In a folder, pictures that p3m-edge wrote are not taken as inputs. A picture that cannot be used does not stop
    the others: it is named at the end, and the exit code is 1. Every file appears complete or not at all.

    Of videos (extra `video`), --out is one file, .mp4, .mov, .mkv or .webm, for one kind of result, or a folder for
    several: <stem>.composite.mp4 and so on, a cut-out as ProRes 4444 in .mov. They have the frames, time stamps, bits
    and colours of the video and its audio, copied; mattes are stabilised in time. A run that was killed has kept whole
    segments in a hidden folder beside the result: --resume goes on there.
    """

    artefact: Path | None = argument(
        "the folder that export wrote (default: that of this package)", "ARTEFACT", nargs="?"
    )
    inputs: tuple[Path, ...] = argument(
        "a picture, a folder of pictures, a pattern ('in/**/*.jpg'), or a video", "INPUT", nargs="*"
    )
    files_from: Path | None = option(
        "also the inputs named in this file, one a line or with NULs between them; -: in standard input"
    )
    out: Path = option("the folder that the results go to; of a video, also a file", metavar="OUT", required=True)
    recursive: bool = option(
        "also the pictures in sub-folders; linked ones are followed, and each folder is looked into once", default=False
    )
    watch: bool = option(
        "go on with pictures that come into the folders, when they are complete, until Ctrl-C", default=False
    )
    json_lines: bool = option(
        "a line of JSON on stdout for each input when its turn is over, then the counts", default=False
    )
    force: bool = option("replace results that exist (never an input)", default=False)
    pages: Literal["first", "all"] = option(
        "of files with several pages or frames (TIFF, GIF, WebP, AVIF) the first one, or each", "first"
    )
    max_megapixels: int = option("refuse larger pictures", MAX_PIXELS // 1_000_000)
    max_memory: float | None = option(
        "for all pictures at work (default: what is free): others wait, and one that takes more alone is refused. Each "
        "megapixel of 8 bits a channel takes up to 14 MB for an alpha, 20 for a blurred background, 26 for a cut-out "
        "or composite, 12 more with --feather or --light-wrap; 16 bits a channel take nearly three times as much, "
        "transparency 16 MB more",
        metavar="GB", parse=gigabytes,
    )  # fmt: skip
    alpha: bool = option("write the alpha matte", default=False, group="results")
    cutout: bool = option("write the subject on transparency", default=False)
    background: str | None = option(
        "write a composite on a colour ('#00ff00', white), a picture (beach.jpg), or, of videos, a video", metavar="B"
    )
    blur: bool = option("write a composite on the blurred background", default=False)
    people: Who = option(
        "whose alpha is kept where several people stand apart: the largest one's, all, or so many of the largest; "
        "those who touch stay together",
        "all", metavar="largest|all|N", parse=people,
    )  # fmt: skip
    feather: float = option("soften the edges, by a blur of so many pixels", 0.0, metavar="PX", parse=pixels)
    light_wrap: float = option(
        "let the background's light fall on the subject's edges, 0 to 1", 0.0, metavar="SHARE", parse=share
    )
    linear: bool = option("mix light, not the pictures' values: lighter soft edges", default=False)
    codec: Literal["h264", "hevc", "vp9", "prores", "qtrle", "png"] | None = option(
        "of the results; png: folders of PNG files (default: h264, of cut-outs prores)", group="videos"
    )
    rate: float | None = option(
        "an input that is a folder is a video of its numbered pictures, at so many frames a second", metavar="N",
        parse=real("a rate", lambda value: 0 < value <= 1000),
    )  # fmt: skip
    layers: bool = option("write the frames themselves and the cut-out as two videos, for editors", default=False)
    mute: bool = option("leave the audio out", default=False)
    resume: bool = option(
        "go on where a run that ended early was; of pictures that is always so, unless with --force", default=False
    )
    no_stabilise: bool = option("leave every matte as the network gives it", default=False)
    resize: Literal["stretch", "letterbox"] = option(
        "how a picture becomes the network's input", "stretch", group="inference"
    )
    size: Size | None = option(f"the default artefact's input size, multiples of 32 (default: {SIZE})")
    runtime: Runtime = group(Runtime)
    bulk: Bulk = group(Bulk, "many machines")

    def kinds(self) -> tuple[str, ...]:
        """Which results are made of each picture."""
        wanted = (self.alpha, self.cutout, self.background is not None, self.blur)
        return tuple(kind for kind, asked in zip(KINDS, wanted, strict=True) if asked) or ("alpha", "cutout")

    def split(self) -> tuple[Path | None, list[Path]]:
        """The artefact, if one was named, and the inputs.

        The first word is an artefact if it is a folder with a manifest, or has the name of a rejected one, which
        :class:`Matting` then refuses. :class:`UsageError`: no input is left, or a size was given for an artefact, which
        has its own. :class:`InputError`: none of the inputs is there, so no artefact is made for them; or the list of
        them cannot be read.
        """
        words: list[Path] = [*filter(None, [self.artefact]), *self.inputs]
        chosen = words.pop(0) if words and _is_artefact(words[0]) else None
        if chosen is not None and self.size is not None:
            text = f"--size is for the default artefact: {chosen} has its own"
            raise UsageError(text, hint="leave one of them out")
        if STANDARD_INPUT in words and not STANDARD_INPUT.exists():
            raise UsageError("- is no input", hint="--files-from - reads names from standard input")
        words = expanded(words) + ([] if self.files_from is None else read_names(self.files_from))
        if not words:
            of = "" if chosen is None else f" for the artefact {chosen}"
            raise UsageError(f"no pictures were named{of}", hint="see: p3m-edge run --help")
        stores = [word for word in words if is_remote(word)]
        if stores and self.bulk.executor == "local":
            raise UsageError(f"{address(stores[0])} is in a store", hint="--executor ray takes pictures from stores")
        if chosen is None and not stores and not any(map(os.path.exists, words)):
            raise InputError(f"{words[0]} does not exist" if len(words) == 1 else "none of the inputs exists")
        return chosen, words


def _is_artefact(path: Path) -> bool:
    return os.path.lexists(path / MANIFEST) or is_aside(path) or path.resolve().name.endswith(REJECTED_SUFFIX)


def run(args: Arguments, console: Console) -> None:
    """Matte every picture or video; those that fail are named at the end."""
    memory = None if args.max_memory is None else int(args.max_memory * 1e9)
    effect = Effect(feather=args.feather, light_wrap=args.light_wrap, linear=args.linear)
    more = EFFECTS if args.feather or args.light_wrap else 0
    budget = Budget(args.max_megapixels * 1_000_000, memory, more)
    chosen, words = args.split()
    named = any(is_video(word) and not os.path.isdir(word) for word in words)  # noqa: PTH112 - also of impossible names
    if named or args.rate is not None:
        if args.watch:
            raise UsageError("--watch is for folders of pictures, and there is a video among the inputs")
        if args.bulk.executor == "ray":
            raise UsageError("--executor ray is for pictures, and there is a video among the inputs")
        shown = None if args.background is None else videos.read_behind(args.background, budget.max_pixels)
        _warn_of(shown, console)
        videos.run(args, words, shown, effect, lambda: _opened(args, chosen, console, args.people), console)
        return
    behind = None if args.background is None else read_background(args.background, budget.max_pixels)
    _warn_of(behind, console)
    if wrong := [flag for name, flag in given(args) if name in _OF_VIDEOS]:
        raise UsageError(f"{wrong[0]} is for videos, and there are none among the inputs")
    if is_video(args.out) and not args.out.is_dir():
        raise UsageError(
            f"{args.out} is named as a video, and there are none among the inputs",
            hint="name a folder; --rate 25 makes videos of folders",
        )
    if args.resume and args.force:
        raise UsageError("--resume leaves the results of pictures alone, and --force replaces them")
    recipe = Recipe(args.kinds(), behind, args.force, args.people, effect)
    if args.bulk.executor == "ray":
        _run_on_ray(args, chosen, words, recipe, (budget.max_pixels, memory, more), console)
        return
    if is_remote(args.out):
        raise UsageError(f"{address(args.out)} is in a store", hint="--executor ray writes to stores")
    hint: Hint = "throughput"
    if args.watch:
        rounds = watch(words, recursive=args.recursive)
        console.note(f"watching {', '.join(map(str, words))}: Ctrl-C ends it")
    else:
        found = collect(words, recursive=args.recursive)
        rounds = iter([found])
        hint = "latency" if len(found.pictures) == 1 else hint
    with _opened(args, chosen, console, hint=hint) as matting:
        make_folder(args.out)
        done = _Done(args, console, chosen or matting.folder, matting.manifest)
        ended = None
        try:
            _matte(Job(matting, args.out, recipe, budget, set()), rounds, done)
        except KeyboardInterrupt as error:
            if not args.watch:
                raise
            ended = error
    done.tell(ended)


def _run_on_ray(
    args: Arguments, chosen: Path | None, words: Sequence[Path], recipe: Recipe, limits: tuple[int, int | None, int],
    console: Console,
) -> None:  # fmt: skip
    """Matte the pictures by Ray's workers, and report as without it."""
    if args.watch or args.pages == "all":
        raise UsageError(f"{'--watch' if args.watch else '--pages all'} is not for --executor ray")
    bulk.check_places(words, args.out)
    items, found = find_pictures(words, recipe, recursive=args.recursive)
    with _opened(args, chosen, console) as matting:  # what is wrong with it is said here, and not by every worker
        folder, manifest, device = matting.folder, matting.manifest, args.runtime.device
    files = read_artefact(folder)
    work = MatteWork(address(args.out), files, replace(recipe, force=True), limits, args.resize, device)
    done = _Done(args, console, chosen or folder, manifest)
    done.left_out = len(found.own)
    for path, reason in found.failures:
        done.add(Outcome(path, "failed", reason=reason))
    _, stopped = bulk.process(work, args.out, items, done.add, console, args.bulk, args.runtime, force=args.force)
    done.tell(None, stopped)


def _warn_of(background: object, console: Console) -> None:
    if isinstance(background, Picture) and background.alpha is not None:
        console.warn(f"the background {background.path} is transparent in places; it is shown on white")


def _matte(job: Job, rounds: Iterable[Sources], done: _Done) -> None:
    """Matte the pictures that are found, and again those that are found then."""
    behind, names, protected = job.recipe.background, Names(), set[object]()
    if isinstance(behind, Picture):
        protected |= identities(behind.path)
    job = replace(job, protected=protected)
    with progress(done.console) as bars:
        for found in rounds:
            done.left_out += len(found.own)
            for path, reason in found.failures:
                done.add(Outcome(path, "failed", reason=reason))
            for source in found.pictures:
                protected |= identities(source.path)
            pictures = with_pages(found.pictures, job.budget.max_pixels) if done.args.pages == "all" else found.pictures
            with closing(matte_all(job, names.of(pictures), step=bars.progress, trace=done.console.trace)) as outcomes:
                for outcome in outcomes:
                    done.add(outcome)


class _Done:
    """What has been done, and how it is told: with each picture where lines are wanted, and in the end."""

    def __init__(self, args: Arguments, console: Console, artefact: Path, manifest: Manifest) -> None:
        self.args, self.console, self.left_out = args, console, 0
        self._artefact, self._manifest = artefact, manifest
        self._outcomes: list[Outcome] = []

    def add(self, outcome: Outcome) -> None:
        """Count a picture."""
        self._outcomes.append(outcome)
        if self.console.lines:
            self.console.line(outcome)
        elif self.args.watch and not self.console.json:
            why = f": {outcome.reason}" if outcome.reason else ""
            self.console.note(f"{outcome.input}: {outcome.status}{why}")

    def tell(self, ended: KeyboardInterrupt | None, stopped: P3MEdgeError | None = None) -> None:
        """The report; it raises what ended or stopped the run, or says that pictures failed."""
        _tell_remarks(self._outcomes, self.console)
        count, manifest = Counter(outcome.status for outcome in self._outcomes), self._manifest
        report = RunReport(
            self._artefact, manifest.target, manifest.model.trained, bulk.place(self.args.out), count["done"],
            count["skipped"], count["failed"], self.left_out, tuple(self._outcomes),
        )  # fmt: skip
        error = stopped or (None if ended else _error(report))
        self.console.emit(replace(report, pictures=()) if self.console.lines else report, _render(report), error)
        if ended:
            raise ended


def _opened(
    args: Arguments, named: Path | None, console: Console, people: Who = "all", hint: Hint = "latency"
) -> Matting:  # fmt: skip
    """The artefact that was named, or the default one."""
    artefact, where = named or default_artefact(args.size or SIZE, console), vars(args.runtime)
    check = named is not None  # the default one is checked
    matting = Matting(artefact, **where, hint=hint, resize=args.resize, check=check, select=people)
    if not matting.manifest.model.trained:
        console.warn(_UNTRAINED)
    return matting


def _tell_remarks(outcomes: Sequence[Outcome], console: Console) -> None:
    """Say what must be known about files; that of more than a few pictures in one line."""
    found = [(outcome.input, remark) for outcome in outcomes for remark in outcome.remarks]
    for path, remark in found[:_FEW]:
        console.warn(f"{path}: {remark}")
    if len(found) > _FEW:
        console.warn(f"there are {len(found) - _FEW} more remarks of this kind; --json lists all of them")
    if any(remark.startswith("the first of ") for _, remark in found):
        console.note("hint: --pages all mattes every page and frame")


def _error(report: RunReport) -> P3MEdgeError | None:
    if report.failed and len(report.pictures) == 1:
        return InputError(f"{report.pictures[0].input}: {report.pictures[0].reason}")
    return unfinished(report.failed, len(report.pictures), "inputs failed")


def _render(report: RunReport) -> Iterator[Part]:
    done = [picture for picture in report.pictures if picture.status == "done"]
    if 0 < len(done) <= _FEW:
        yield table("results", "picture|files", ((str(p.input), ", ".join(map(str, p.outputs))) for p in done))
    if report.failed and len(report.pictures) > 1:
        failed = (picture for picture in report.pictures if picture.status == "failed")
        yield table("failed", "input|why", (Styled((str(p.input), p.reason or ""), "red") for p in failed))
    skipped = {picture.reason for picture in report.pictures if picture.status == "skipped"}
    exist = " (their results exist; --force replaces them)" if skipped == {RESULTS_EXIST} else ""
    left_out = f", {report.left_out} earlier results left out" if report.left_out else ""
    counts = f"{report.done} done, {report.skipped} skipped{exist}, {report.failed} failed{left_out}"
    yield f"{counts}; results in {report.out}"
