"""``p3m-edge run``: matte pictures."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from p3m_edge.atomic import is_aside
from p3m_edge.cli import mattes, options
from p3m_edge.cli.default_artefact import default_artefact
from p3m_edge.cli.mattes import Inputs, Job, Outcome, Recipe
from p3m_edge.cli.memory import Budget
from p3m_edge.cli.sources import collect, output_names, with_pages
from p3m_edge.cli.tables import table
from p3m_edge.errors import InputError, OutputError, P3MEdgeError, PartialError, UsageError
from p3m_edge.imageio import MAX_PIXELS, Picture
from p3m_edge.manifest import MANIFEST, REJECTED_SUFFIX
from p3m_edge.runtimes import Matting

if TYPE_CHECKING:
    from rich.console import Console as RichConsole

    from p3m_edge.cli.console import Console
    from p3m_edge.manifest import Manifest

HELP = """Matte pictures, with an artefact that export wrote, or with the weights of this package: their artefact is
made at the first run, which needs PyTorch, and kept in the user's cache. Each picture gives, below --out and in the
sub-folder it came from,
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
the others: it is named at the end, and the exit code is 1. Every file appears complete or not at all."""
EXAMPLES = """
p3m-edge run portrait.jpg --out mattes
p3m-edge run out/demo/openvino-fp16 portrait.jpg --out mattes
p3m-edge run out/demo/onnx-fp32 photos/ --recursive --out mattes
p3m-edge run out/demo/onnx-fp32 portrait.jpg --out mattes --background '#00ff00'
p3m-edge run out/demo/onnx-fp32 portrait.jpg --out mattes --cutout --background beach.jpg --blur
"""
_FEW = 5  # up to so many pictures, each one's files are listed, and what must be known about them


@dataclass(frozen=True)
class RunReport:
    """What became of all pictures. ``trained`` is false for stand-in weights; ``left_out`` are earlier results."""

    artefact: Path
    target: str
    trained: bool
    out: Path
    done: int
    skipped: int
    failed: int
    left_out: int
    pictures: tuple[Outcome, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The artefact, the pictures, what to make of them and where to put it."""
    parser.add_argument(
        "artefact", metavar="ARTEFACT", nargs="?", type=options.path,
        help="the folder that export wrote (default: made from the weights of this package)",
    )  # fmt: skip
    parser.add_argument("inputs", metavar="INPUT", nargs="+", type=options.path, help="a picture, or a folder of them")
    parser.add_argument("--out", required=True, metavar="DIR", type=options.path, help="where the results go")
    parser.add_argument(
        "--recursive", action="store_true",
        help="also the pictures in sub-folders; linked ones are followed, and each folder is looked into once",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="replace results that exist (never an input)")
    parser.add_argument(
        "--pages", choices=("first", "all"), default="first",
        help="of files with several pages or frames (TIFF, GIF, WebP, AVIF) the first one, or each (default: first)",
    )  # fmt: skip
    parser.add_argument(
        "--max-megapixels", type=options.positive, default=MAX_PIXELS // 1_000_000, metavar="N",
        help="refuse larger pictures (default: 256)",
    )  # fmt: skip
    parser.add_argument(
        "--max-memory", type=options.gigabytes, metavar="GB",
        help="refuse pictures that take more memory (default: than is free). Each megapixel of 8 bits a channel takes "
        "up to 12 MB for an alpha, 18 for a blurred background, 24 for a cut-out or composite; 16 bits a channel take "
        "nearly three times as much, transparency 14 MB more",
    )  # fmt: skip
    results = parser.add_argument_group("results")
    results.add_argument("--alpha", action="store_true", help="write the alpha matte")
    results.add_argument("--cutout", action="store_true", help="write the subject on transparency")
    results.add_argument(
        "--background", metavar="B", help="write a composite on a colour ('#00ff00', white) or a picture (beach.jpg)"
    )
    results.add_argument("--blur", action="store_true", help="write a composite on the blurred background")
    how = parser.add_argument_group("inference")
    how.add_argument(
        "--resize", choices=("stretch", "letterbox"), default="stretch",
        help="how a picture becomes the network's input (default: stretch)",
    )  # fmt: skip
    how.add_argument(
        "--size", type=options.size, metavar="WIDTHxHEIGHT",
        help="the default artefact's input size, multiples of 32 (default: 512x512)",
    )  # fmt: skip
    how.add_argument("--device", metavar="NAME", help=options.DEVICE_HELP)
    how.add_argument("--threads", type=options.positive, metavar="N", help="threads (default: the engine's choice)")


def run(args: argparse.Namespace, console: Console) -> int:
    """Matte every picture; those that fail are named at the end."""
    budget = Budget(args.max_megapixels * 1_000_000, args.max_memory)
    behind = mattes.background(args.background, budget.max_pixels) if args.background is not None else None
    recipe = Recipe(_kinds(args), behind, force=args.force)
    named, inputs = _split(args)
    found = collect(inputs, recursive=args.recursive)
    protected = [source.path for source in found.pictures]
    if isinstance(behind, Picture):
        protected.append(behind.path)
        if behind.alpha is not None:
            console.warn(f"the background {behind.path} is transparent in places; it is shown on white")
    sources = with_pages(found.pictures, budget.max_pixels) if args.pages == "all" else found.pictures
    names = output_names(sources)
    jobs = [Job(s.path, recipe.files(args.out, name), s.page) for s, name in zip(sources, names, strict=True)]
    outcomes = [Outcome(path, "failed", reason=reason) for path, reason in found.failures]
    artefact = named or default_artefact(args.size or options.SIZE, console)
    check = named is not None  # the default artefact has just been checked
    with Matting(artefact, device=args.device, threads=args.threads, resize=args.resize, check=check) as matting:
        manifest = matting.manifest
        if not manifest.model.trained:
            console.warn("the weights of this artefact are stand-ins and NOT TRAINED: its mattes mean nothing")
        _make_folder(args.out)
        outcomes += _process_all(matting, jobs, recipe, Inputs(protected), budget, console)
    _tell_remarks(outcomes, console)
    report = _report(args, artefact, manifest, outcomes, left_out=len(found.own))
    error = _error(report)
    console.emit(report, lambda out: _render(out, report), error)
    if error is not None:
        raise error
    return 0


