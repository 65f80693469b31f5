"""Latency of other people's networks, as ONNX files, beside our artefacts: ``python tools/beside_others.py``."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from p3m_edge.arrays import Array
from p3m_edge.benchmarks.fingerprint import fingerprint
from p3m_edge.benchmarks.interleave import interleaved
from p3m_edge.benchmarks.statistics import median, paired_ratio, summarise
from p3m_edge.cli import main, ui
from p3m_edge.cli.options import argument, option
from p3m_edge.errors import InputError, UsageError
from p3m_edge.manifest import read
from p3m_edge.runtimes.engines import openvino as ov
from p3m_edge.table import Table

EXAMPLES = """
python tools/beside_others.py modnet.onnx rvm-0.5.onnx --artefact out/openvino-fp32 --artefact out/r34/openvino-fp32
"""


@dataclass(frozen=True)
class Arguments:
    """Time other people's networks beside artefacts: OpenVINO, one interleaved run. Every network computes in float32
    with the same number of threads, one inference at a time. Each round calls all of them in an order of its own;
    ratios are of the rounds' medians, to the first artefact. Inputs are random: latency does not depend on them, nor on
    weights.
    """

    files: tuple[Path, ...] = argument("an ONNX file of static shapes", "FILE", nargs="+")
    artefacts: tuple[Path, ...] = option("repeatable", (), flag="--artefact", metavar="DIR", required=True)
    threads: int = option("of each network", 2)
    rounds: int = option("interleaved rounds", 15)
    iterations: int = option("calls of each network in a round", 3)


def run(args: Arguments, console: ui.Console) -> None:
    """Measure, and print a table."""
    names = [f"{path.parent.name}/{path.name}" for path in args.artefacts] + [path.stem for path in args.files]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise UsageError(f"two networks would be called {', '.join(twice)}")
    models = [*(path / read(path).model_file for path in args.artefacts), *args.files]
    calls = {name: _call(model, args.threads) for name, model in zip(names, models, strict=True)}
    with ui.progress(console, lines=args.rounds) as bars:
        found = interleaved(
            calls, rounds=args.rounds, iterations=args.iterations,
            progress=lambda done, total: bars.progress("rounds", done, total),
        )  # fmt: skip
    columns = ("network", "median, ms", "95 % interval", f"latency as a multiple of {names[0]}'s")
    machine = fingerprint()
    where = f"{machine.cpu}, {machine.system}, OpenVINO {machine.packages.get('openvino', '?')}"
    console.emit({"rounds": found, "machine": machine}, [Table("", columns, tuple(_rows(found))).markdown(), "", where])


def _call(model: Path, threads: int) -> Callable[[], object]:
    """An inference on random numbers."""
    core = ov.require().Core()
    settings = {
        "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads,
    }  # fmt: skip
    try:
        compiled = core.compile_model(core.read_model(model), "CPU", settings)
        numbers = np.random.default_rng(0)
        inputs = [_random(numbers, tuple(each.shape), each.element_type.to_dtype()) for each in compiled.inputs]
        request = compiled.create_infer_request()
        request.infer(inputs)
    except RuntimeError as error:  # OpenVINO's, whatever the reason; also of a shape that is not static
        reason = " ".join(str(error).split())[-200:]
        raise InputError(f"{model} cannot be used: {reason}") from error
    return lambda: request.infer(inputs)


def _random(numbers: np.random.Generator, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    return (numbers.random(shape) * (255 if dtype == np.uint8 else 1)).astype(dtype)


def _rows(found: dict[str, list[list[float]]]) -> Iterator[tuple[str, ...]]:
    base = [median(calls) for calls in next(iter(found.values()))]
    for name, rounds in found.items():
        summary, ratio = summarise(rounds), paired_ratio([median(calls) for calls in rounds], base)
        interval = f"{summary.interval.low:.1f} to {summary.interval.high:.1f}"
        multiple = f"{ratio.value:.2f} ({ratio.interval.low:.2f} to {ratio.interval.high:.2f})"
        yield name, f"{summary.median:.1f}", interval, multiple


if __name__ == "__main__":
    sys.exit(main(tool=sys.modules[__name__]))
