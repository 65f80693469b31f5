"""Latency of other people's networks, as ONNX files, beside our artefacts: OpenVINO, one interleaved run.

    python tools/beside_others.py FILE.onnx [FILE.onnx ...] --artefact out/openvino-fp32 [--artefact DIR ...]

Every network computes in float32 with the same number of threads, one inference at a time. Each round calls all of them
in an order of its own; ratios are of the rounds' medians, to the first artefact. Inputs are random: latency does not
depend on them, nor on weights. Files need static shapes. It needs the extra ``openvino``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from p3m_edge.benchmarks.fingerprint import fingerprint
from p3m_edge.benchmarks.interleave import interleaved
from p3m_edge.benchmarks.statistics import median, paired_ratio, summarise
from p3m_edge.errors import InputError, P3MEdgeError
from p3m_edge.manifest import read
from p3m_edge.runtimes.engines import openvino as ov


def main() -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--artefact", type=Path, action="append", required=True, metavar="DIR")
    parser.add_argument("--threads", type=_positive, default=2, metavar="N", help="default: 2")
    parser.add_argument("--rounds", type=_positive, default=15, metavar="N", help="default: 15")
    parser.add_argument("--iterations", type=_positive, default=3, metavar="N", help="of a round (default: 3)")
    arguments = parser.parse_args()
    names = [f"{path.parent.name}/{path.name}" for path in arguments.artefact] + [path.stem for path in arguments.files]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        parser.error(f"two networks would be called {', '.join(sorted(twice))}")
    try:
        models = [path / read(path).model_file for path in arguments.artefact] + arguments.files
        calls = {name: _call(model, arguments.threads) for name, model in zip(names, models, strict=True)}
        _print(interleaved(calls, rounds=arguments.rounds, iterations=arguments.iterations, progress=_tell))
    except P3MEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


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


def _random(numbers: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    return (numbers.random(shape) * (255 if dtype == np.uint8 else 1)).astype(dtype)


def _print(found: dict[str, list[list[float]]]) -> None:
    first = next(iter(found))
    base = [median(calls) for calls in found[first]]
    print(
        f"| network | median, ms | 95 % interval | latency as a multiple of {first}'s |\n| --- | ---: | ---: | ---: |"
    )
    for name, rounds in found.items():
        summary = summarise(rounds)
        ratio = paired_ratio([median(calls) for calls in rounds], base)
        interval = f"{summary.interval.low:.1f} to {summary.interval.high:.1f}"
        multiple = f"{ratio.value:.2f} ({ratio.interval.low:.2f} to {ratio.interval.high:.2f})"
        print(f"| {name} | {summary.median:.1f} | {interval} | {multiple} |")
    machine = fingerprint()
    print(f"\n{machine.cpu}, {machine.system}, OpenVINO {machine.packages.get('openvino', '?')}")


def _tell(done: int, total: int) -> None:
    if done:
        print(f"round {done} of {total}", file=sys.stderr)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


if __name__ == "__main__":
    sys.exit(main())
