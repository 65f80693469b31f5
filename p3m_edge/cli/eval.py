"""``p3m-edge eval``: matting methods on portrait sets, as the paper evaluates them."""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from p3m_edge import __version__
from p3m_edge.atomic import atomic_write
from p3m_edge.cli import matte_options, options
from p3m_edge.cli.bench import progress_bar
from p3m_edge.data.sets import DataSet
from p3m_edge.data.trimap import MOST
from p3m_edge.errors import PartialError, UsageError
from p3m_edge.evaluate import ppt, tables
from p3m_edge.evaluate.journal import Journal
from p3m_edge.evaluate.method import Method
from p3m_edge.evaluate.methods import NAMES, STRATEGIES, Options, open_method
from p3m_edge.evaluate.ppt import Mark, Marked
from p3m_edge.evaluate.results import ROUTES, Evaluation, Result, Route
from p3m_edge.evaluate.runner import find_set, worst_sheet
from p3m_edge.evaluate.runner import run as evaluate
from p3m_edge.evaluate.scoring import KERNEL, TRIMAP_SOURCES, Trimaps
from p3m_edge.imageio import write_png

if TYPE_CHECKING:
    from rich.console import Console as RichConsole

    from p3m_edge.cli.console import Console

HELP = """Measure matting methods on portrait sets, and print the protocol with the figures.

A SET is a folder of image/ and alpha/, or P3M-10k's layout; a split's name may follow its folder
(P3M-10k/P3M-500-P), and where one folder has both forms, so does blurred_image or original_image. A model is a
checkpoint, an artefact, a TOML description of any other ONNX model, a baseline (background: nothing is foreground;
facebox: a trimap grown from the face box, matted), or a trimap-based method of pymatting: cf, knn, lbdm, rw.
Trimap-based methods are measured in the unknown region; their SAD elsewhere says little, as they were told the answer.

With --out, a run that was stopped goes on where it was, and the folder gets report.json, report.md, pictures.csv
and a sheet of the worst pictures. A picture that cannot be used does not stop the others: it is named at the end,
and the exit code is 1."""
EXAMPLES = """
p3m-edge eval P3M-10k/P3M-500-P --model best.safetensors --out results
p3m-edge eval P3M-10k/P3M-500-NP --model best.safetensors --strategy hybrid --route both --out results
p3m-edge eval portraits/ --model best.safetensors --strategy deployed --size 512x512 --model out/onnx-fp16
p3m-edge eval portraits/ --model best.safetensors --model background --model facebox --out results
p3m-edge eval portraits/ --model cf --model knn --model modnet.toml --limit 20 --out results
p3m-edge eval --ppt B=P3M-10k/P3M-500-P N=P3M-10k/P3M-500-NP --model B=blurred.safetensors --model N=normal.safetensors
p3m-edge eval --ppt B=people/blurred_image N=people/original_image --model B=best.safetensors --model B=cf
"""
_DEFAULTS = Options()


