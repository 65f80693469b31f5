"""What ``p3m-edge bench --html`` needs of the command line: sample portraits, and the commands to show on the page."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from p3m_edge import imageio
from p3m_edge.atomic import atomic_write
from p3m_edge.benchmarks import samples as sampling
from p3m_edge.benchmarks.report import page as pages
from p3m_edge.benchmarks.report.schema import Report
from p3m_edge.benchmarks.rows import ArtefactRow
from p3m_edge.benchmarks.samples import Mattes, SamplePortrait
from p3m_edge.cli.options import words
from p3m_edge.cli.options.values import Size
from p3m_edge.errors import InputError, UsageError

if TYPE_CHECKING:
    from p3m_edge.cli.verbs.bench import Arguments

PORTRAIT = "astronaut.jpg"
MOST = 12
"""Pictures that a page holds: more would make it too large to be opened, let alone looked at."""

_PAGE, _SUFFIXES = Path("report.html"), (".html", ".htm")


def prepare(args: Arguments) -> tuple[SamplePortrait, ...]:
    """The samples, checked before anything is measured; none without ``--html`` or without an artefact.

    :class:`UsageError`: ``--samples`` has no page or no artefact to be for, there are too many, or the page is not
    named ``.html``; :class:`InputError`: a picture or its matte cannot be read, or a folder holds none.
    """
    if args.html is None:
        if args.samples:
            raise UsageError("--samples is for the page", hint="add --html report.html")
        return ()
    if args.html.suffix.lower() not in _SUFFIXES:
        raise UsageError(f"the page {args.html} is not named .html")
    if args.html.is_dir():
        raise UsageError(f"the page {args.html} is a folder", hint=f"for example --html {args.html / _PAGE}")
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

    :class:`UsageError`: there are more than ``MOST``, or a folder holds several splits; :class:`InputError`: a folder
    cannot be listed, or holds no pictures.
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

    where = path.absolute().parent
    layout = sets.find_layout(where.parent)
    if layout is None or layout.image != where.name:
        return SamplePortrait(path.name, path)
    alphas = imageio.list_images(where.parent / layout.alpha) if (where.parent / layout.alpha).is_dir() else []
    return SamplePortrait(
        path.name, path, next((alpha for alpha in alphas if imageio.stem(alpha) == imageio.stem(path)), None)
    )


def write(file: Path, args: Arguments, rows: Sequence[ArtefactRow], report: Report, mattes: Mattes | None) -> None:
    """Write the page of ``--html``."""
    text = pages.page(report, mattes, tuple(commands(args, rows, report)))
    # File names may hold what is no Unicode; a page must not fail for that.
    atomic_write(file, text.encode("utf-8", "backslashreplace"), parents=True)


def commands(args: Arguments, rows: Sequence[ArtefactRow], report: Report) -> Iterator[tuple[str, str]]:
    """What each command does, and the command; absolute paths are replaced by what the report calls the thing."""
    o, artefacts = report.options, [_shown(row.folder, row.label) for row in rows]
    # How it was measured, also by what was left to its default.
    args = replace(
        args, rounds=o.rounds, iterations=o.iterations, warmup=o.warmup, threads=o.threads, html=args.html or _PAGE,
        frame_size=None if args.frame else Size(o.frame_width, o.frame_height),
    )  # fmt: skip
    yield "Measure and write this page", shlex.join(["p3m-edge", "bench", *artefacts, *words(args, _shown)])
    if rows:
        yield "Check the artefacts on this machine", shlex.join(["p3m-edge", "verify", *artefacts])
    if (rows or args.eager) and args.out is not None:
        later = replace(args, out=None, html=None, samples=(), baseline=f"{_shown(args.out)}/report.json")
        yield "Compare a later run with this one", shlex.join(["p3m-edge", "bench", *artefacts, *words(later, _shown)])


def _shown(given: str | Path, name: str = "") -> str:
    """A path as it was typed if it tells nothing of this machine, else the name that stands for it."""
    path = Path(given)
    outside = path.is_absolute() or ".." in path.parts
    return (name or path.name) if outside else path.as_posix()
