"""Reports made by hand, for what reads, ranks and renders them."""

from p3m_edge.benchmarks.fingerprint import Conditions, Fingerprint
from p3m_edge.benchmarks.report import schema
from p3m_edge.benchmarks.report.ranking import rankings, with_baseline
from p3m_edge.benchmarks.report.schema import (
    BenchmarkReport,
    Measured,
    MeasureOptions,
    Memory,
    Parity,
    RowResult,
    Start,
    Status,
    Used,
)
from p3m_edge.benchmarks.statistics import summarise

MACHINE = Fingerprint(
    "arm64", "Cortex-A76", "Some Board 5", ("dotprod", "neon"), 4, 4, 4, 8 * 2**30, "ondemand", False, "Linux 6.6",
    "CPython 3.12.1", {"p3m-edge": "0.1.0", "numpy": "2.0.0"},
)  # fmt: skip
USED = Used("1.20", "CPU", "arm64", "f32", 4, 1)
CONDITIONS = Conditions(0.05, 0.5, 1.5, None, None, ("the CPU frequency governor is 'ondemand'",))


def measured(median: float, *, eager: bool = False) -> Measured:
    """Eight rounds of three calls around a median."""
    rounds = [[median * (1 + 0.001 * (i % 3) + 0.01 * call) for call in range(-1, 2)] for i in range(8)]
    bare = summarise(rounds)
    start = Start(900.0, 200.0, 400.0, 3 * median)
    if eager:
        return Measured(start, None, bare, Memory(10**9, 10**9, None))
    whole = summarise([[value + 1 for value in calls] for calls in rounds])
    small, over = summarise([[0.5, 0.6]] * 8), summarise([[0.9, 1.2]] * 8)
    speed = summarise([[1000 / median]] * 8)
    memory = Memory(3 * 10**8, 2 * 10**8, 4 * 10**8)
    return Measured(start, start, bare, memory, whole, small, small, over, speed)


def row(label: str, median: float | None, *, status: Status = "ok", identity: str = "ab" * 32) -> RowResult:
    """An artefact's row; ``median`` None for one that was not measured."""
    found = None if median is None else measured(median)
    parity = Parity(status != "parity-failed", () if status == "ok" else ("picture 0: alpha off",), {"alpha": 1e-6})
    reason = None if status == "ok" else f"because of {status}"
    return RowResult(
        label, "artefact", "onnx-fp32", "onnxruntime", "fp32", "r34", "select", False, 1, 64, 32, identity, 160_000_000,
        USED, status, reason, parity, found,
    )  # fmt: skip


def eager(label: str, median: float) -> RowResult:
    """The eager reference's row."""
    return RowResult(
        label, "eager", "eager", "torch", "fp32", "r34", "-", None, 1, 64, 32, None, 0, USED, "ok", None, None,
        measured(median, eager=True),
    )  # fmt: skip


def report(*rows: RowResult) -> BenchmarkReport:
    """A whole report of these rows."""
    made = BenchmarkReport(
        schema.SCHEMA_VERSION, "2026-01-02T03:04:05+00:00", MACHINE, CONDITIONS, MeasureOptions(threads=4), "synthetic",
        rows, rankings(rows),
    )  # fmt: skip
    return with_baseline(made)
