"""``p3m-edge run``: matte pictures and videos."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from p3m_edge.atomic import is_aside
from p3m_edge.cli import videos
from p3m_edge.cli.default_artefact import default_artefact
from p3m_edge.cli.options import argument, given, group, option
from p3m_edge.cli.options.shared import Runtime
from p3m_edge.cli.options.values import SIZE, Size, gigabytes, people, pixels, share
from p3m_edge.cli.ui import Console, Part, progress
from p3m_edge.cli.verbs import unfinished
from p3m_edge.data.recipe import make_folder
from p3m_edge.errors import InputError, P3MEdgeError, UsageError
from p3m_edge.imageio import MAX_PIXELS, Picture
from p3m_edge.manifest import MANIFEST, REJECTED_SUFFIX
from p3m_edge.pictures.batch import Job, Outcome, identities, matte_all
from p3m_edge.pictures.memory import EFFECTS, Budget
from p3m_edge.pictures.results import KINDS, Recipe, read_background
from p3m_edge.pictures.sources import collect, output_names, with_pages
from p3m_edge.runtimes import Matting
from p3m_edge.runtimes.compose import Effect
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
p3m-edge run portrait.jpg --out mattes --background beach.jpg --light-wrap 0.4 --feather 1 --linear
p3m-edge run clip.mp4 --out clip-green.mp4 --background '#00ff00'
p3m-edge run clip.mp4 --out clip-cut.mov --cutout
p3m-edge run clip.mp4 --out layers --layers --resume
"""
_FEW = 5  # up to so many pictures, each one's files are listed, and what must be known about them
_OF_VIDEOS = ("codec", "layers", "mute", "resume", "no_stabilise")
_UNTRAINED = "the weights of this artefact are stand-ins and NOT TRAINED: its mattes mean nothing"


@dataclass(frozen=True)
class RunReport:
    """The result of a run. ``trained`` is false for stand-in weights; ``left_out`` are earlier results."""

    artefact: Path
    target: str
    trained: bool
    out: Path
    done: int
    skipped: int
    failed: int
    left_out: int
    pictures: tuple[Outcome, ...]


