"""The figures of the mobile network, in the documentation: the choices behind it, and its sizes.

``python tools/mobile_figures.py`` measures its variants, with ``--sizes SET`` the shipped weights at four sizes.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from p3m_edge.benchmarks.fingerprint import fingerprint
from p3m_edge.benchmarks.interleave import interleaved
from p3m_edge.benchmarks.measure import measure
from p3m_edge.benchmarks.report import charts
from p3m_edge.benchmarks.report.ranking import failure
from p3m_edge.benchmarks.report.schema import MeasureOptions
from p3m_edge.benchmarks.rows import artefact_rows
from p3m_edge.benchmarks.statistics import Summary, paired_ratio, summarise
from p3m_edge.cli import main, ui
from p3m_edge.cli.options import fill, option
from p3m_edge.cli.options.values import SIZE, Size
from p3m_edge.cli.verbs.export import exported
from p3m_edge.evaluate.methods import Options, open_method
from p3m_edge.evaluate.runner import Trimaps, find_set
from p3m_edge.evaluate.runner import run as evaluate
from p3m_edge.export import graph
from p3m_edge.model.deploy import Deploy
from p3m_edge.model.layers import initialise
from p3m_edge.model.mobile import MOBILE, MobileEncoder, MobileGlobalDecoder, MobileLocalDecoder, MobilePlan
from p3m_edge.model.p3mnet import P3MNet, build
from p3m_edge.runtimes.engines import openvino as ov
from p3m_edge.shipped import weights_path
from p3m_edge.table import Table, table

EXAMPLES = """
python tools/mobile_figures.py --rounds 15 --threads 2 --out out/mobile
python tools/mobile_figures.py --sizes portraits/ --out out/mobile
"""
SIZES = (Size(256, 256), Size(384, 384), Size(512, 288), Size(512, 512))
LARGE, SHIPPED = "r34", "mobile"
VARIANTS: dict[str, MobilePlan] = {
    SHIPPED: MOBILE,
    "without the stages at 1/64": MobilePlan(context=False),
    "depthwise everywhere": MobilePlan(plain=0),
    "plain at 1/8 as well": MobilePlan(plain=3),
    "plain everywhere": MobilePlan(plain=5),
    "local decoder as wide as the global": MobilePlan(fine=(96, 64, 48, 32, 24)),
    "wider decoders, 128-96-64-32-24": MobilePlan(coarse=(128, 96, 64, 32), fine=(128, 96, 64, 32, 24)),
    "both slim, 64-48-32-24-16": MobilePlan(coarse=(64, 48, 32, 24)),
    "slim, no 1/64, detail 12": MobilePlan(
        coarse=(64, 48, 32, 16), fine=(64, 48, 32, 16, 12), detail=12, context=False
    ),
    "detail of 24 channels": MobilePlan(detail=24),
}
"""What of the network is varied, by what that changes; one that pays would have to be trained to mean anything."""
_TARGET = "openvino-fp32"
_CHOICE_COLUMNS = "variant|parameters, M|latency, ms|95 % interval|times as fast as r34"
_SIZE_COLUMNS = "size|latency, ms|95 % interval|SAD, thousands|pictures"


@dataclass(frozen=True)
class Arguments:
    """Measure the variants of the mobile network beside ResNet-34 (their weights are random), or the shipped weights
    at four sizes. Writes the figures as JSON, as a table in Markdown and as a chart.
    """

    sizes: Path | None = option("measure the shipped weights at four sizes on a set with mattes", metavar="SET")
    out: Path = option("where the artefacts and the figures go", Path("out/mobile"), metavar="OUT")
    rounds: int = option("interleaved rounds", 8)
    iterations: int = option("calls of each kind a round", 2)
    size: Size = option("input size of the variants", SIZE)
    threads: int | None = option("default: the usable physical cores")


def run(args: Arguments, console: ui.Console) -> None:
    """Measure, and write what was found."""
    if args.sizes is None:
        _choices(args, console)
    else:
        _sizes(args, args.sizes, console)


def _choices(args: Arguments, console: ui.Console) -> None:
    """Measure the variants in OpenVINO, float32, the matte alone; ``ratio``: how many times as fast as ResNet-34."""
    networks = {LARGE: build(LARGE), **{name: variant(plan) for name, plan in VARIANTS.items()}}
    calls = {name: _compiled(network, args.size, args.threads) for name, network in networks.items()}
    with ui.counting(console, "rounds") as progress:
        times = interleaved(calls, rounds=args.rounds, iterations=args.iterations, progress=progress)
    latencies = {name: summarise(rounds) for name, rounds in times.items()}
    ratios = {name: paired_ratio(latencies[LARGE].rounds, found.rounds) for name, found in latencies.items()}
    parameters = {name: sum(each.numel() for each in network.parameters()) for name, network in networks.items()}
    bars: list[charts.Bar] = []
    rows: list[tuple[str, ...]] = []
    for name, latency in latencies.items():
        ratio, millions = ratios[name], f"{parameters[name] / 1e6:.2f}"
        if name != LARGE:
            note = f"1/{ratio.value:.1f} of r34, {millions} M"
            bars.append(charts.Bar(name, latency.median, note, name == SHIPPED))
        speed = f"{ratio.value:.1f} ({ratio.interval.low:.1f} to {ratio.interval.high:.1f})"
        rows.append((name, millions, *_latency(latency), speed))
    bars.sort(key=lambda bar: bar.value)
    svg = charts.bars(f"Variants of the mobile network, {args.size}", bars, "ms")
    figures = [
        {"name": name, "parameters": parameters[name], "latency": latency, "ratio": ratios[name]}
        for name, latency in latencies.items()
    ]
    report = {**args.size._asdict(), "threads": args.threads, "choices": figures}
    _finish(args.out / "choices", report, table("variants", _CHOICE_COLUMNS, rows), svg, console)


def variant(plan: MobilePlan) -> P3MNet:
    """The mobile network with other choices, freshly initialised."""
    network = P3MNet(SHIPPED)
    network.encoder = MobileEncoder(plan)
    network.global_decoder, network.local_decoder = MobileGlobalDecoder(plan), MobileLocalDecoder(plan)
    initialise(network)
    return network


def _compiled(network: P3MNet, size: Size, threads: int | None) -> Callable[[], object]:
    """An inference of a network on noise."""
    model = graph.trace(Deploy(network.eval(), "alpha"), size.height, size.width)
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = str(threads)
    core = ov.require().Core()
    compiled = core.compile_model(core.read_model(model.SerializeToString(), b""), "CPU", settings)
    frame = np.random.default_rng(0).integers(0, 256, (1, size.height, size.width, 3), dtype=np.uint8)
    return functools.partial(compiled, frame)


def _sizes(args: Arguments, root: Path, console: ui.Console) -> None:
    """Measure the shipped weights at several sizes: latency, and mean SAD in thousands over the set's pictures."""
    folders = [_artefact(args.out, size, console) for size in SIZES]
    settings = fill(MeasureOptions, args, throughput=False)
    with ui.progress(console, lines=10) as bars:
        measured = measure(artefact_rows(folders), settings, progress=bars.progress)
    if (error := failure(measured)) is not None:
        raise error
    set_name, accuracy = _accuracy(root, folders)
    figures: list[dict[str, object]] = []
    points: list[charts.Point] = []
    rows: list[tuple[str, ...]] = []
    for size, row, (sad, pictures) in zip(SIZES, measured.rows, accuracy, strict=True):
        assert row.measured is not None
        latency = row.measured.latency
        figures.append({"size": str(size), "latency": latency, "sad": sad, "pictures": pictures})
        points.append(charts.Point(str(size), latency.median, sad))
        rows.append((str(size), *_latency(latency), f"{sad:.2f}", str(pictures)))
    title = f"mobile: latency and error by size ({set_name}, {accuracy[0][1]} pictures)"
    svg = charts.points(title, points, "latency, ms", "SAD, thousands")
    report = {"set_name": set_name, "sizes": figures}
    _finish(args.out / "sizes", report, table("sizes", _SIZE_COLUMNS, rows), svg, console)


