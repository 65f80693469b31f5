"""What ``p3m-edge bench --html`` needs of the command line: sample portraits, and the commands to show on the page."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from p3m_edge import imageio
from p3m_edge.atomic import atomic_write
from p3m_edge.benchmarks import samples as sampling
from p3m_edge.benchmarks.report import page as pages
from p3m_edge.benchmarks.report.schema import BenchmarkReport, MeasureOptions
from p3m_edge.benchmarks.rows import ArtefactRow
from p3m_edge.benchmarks.samples import Mattes, SamplePortrait
from p3m_edge.errors import InputError, UsageError

if TYPE_CHECKING:
    from p3m_edge.cli.verbs.bench import Arguments

PORTRAIT = "astronaut.jpg"
MOST = 12
"""Pictures that a page holds: more would make it too large to be opened, let alone looked at."""

_SUFFIXES = (".html", ".htm")


def prepare(args: Arguments) -> tuple[SamplePortrait, ...]:
    """The samples, checked before anything is measured; none without ``--html`` or without an artefact.

    Raises
    ------
    UsageError
        ``--samples`` has no page or no artefact to be for, there are too many, or the page is not named ``.html``.
    InputError
        A picture or its matte cannot be read, or a folder holds none.
    """
    if args.html is None:
        if args.samples:
            raise UsageError("--samples is for the page", hint="add --html report.html")
        return ()
    if args.html.suffix.lower() not in _SUFFIXES:
        raise UsageError(f"the page {args.html} is not named .html")
    if args.html.is_dir():
        raise UsageError(f"the page {args.html} is a folder", hint=f"for example --html {args.html / 'report.html'}")
    pages.require()
    if not args.artefacts:
        if args.samples:
            raise UsageError("--samples needs an artefact that mattes them", hint="name one: p3m-edge bench DIR")
        return ()
    found = find(args.samples)
    sampling.check(found)
    return found


def find(paths: Sequence[Path]) -> tuple[SamplePortrait, ...]:
    """The pictures of files, folders and sets, each once; those of a set come with their true mattes.

    Raises
    ------
    UsageError
        There are more than ``MOST``, or a folder holds several splits.
    InputError
        A folder cannot be listed, or holds no pictures.
    """
    if not paths:
        return (SamplePortrait(PORTRAIT, Path(str(resources.files("p3m_edge") / "assets" / PORTRAIT))),)
    found: dict[Path, SamplePortrait] = {}
    for path in paths:
        for sample in _folder(path) if path.is_dir() else [_file(path)]:
            found.setdefault(sample.picture.absolute(), sample)
    if len(found) > MOST:
        raise UsageError(f"{len(found)} samples are too many: a page holds {MOST}", hint="name some of the files")
    names = [sample.name for sample in found.values()]
    return tuple(
        replace(sample, name=f"{picture.parent.parent.name}/{picture.parent.name}/{sample.name}")
        if names.count(sample.name) > 1
        else sample
        for picture, sample in found.items()
    )


def _folder(folder: Path) -> list[SamplePortrait]:
    from p3m_edge.data import sets

    if sets.find_layout(folder) is not None:
        found = [SamplePortrait(item.image.name, item.image, item.alpha) for item in sets.survey(folder).items]
    elif splits := sets.splits(folder):
        names = " ".join(str(path) for path in splits.values())
        raise UsageError(f"{folder} has splits: name one", hint=f"--samples {names}")
    else:
        found = [SamplePortrait(path.name, path) for path in imageio.list_images(folder)]
    if not found:
        raise InputError(f"{folder} holds no pictures")
    return found


def _file(path: Path) -> SamplePortrait:
    """A picture; if it lies in a set, with the matte that the set has of it."""
    from p3m_edge.data import sets

    where, name = path.absolute().parent, imageio.stem(path)
    items = sets.survey(where.parent).items if sets.find_layout(where.parent) is not None else ()
    alphas = (item.alpha for item in items if item.image.parent == where and item.name == name)
    return SamplePortrait(path.name, path, next(alphas, None))


def write(
    file: Path, args: Arguments, rows: Sequence[ArtefactRow], report: BenchmarkReport, mattes: Mattes | None
) -> None:
    """Write the page of ``--html``.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    text = pages.page(report, mattes, tuple(commands(args, rows, report)))
    # File names may hold what is no Unicode; a page must not fail for that.
    atomic_write(file, text.encode("utf-8", "backslashreplace"), parents=True)


def commands(args: Arguments, rows: Sequence[ArtefactRow], report: BenchmarkReport) -> Iterator[tuple[str, str]]:
    """What each command does, and the command; absolute paths are replaced by what the report calls the thing."""
    artefacts = [_shown(row.folder, row.label) for row in rows]
    bench = ["p3m-edge", "bench"]
    if rows or args.eager:
        bench += [*artefacts, *_words({"--eager": list(map(_shown, args.eager)), "--size": args.size})]
        bench += [*_words(_settings(args, report)), *([] if report.options.throughput else ["--no-throughput"])]
    bench += ["--against-benchmark-app"] if args.against_benchmark_app else []
    bench += _words({"--import": list(map(_shown, args.imports))})
    written = {"--baseline": args.baseline and _shown(args.baseline), "--html": _shown(args.html or "report.html")}
    samples = ["--samples", *map(_shown, args.samples)] if args.samples else []
    out = None if args.out is None else _shown(args.out)
    yield "Measure and write this page", shlex.join([*bench, *_words(written), *samples, *_words({"--out": out})])
    if rows:
        yield "Check the artefacts on this machine", shlex.join(["p3m-edge", "verify", *artefacts])
    if (rows or args.eager) and out is not None:
        yield "Compare a later run with this one", shlex.join([*bench, "--baseline", f"{out}/report.json"])


def _settings(args: Arguments, report: BenchmarkReport) -> dict[str, object]:
    """How it was measured, also by what was left to its default."""
    o = report.options
    frame = f"{o.frame_width}x{o.frame_height}" if args.frame is None else None
    return {
        "--rounds": o.rounds,
        "--iterations": o.iterations if o.seconds is None else None,
        "--seconds": None if o.seconds is None else f"{o.seconds:g}",
        "--warmup": o.warmup,
        "--threads": o.threads,
        "--device": o.device,
        "--seed": o.seed,
        "--frame": None if args.frame is None else _shown(args.frame),
        "--frame-size": frame,
        "--timeout": None if o.timeout == MeasureOptions().timeout else f"{o.timeout:g}",
    }


def _words(options: Mapping[str, object]) -> Iterator[str]:
    """Options as words; those that are None are left out, a list is an option for each of its values."""
    for name, value in options.items():
        for one in value if isinstance(value, list) else [value]:
            if one is not None:
                yield from (name, str(one))


def _shown(given: str | Path, name: str | None = None) -> str:
    """A path as it was typed if it tells nothing of this machine, else the name that stands for it."""
    path = Path(given)
    outside = path.is_absolute() or ".." in path.parts
    return (name or path.name) if outside else path.as_posix()