def _split(args: argparse.Namespace) -> tuple[Path | None, list[Path]]:
    """The artefact, if one was named, and the inputs.

    The first word is an artefact if it is a folder with a manifest, or has the name of a rejected one, which
    :class:`Matting` then refuses.

    Raises
    ------
    UsageError
        No input is left, or a size was given for an artefact, which has its own.
    InputError
        There is none of the inputs: no artefact is made for them.
    """
    words: list[Path] = [*filter(None, [args.artefact]), *args.inputs]
    first = words[0]
    if os.path.lexists(first / MANIFEST) or is_aside(first) or first.resolve().name.endswith(REJECTED_SUFFIX):
        if len(words) == 1:
            raise UsageError(f"no pictures were named for the artefact {first}", hint="see: p3m-edge run --help")
        if args.size is not None:
            raise UsageError(f"--size is for the default artefact: {first} has its own", hint="leave one of them out")
        return first, words[1:]
    if not any(path.exists() for path in words):
        raise InputError(f"{first} does not exist" if len(words) == 1 else "none of the inputs exists")
    return None, words


def _kinds(args: argparse.Namespace) -> tuple[str, ...]:
    asked = {
        "alpha": args.alpha,
        "cutout": args.cutout,
        "composite": args.background is not None,
        "blur": args.blur,
    }
    return tuple(kind for kind, wanted in asked.items() if wanted) or ("alpha", "cutout")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made a folder: {error.strerror}", hint="choose another --out") from error


def _process_all(
    matting: Matting, jobs: Sequence[Job], recipe: Recipe, inputs: Inputs, budget: Budget, console: Console
) -> Iterator[Outcome]:
    """Work through the pictures; a full disc ends it, and the rest counts as failed."""
    full = False
    with _progress(console, len(jobs)) as step:
        for job in jobs:
            step(job.source)
            if full:
                yield Outcome(job.source, "failed", reason="not begun: the disc is full", page=job.page)
                continue
            outcome, full = mattes.process(matting, job, recipe, inputs, budget)
            yield outcome


def _tell_remarks(outcomes: Sequence[Outcome], console: Console) -> None:
    """Say what must be known about files; that of more than a few pictures in one line."""
    found = [(outcome.input, remark) for outcome in outcomes for remark in outcome.remarks]
    for path, remark in found[:_FEW]:
        console.warn(f"{path}: {remark}")
    if len(found) > _FEW:
        console.warn(f"there are {len(found) - _FEW} more remarks of this kind; --json lists all of them")
    if any(remark.startswith("the first of ") for _, remark in found):
        console.note("hint: --pages all mattes every page and frame")


@contextmanager
def _progress(console: Console, total: int) -> Iterator[Callable[[Path], None]]:
    """A bar with the time left, on a terminal; nothing elsewhere."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console.err, transient=True, disable=not console.err.is_terminal) as bar:
        task = bar.add_task("", total=total)
        begun = 0

        def step(path: Path) -> None:
            nonlocal begun
            bar.update(task, completed=begun, description=path.name)
            begun += 1

        yield step


def _report(
    args: argparse.Namespace, artefact: Path, manifest: Manifest, outcomes: Sequence[Outcome], left_out: int
) -> RunReport:
    count = Counter(outcome.status for outcome in outcomes)
    return RunReport(
        artefact=artefact,
        target=manifest.target,
        trained=manifest.model.trained,
        out=args.out,
        done=count["done"],
        skipped=count["skipped"],
        failed=count["failed"],
        left_out=left_out,
        pictures=tuple(outcomes),
    )


def _error(report: RunReport) -> P3MEdgeError | None:
    if not report.failed:
        return None
    if len(report.pictures) == 1:
        only = report.pictures[0]
        return InputError(f"{only.input}: {only.reason}")
    return PartialError(
        f"{report.failed} of {len(report.pictures)} inputs failed",
        hint="run it again when this is put right: what is done is skipped",
    )


def _render(out: RichConsole, report: RunReport) -> None:
    done = [picture for picture in report.pictures if picture.status == "done"]
    if 0 < len(done) <= _FEW:
        made = table("results", "picture", "files")
        for picture in done:
            made.add_row(str(picture.input), ", ".join(str(path) for path in picture.outputs))
        out.print(made)
    if report.failed and len(report.pictures) > 1:
        bad = table("failed", "input", "why")
        for picture in report.pictures:
            if picture.status == "failed":
                bad.add_row(str(picture.input), picture.reason or "", style="red")
        out.print(bad)
    skipped = (
        f"{report.skipped} skipped (their results exist; --force replaces them)" if report.skipped else "0 skipped"
    )
    left_out = f", {report.left_out} earlier results left out" if report.left_out else ""
    line = f"{report.done} done, {skipped}, {report.failed} failed{left_out}; results in {report.out}"
    out.print(line, soft_wrap=True)