def _artefact(out: Path, size: Size, console: ui.Console) -> Path:
    """The shipped weights at a size; one that an earlier run left is used again."""
    folder = out / f"mobile-{size}"
    if not (folder / _TARGET).is_dir():
        exported(console, targets=(_TARGET,), out=folder, checkpoint=weights_path(), **size._asdict())
    return folder / _TARGET


def _accuracy(root: Path, folders: Sequence[Path]) -> tuple[str, list[tuple[float, int]]]:
    """The set's name, and for each artefact its mean SAD and over how many pictures."""
    dataset = find_set(root)
    trimaps = Trimaps(dataset)
    found = []
    for folder in folders:
        with closing(open_method(str(folder), Options())) as method:
            mean = evaluate(method, dataset, trimaps, ("8bit",)).means["8bit"]["SAD"]
        found.append((mean.value, mean.pictures))
    return dataset.name, found


def _latency(latency: Summary) -> tuple[str, str]:
    """The median and its interval, in milliseconds."""
    return f"{latency.median:.2f}", f"{latency.interval.low:.2f} to {latency.interval.high:.2f}"


def _finish(file: Path, report: Mapping[str, object], shown: Table, svg: str, console: ui.Console) -> None:
    """Write the figures as JSON, Markdown and a chart, and show them."""
    document = {**report, "machine": fingerprint()}
    console.write(file.with_suffix(".json"), document)
    console.write(file.with_suffix(".md"), shown.markdown() + "\n")
    console.write(file.with_suffix(".svg"), svg)
    console.emit(document, [shown])


if __name__ == "__main__":
    sys.exit(main(tool=sys.modules[__name__]))
