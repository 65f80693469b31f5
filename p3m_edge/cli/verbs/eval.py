"""``p3m-edge eval``: matting methods on portrait sets, as the paper evaluates them."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from p3m_edge import __version__
from p3m_edge.cli.options import argument, fill, group, option
from p3m_edge.cli.options.shared import Mattes
from p3m_edge.cli.options.values import Size, integer, path
from p3m_edge.cli.ui import Console, Part, progress
from p3m_edge.cli.verbs import unfinished
from p3m_edge.data.sets import DataSet
from p3m_edge.data.trimap import MOST
from p3m_edge.errors import UsageError
from p3m_edge.evaluate import ppt, tables
from p3m_edge.evaluate.journal import Journal
from p3m_edge.evaluate.method import Method
from p3m_edge.evaluate.methods import NAMES, Options, Strategy, open_method
from p3m_edge.evaluate.ppt import Mark, Marked
from p3m_edge.evaluate.results import ROUTES, Evaluation, SetResult
from p3m_edge.evaluate.runner import KERNEL, Trimaps, TrimapSource, find_set, worst_sheet
from p3m_edge.evaluate.runner import run as evaluate
from p3m_edge.imageio import write_png

EXAMPLES = """
p3m-edge eval P3M-10k/P3M-500-P --model best.safetensors --out results
p3m-edge eval P3M-10k/P3M-500-NP --model best.safetensors --strategy hybrid --route both --out results
p3m-edge eval portraits/ --model best.safetensors --strategy deployed --size 512x512 --model out/onnx-fp16
p3m-edge eval portraits/ --model best.safetensors --model background --model facebox --out results
p3m-edge eval portraits/ --model cf --model knn --model modnet.toml --limit 20 --out results
p3m-edge eval --ppt B=P3M-10k/P3M-500-P N=P3M-10k/P3M-500-NP --model B=blurred.safetensors --model N=normal.safetensors
p3m-edge eval --ppt B=people/blurred_image N=people/original_image --model B=best.safetensors --model B=cf
"""

_Set = tuple[DataSet, Trimaps, Mark | None]


@dataclass(frozen=True)
class Arguments:
    """Measure matting methods on portrait sets, and print the protocol with the figures.

    A SET is a folder of image/ and alpha/, or P3M-10k's layout; a split's name may follow its folder
    (P3M-10k/P3M-500-P), and where one folder has both forms, so does blurred_image or original_image. A model is a
    checkpoint, an artefact, a TOML description of any other ONNX model, a baseline (background: nothing is foreground;
    facebox: a trimap grown from the face box, matted), or a trimap-based method of pymatting: cf, knn, lbdm, rw.
    Trimap-based methods are measured in the unknown region; their SAD elsewhere says little, as they were told the
    answer.

    With --out, a run that was stopped goes on where it was, and the folder gets report.json, report.md, pictures.csv
    and a sheet of the worst pictures. A picture that cannot be used does not stop the others: it is named at the end,
    and the exit code is 1.
    """

    sets: tuple[str, ...] = argument("a set's folder (with --ppt: B=SET or N=SET)", "SET", nargs="+")
    models: tuple[str, ...] = option(
        f"checkpoint, artefact folder, description.toml, {', '.join(NAMES[:-1])} or {NAMES[-1]} (with --ppt: B=MODEL "
        "or N=MODEL); repeatable",
        (), flag="--model", metavar="MODEL", required=True,
    )  # fmt: skip
    ppt: bool = option("print the matrix of B and N, training against test", default=False)
    limit: int | None = option("take the first N pictures of each set")
    out: Path | None = option("where the results go", metavar="DIR")
    worst: int = option(
        "pictures on each sheet in --out, 0: none", 6, metavar="N",
        parse=integer(0, 999, "a number of pictures, {low} to {high}"),
    )  # fmt: skip
    strategy: Strategy = option(
        "how checkpoints see a picture: as published, or as apps do", Options().strategy, group="protocol"
    )
    size: Size | None = option("of deployed (default: 512x512)")
    route: Literal["float", "8bit", "both"] = option(
        "score the matte truncated to 8 bits or as it is, both of which are published", "8bit"
    )
    trimap: TrimapSource = option(
        "the set's trimaps, or made from the alpha (default: the set's if every picture has one)", "auto"
    )
    trimap_kernel: int = option(
        f"pixels, of trimaps made from the alpha, 1 to {MOST}", KERNEL, metavar="N",
        parse=integer(1, MOST, "a kernel of {low} to {high} pixels"),
    )  # fmt: skip
    mattes: Mattes = group(Mattes)
    device: str | None = option("of checkpoints and artefacts (default: cpu)", metavar="NAME")
    threads: int | None = option("threads (default: the engine's choice)")


def run(args: Arguments, console: Console) -> None:
    """Open everything, so that what is wrong shows at once; then evaluate every method on every set."""
    read = ppt.marked if args.ppt else Marked
    sets = [_open(read(text), args) for text in args.sets]
    if args.size is not None and args.strategy != "deployed":
        raise UsageError("--size is the deployed network's", hint="--strategy deployed, or leave it out")
    settings = fill(Options, args)
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
        results = tuple(_all(args, methods, sets, console))
    evaluation = Evaluation(__version__, results, ppt.differences(results))
    if args.out is not None:
        console.write(args.out / "report.json", evaluation)
        console.write(args.out / "report.md", tables.markdown(evaluation))
        console.write(args.out / "pictures.csv", tables.pictures_csv(evaluation))
    failed = sum(len(result.failures) for result in results)
    every = sum(result.protocol.evaluated for result in results)
    parts: list[Part] = [*tables.protocols(evaluation), *tables.tables(evaluation)]
    console.emit(evaluation, parts, unfinished(failed, every, "pictures failed"))


def _open(text: Marked, args: Arguments) -> _Set:
    dataset = find_set(path(text.text), args.mattes.form)
    ppt.check(text.mark, dataset)
    return dataset, Trimaps(dataset, args.trimap, args.trimap_kernel), text.mark


def _tell_apart(methods: Sequence[Method], texts: Sequence[str]) -> None:
    """Give methods of the same name the one that the user wrote, and a number if they are still the same."""
    count = Counter(method.info.name for method in methods)
    for number, (method, text) in enumerate(zip(methods, texts, strict=True), 1):
        if count[method.info.name] > 1:
            name = f"{text} ({number})" if texts.count(text) > 1 else text
            method.info = replace(method.info, name=name)


def _all(
    args: Arguments, methods: Sequence[tuple[Method, Mark | None]], sets: Sequence[_Set], console: Console
) -> Iterator[SetResult]:
    """Evaluate every method on every set, and draw the sheets of the worst pictures."""
    routes = ROUTES if args.route == "both" else (args.route,)
    journal = Journal(args.out)
    total, steps = len(methods) * sum(len(dataset.items[: args.limit]) for dataset, _, _ in sets), itertools.count()
    with progress(console, lines=10) as bars:
        for number, ((method, trained), (dataset, trimaps, mark)) in enumerate(itertools.product(methods, sets), 1):

            def step(name: str, label: str = f"{method.info.name}, {dataset.name}") -> None:
                bars.progress(f"{label}: {name}", next(steps), total)

            result = evaluate(method, dataset, trimaps, routes, limit=args.limit, journal=journal, step=step)
            worst = _worst(args, result, method, dataset, trimaps, number)
            yield replace(result, pair=ppt.pair(trained, mark), worst=worst)


def _worst(
    args: Arguments, result: SetResult, method: Method, dataset: DataSet, trimaps: Trimaps, number: int
) -> str | None:
    """Write the sheet of the worst pictures; returns its name."""
    if args.out is None or not args.worst:
        return None
    picture = worst_sheet(result, method, dataset, trimaps, args.worst)
    if picture is None:
        return None
    name = re.sub(r"[^\w.-]+", "_", f"worst-{number}-{result.method.name}-{dataset.name}", flags=re.ASCII) + ".png"
    write_png(args.out / name, picture)
    return name