@dataclass(frozen=True)
class Arguments:
    """Matte pictures or videos, with an artefact that export wrote, or with the weights of this package: their artefact
    is made at the first run, which needs PyTorch, and kept in the user's cache. Each picture gives, below --out and in
    the sub-folder it came from,
      <stem>.alpha.png      the alpha matte (grey)
      <stem>.cutout.png     the subject on transparency, straight colour
      <stem>.composite.png  the subject on --background
      <stem>.blur.png       the subject on its own background, blurred
    Without --alpha, --cutout, --background or --blur: alpha and cut-out. 16-bit pictures give 16-bit results. What is
    transparent in a picture stays transparent in its results.
    Pictures that would share a name keep their suffix in it (1.jpg.alpha.png); of several folders, each keeps its name.
    With --pages all, every page or frame of a file is a picture (scan-2.alpha.png).

    Inputs are never overwritten. Results that exist are left alone and only what is missing is made; --force replaces
    them. In a folder, pictures that p3m-edge wrote are not taken as inputs. A picture that cannot be used does not stop
    the others: it is named at the end, and the exit code is 1. Every file appears complete or not at all.

    Of videos (extra `video`), --out is one file, .mp4, .mov, .mkv or .webm, for one kind of result, or a folder for
    several: <stem>.composite.mp4 and so on, a cut-out as ProRes 4444 in .mov. They have the frames, time stamps, bits
    and colours of the video and its audio, copied; mattes are stabilised in time. A run that was killed has kept whole
    segments in a hidden folder beside the result: --resume goes on there.
    """

    artefact: Path | None = argument(
        "the folder that export wrote (default: made from the weights of this package)", "ARTEFACT", nargs="?"
    )
    inputs: tuple[Path, ...] = argument("a picture, a folder of pictures, or a video", "INPUT", nargs="+")
    out: Path = option("the folder that the results go to; of a video, also a file", metavar="OUT", required=True)
    recursive: bool = option(
        "also the pictures in sub-folders; linked ones are followed, and each folder is looked into once", default=False
    )
    force: bool = option("replace results that exist (never an input)", default=False)
    pages: Literal["first", "all"] = option(
        "of files with several pages or frames (TIFF, GIF, WebP, AVIF) the first one, or each", "first"
    )
    max_megapixels: int = option("refuse larger pictures", MAX_PIXELS // 1_000_000)
    max_memory: float | None = option(
        "refuse pictures that take more memory (default: than is free). Each megapixel of 8 bits a channel takes up to "
        "14 MB for an alpha, 20 for a blurred background, 26 for a cut-out or composite, 12 more with --feather or "
        "--light-wrap; 16 bits a channel take nearly three times as much, transparency 16 MB more",
        metavar="GB", parse=gigabytes,
    )  # fmt: skip
    alpha: bool = option("write the alpha matte", default=False, group="results")
    cutout: bool = option("write the subject on transparency", default=False)
    background: str | None = option(
        "write a composite on a colour ('#00ff00', white) or a picture (beach.jpg)", metavar="B"
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
    layers: bool = option("write the frames themselves and the cut-out as two videos, for editors", default=False)
    mute: bool = option("leave the audio out", default=False)
    resume: bool = option("go on where a run that ended early was", default=False)
    no_stabilise: bool = option("leave every matte as the network gives it", default=False)
    resize: Literal["stretch", "letterbox"] = option(
        "how a picture becomes the network's input", "stretch", group="inference"
    )
    size: Size | None = option(f"the default artefact's input size, multiples of 32 (default: {SIZE})")
    runtime: Runtime = group(Runtime)

    def kinds(self) -> tuple[str, ...]:
        """Which results are made of each picture."""
        wanted = (self.alpha, self.cutout, self.background is not None, self.blur)
        return tuple(kind for kind, asked in zip(KINDS, wanted, strict=True) if asked) or ("alpha", "cutout")

    def split(self) -> tuple[Path | None, list[Path]]:
        """The artefact, if one was named, and the inputs.

        The first word is an artefact if it is a folder with a manifest, or has the name of a rejected one, which
        :class:`Matting` then refuses. :class:`UsageError`: no input is left, or a size was given for an artefact, which
        has its own. :class:`InputError`: none of the inputs is there, so no artefact is made for them.
        """
        words: list[Path] = [*filter(None, [self.artefact]), *self.inputs]
        first = words[0]
        if os.path.lexists(first / MANIFEST) or is_aside(first) or first.resolve().name.endswith(REJECTED_SUFFIX):
            if len(words) == 1:
                raise UsageError(f"no pictures were named for the artefact {first}", hint="see: p3m-edge run --help")
            if self.size is not None:
                text = f"--size is for the default artefact: {first} has its own"
                raise UsageError(text, hint="leave one of them out")
            return first, words[1:]
        if not any(path.exists() for path in words):
            raise InputError(f"{first} does not exist" if len(words) == 1 else "none of the inputs exists")
        return None, words


def run(args: Arguments, console: Console) -> None:
    """Matte every picture or video; those that fail are named at the end."""
    memory = None if args.max_memory is None else int(args.max_memory * 1e9)
    effect = Effect(feather=args.feather, light_wrap=args.light_wrap, linear=args.linear)
    more = EFFECTS if args.feather or args.light_wrap else 0
    budget = Budget(args.max_megapixels * 1_000_000, memory, more)
    behind = None if args.background is None else read_background(args.background, budget.max_pixels)
    chosen, words = args.split()
    if isinstance(behind, Picture) and behind.alpha is not None:
        console.warn(f"the background {behind.path} is transparent in places; it is shown on white")
    if any(is_video(word) and not word.is_dir() for word in words):
        videos.run(args, words, behind, effect, lambda: _opened(args, chosen, console, args.people), console)
        return
    if wrong := [flag for name, flag in given(args) if name in _OF_VIDEOS]:
        raise UsageError(f"{wrong[0]} is for videos, and there are none among the inputs")
    recipe = Recipe(args.kinds(), behind, args.force, args.people, effect)
    found = collect(words, recursive=args.recursive)
    inputs = [source.path for source in found.pictures]
    if isinstance(behind, Picture):
        inputs.append(behind.path)
    protected = {each for path in inputs for each in identities(path)}
    sources = with_pages(found.pictures, budget.max_pixels) if args.pages == "all" else found.pictures
    outcomes = [Outcome(path, "failed", reason=reason) for path, reason in found.failures]
    with _opened(args, chosen, console) as matting:
        manifest = matting.manifest
        make_folder(args.out)
        with progress(console) as bars:
            job = Job(matting, args.out, recipe, budget, protected)
            named = list(zip(sources, output_names(sources), strict=True))
            outcomes += matte_all(job, named, step=bars.progress, trace=console.trace)
    _tell_remarks(outcomes, console)
    count = Counter(outcome.status for outcome in outcomes)
    report = RunReport(
        chosen or matting.folder, manifest.target, manifest.model.trained, args.out, count["done"], count["skipped"],
        count["failed"], len(found.own), tuple(outcomes),
    )  # fmt: skip
    console.emit(report, _render(report), _error(report))


def _opened(args: Arguments, named: Path | None, console: Console, people: Who = "all") -> Matting:
    """The artefact that was named, or the default one."""
    artefact, where = named or default_artefact(args.size or SIZE, console), vars(args.runtime)
    check = named is not None  # the default one is checked
    matting = Matting(artefact, **where, resize=args.resize, check=check, select=people)
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
    exist = " (their results exist; --force replaces them)" if report.skipped else ""
    left_out = f", {report.left_out} earlier results left out" if report.left_out else ""
    counts = f"{report.done} done, {report.skipped} skipped{exist}, {report.failed} failed{left_out}"
    yield f"{counts}; results in {report.out}"
