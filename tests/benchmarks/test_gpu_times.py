"""The GPU's own time: trtexec's rules with plain numbers, and the table of a report."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from p3m_edge.benchmarks.gpu_times import figures, gpu_times
from p3m_edge.benchmarks.report import files
from p3m_edge.benchmarks.report import render as rendering
from tests.benchmarks.helpers.samples import USED, measured, report, row


def test_a_percentile_is_one_of_the_values_and_the_median_the_middle() -> None:
    hundred = [float(value) for value in range(1, 101)]
    random.Random(1).shuffle(hundred)
    found = figures(hundred)
    assert (found.minimum, found.maximum, found.mean, found.median) == (1, 100, 50.5, 50.5)
    # In single precision, as trtexec computes them: 10, 5 and no values are left out of 100.
    assert (found.p90, found.p95, found.p99) == (90, 95, 100)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([7.0], (7, 7, 7, 7)),
        ([3.0, 1.0], (2, 3, 3, 3)),
        ([3.0, 1.0, 2.0], (2, 3, 3, 3)),
        ([float(v) for v in range(1, 11)], (5.5, 9, 10, 10)),  # in double precision, no value would be left out for p90
        ([float(v) for v in range(1, 1001)], (500.5, 900, 950, 991)),
    ],
    ids=lambda value: str(len(value)),
)
def test_few_and_many_values(values: list[float], expected: tuple[float, ...]) -> None:
    found = figures(values)
    assert (found.median, found.p90, found.p95, found.p99) == expected


def test_no_values() -> None:
    with pytest.raises(ValueError, match="at least one"):
        figures([])


def test_latency_is_the_sum_of_what_the_gpu_does() -> None:
    found = gpu_times([(9.0, 1.0, 10.0, 2.0), (7.0, 1.0, 20.0, 4.0)], seconds=0.5)
    assert (found.latency.minimum, found.latency.maximum) == (13, 25)
    assert (found.enqueue.mean, found.h2d.mean, found.compute.mean, found.d2h.mean) == (8, 1, 15, 3)
    assert (found.inferences, found.throughput, found.cuda_graph, found.warmup_ms) == (2, 4, False, 200)
    assert list(found.parts) == ["latency", "enqueue", "h2d", "compute", "d2h"]


def test_the_report_shows_it_for_the_rows_that_have_it(tmp_path: Path) -> None:
    times = gpu_times([(0.5, 0.25, 8.0, 0.125)] * 10, seconds=2.0)
    timed = replace(
        row("trt", 10.0), measured=replace(measured(10.0), gpu=times), used=replace(USED, device_memory=5_000_000)
    )
    made = report(timed, row("onnx", 20.0, identity="cd" * 32))
    text = rendering.markdown(made)
    assert "### The GPU's own time, by trtexec's rules, ms" in text
    assert "| trt | GPU compute | 8.0000 | 8.0000 | 8.0000 | 8.0000 | 8.0000 | 8.0000 | 8.0000 |" in text
    assert "| trt | latency | 8.3750 |" in text
    assert "| onnx | latency |" not in text
    assert "CUDA graph off, data transfers included" in text
    assert "trt: 10 inferences in 2.00 s (5.0 a second), 5.0 MB of GPU memory" in text
    assert "The GPU's own time" not in rendering.markdown(report(row("onnx", 20.0)))
    path = tmp_path / "report.json"
    path.write_bytes(files.encode(made))
    assert files.read(path) == made
