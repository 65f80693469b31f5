"""What ``p3m-edge bench --html`` needs of the command line: sample portraits, and the commands to show on the page."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from p3m_edge.benchmarks import samples as sampling
from p3m_edge.benchmarks.report import page as pages
from p3m_edge.benchmarks.report.schema import BenchmarkReport
from p3m_edge.benchmarks.rows import ArtefactRow
from p3m_edge.benchmarks.samples import SamplePortrait
from p3m_edge.cli.options import words
from p3m_edge.cli.options.values import Size
from p3m_edge.data import sets
from p3m_edge.data.sample import Item
from p3m_edge.errors import UsageError

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
        for item in _items(path):
            found.setdefault(item.image.absolute(), SamplePortrait(item.image.name, item.image, item.alpha))
    if len(found) > MOST:
        raise UsageError(f"{len(found)} samples are too many: a page holds {MOST}", hint="name some of the files")
    names = [sample.name for sample in found.values()]
    return tuple(
        replace(sample, name=f"{picture.parent.parent.name}/{picture.parent.name}/{sample.name}")
        if names.count(sample.name) > 1
        else sample
        for picture, sample in found.items()
    )


def _items(path: Path) -> Sequence[Item]:
    """The pictures of a folder or a set; or a picture, with what the set has of it that it lies in."""
    if not path.is_dir():
        home = path.absolute().parent.parent
        within = sets.find_items(home) if sets.find_layout(home) is not None else ()
        return [item for item in within if item.image == path.absolute()] or [Item(path.name, path)]
    if sets.find_layout(path) is None and (splits := sets.splits(path)):
        raise UsageError(f"{path} has splits: name one", hint=f"--samples {' '.join(map(str, splits.values()))}")
    return sets.find_items(path)


def commands(args: Arguments, rows: Sequence[ArtefactRow], report: BenchmarkReport) -> Iterator[tuple[str, str]]:
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