@dataclass(frozen=True)
class _Set:
    dataset: DataSet
    trimaps: Trimaps
    mark: Mark | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is measured on what, how, and where the results go."""
    parser.add_argument("sets", nargs="+", metavar="SET", help="a set's folder (with --ppt: B=SET or N=SET)")
    parser.add_argument(
        "--model", action="append", required=True, dest="models", metavar="MODEL",
        help=f"checkpoint, artefact folder, description.toml, {', '.join(NAMES[:-1])} or {NAMES[-1]} "
        "(with --ppt: B=MODEL or N=MODEL); repeatable",
    )  # fmt: skip
    parser.add_argument("--ppt", action="store_true", help="print the matrix of B and N, training against test")
    parser.add_argument("--limit", type=options.positive, metavar="N", help="take the first N pictures of each set")
    how = parser.add_argument_group("protocol")
    how.add_argument(
        "--strategy", choices=STRATEGIES, default=_DEFAULTS.strategy,
        help="how checkpoints see a picture: as published, or as apps do (default: resize)",
    )  # fmt: skip
    how.add_argument("--size", type=options.size, metavar="WIDTHxHEIGHT", help="of deployed (default: 512x512)")
    how.add_argument(
        "--route", choices=(*ROUTES, "both"), default="8bit",
        help="score the matte truncated to 8 bits or as it is, both of which are published (default: 8bit)",
    )  # fmt: skip
    how.add_argument(
        "--trimap", choices=TRIMAP_SOURCES, default="auto",
        help="the set's trimaps, or made from the alpha (default: the set's if every picture has one)",
    )  # fmt: skip
    how.add_argument(
        "--trimap-kernel", type=_kernel, default=KERNEL, metavar="N",
        help=f"pixels, of trimaps made from the alpha, 1 to {MOST} (default: {KERNEL})",
    )  # fmt: skip
    matte_options.add_arguments(how)
    how.add_argument("--device", metavar="NAME", help="of checkpoints and artefacts (default: cpu)")
    how.add_argument("--threads", type=options.positive, metavar="N", help="threads (default: the engine's choice)")
    parser.add_argument("--out", type=options.path, metavar="DIR", help="where the results go")
    parser.add_argument(
        "--worst", type=_count, default=6, metavar="N", help="pictures on each sheet in --out, 0: none (default: 6)"
    )


def run(args: argparse.Namespace, console: Console) -> int:
    """Open everything, so that what is wrong shows at once; then evaluate every method on every set."""
    routes: tuple[Route, ...] = ROUTES if args.route == "both" else (args.route,)
    read = ppt.marked if args.ppt else Marked
    sets = [_open(read(text), args) for text in args.sets]
    settings = _settings(args)
    with ExitStack() as stack:
        methods: list[tuple[Method, Mark | None]] = []
        for model in map(read, args.models):
            with console.status(f"loading {model.text}"):
                method = open_method(model.text, settings)
            stack.callback(method.close)
            methods.append((method, model.mark))
            if not method.info.trained:
                console.warn(f"the weights of {model.text} are stand-ins and NOT TRAINED: its figures mean nothing")
        _tell_apart([method for method, _ in methods], [read(text).text for text in args.models])
        results = _all(args, methods, sets, routes, Journal(args.out), console)
    evaluation = Evaluation(__version__, tuple(results), ppt.differences(results))
    if args.out is not None:
        _write(evaluation, args.out, console)
    failed = sum(len(result.failures) for result in evaluation.results)
    every = sum(result.protocol.evaluated for result in evaluation.results)
    error = PartialError(f"{failed} of {every} pictures failed") if failed else None
    console.emit(evaluation, lambda out: _render(out, evaluation), error)
    if error is not None:
        raise error
    return 0


def _open(text: Marked, args: argparse.Namespace) -> _Set:
    dataset = find_set(options.path(text.text), matte_options.matte_form(args))
    ppt.check(text.mark, dataset)
    return _Set(dataset, Trimaps(dataset, args.trimap, args.trimap_kernel), text.mark)


def _settings(args: argparse.Namespace) -> Options:
    if args.size is not None and args.strategy != "deployed":
        raise UsageError("--size is the deployed network's", hint="--strategy deployed, or leave it out")
    size = _DEFAULTS.size if args.size is None else (args.size.width, args.size.height)
    return Options(args.strategy, size, args.device, args.threads)


def _tell_apart(methods: Sequence[Method], texts: Sequence[str]) -> None:
    """Give methods of the same name the one that the user wrote, and a number if they are still the same."""
    count = Counter(method.info.name for method in methods)
    for number, (method, text) in enumerate(zip(methods, texts, strict=True), 1):
        if count[method.info.name] > 1:
            name = f"{text} ({number})" if texts.count(text) > 1 else text
            method.info = replace(method.info, name=name)


def _all(
    args: argparse.Namespace,
    methods: Sequence[tuple[Method, Mark | None]],
    sets: Sequence[_Set],
    routes: tuple[Route, ...],
    journal: Journal,
    console: Console,
) -> list[Result]:
    sizes = [len(one.dataset.items[: args.limit]) for one in sets]
    total, done = len(methods) * sum(sizes), 0
    results: list[Result] = []
    with progress_bar(console) as bar:
        for method, mark in methods:
            for one in sets:

                def step(name: str, label: str = f"{method.info.name}, {one.dataset.name}") -> None:
                    nonlocal done
                    bar(f"{label}: {name}", done, total)
                    done += 1

                result = evaluate(
                    method, one.dataset, one.trimaps, routes, limit=args.limit, journal=journal, step=step
                )  # fmt: skip
                worst = _worst(args, result, method, one, len(results) + 1)
                results.append(replace(result, pair=ppt.pair(mark, one.mark), worst=worst))
    return results


def _worst(args: argparse.Namespace, result: Result, method: Method, one: _Set, number: int) -> str | None:
    """Write the sheet of the worst pictures; returns its name."""
    if args.out is None or not args.worst:
        return None
    picture = worst_sheet(result, method, one.dataset, one.trimaps, args.worst)
    if picture is None:
        return None
    name = re.sub(r"[^\w.-]+", "_", f"worst-{number}-{result.method.name}-{one.dataset.name}", flags=re.ASCII) + ".png"
    write_png(args.out / name, picture)
    return name


def _write(evaluation: Evaluation, folder: Path, console: Console) -> None:
    from p3m_edge.cli.console import to_json

    for name, data in (
        ("report.json", to_json(evaluation)),
        ("report.md", tables.markdown(evaluation).encode("utf-8", "backslashreplace")),
        ("pictures.csv", tables.pictures_csv(evaluation)),
    ):
        atomic_write(folder / name, data)
        console.note(f"written: {folder / name}")


def _render(out: RichConsole, evaluation: Evaluation) -> None:
    for line in tables.protocols(evaluation):
        out.print(line, soft_wrap=True)
    for one in tables.tables(evaluation):
        one.print(out)


def _kernel(text: str) -> int:
    kernel = options.positive(text)
    if kernel > MOST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a kernel of 1 to {MOST} pixels")
    return kernel


def _count(text: str) -> int:
    if not re.fullmatch("[0-9]{1,3}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of pictures, 0 to 999")
    return int(text)
