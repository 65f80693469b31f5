"""OpenVINO's own ``benchmark_app`` against this benchmark: same artefact, same settings, interleaved rounds.

Two independent measurements: if they disagree, one of the two is wrong.
"""

from __future__ import annotations

import importlib.util
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec

from p3m_edge import manifest
from p3m_edge.benchmarks.measure import Progress, no_progress, with_threads
from p3m_edge.benchmarks.report.schema import AppComparison, MeasureOptions, Used
from p3m_edge.benchmarks.rows import ArtefactRow, load_arguments, redact
from p3m_edge.benchmarks.statistics import paired_ratio, summarise
from p3m_edge.errors import UsageError, missing_package
from p3m_edge.telemetry import silence_engines
from p3m_edge.temporary import temporary_folder
from p3m_edge.workers.parent import Worker, WorkerError, environment

_MAIN = (
    "import sys; from p3m_edge.telemetry import silence_engines; silence_engines();"
    "from openvino.tools.benchmark.main import main; sys.exit(main())"
)
_REPORT = "benchmark_report.json"
_FEWEST = 3  # iterations


class _Results(msgspec.Struct):
    latency: float = msgspec.field(name="latency (ms)")


class _AppReport(msgspec.Struct):
    execution_results: _Results


def compare(
    row: ArtefactRow, options: MeasureOptions, *, scratch: Path | None = None, progress: Progress = no_progress
) -> AppComparison:
    """Measure one OpenVINO artefact with both, in interleaved rounds: latency hint, synchronous, same threads.

    Parameters
    ----------
    row, options
        Of the options, ``iterations`` is three at least; frame, throughput and ``seconds`` do not count.
    scratch, progress
        As in :func:`p3m_edge.benchmarks.measure.measure`.

    Raises
    ------
    UsageError, ArtefactError
        The artefact is not OpenVINO's, its input is dynamic, or it is damaged or rejected.
    MissingError, WorkerError
        ``benchmark_app`` is not installed; one of the two failed.
    """
    known = row.describe()
    if known.engine != "openvino":
        raise UsageError(f"benchmark_app measures OpenVINO artefacts; {row.label} runs on {known.engine}")
    if known.width is None or known.height is None:
        raise UsageError(f"benchmark_app needs a static input; {row.label} is dynamic")
    silence_engines()  # looking for a module below it imports openvino
    if importlib.util.find_spec("openvino.tools.benchmark") is None:
        raise missing_package("openvino.tools.benchmark", "openvino")
    options = replace(with_threads(options), iterations=max(options.iterations, _FEWEST), seconds=None)
    with temporary_folder(scratch) as folder:
        return _compare(row, options, folder, progress)


def _compare(row: ArtefactRow, options: MeasureOptions, folder: Path, progress: Progress) -> AppComparison:
    ours: list[list[float]] = []
    theirs: list[list[float]] = []
    model = row.folder.absolute() / manifest.read(row.folder).model_file
    shuffle = random.Random(options.seed)  # noqa: S311 - an order, not a secret
    with Worker(row.module, timeout=options.timeout, scratch=folder) as worker:
        used = msgspec.convert(worker.call("load", **load_arguments(row, options))["used"], Used)
        settings = _settings(options, used)
        arguments = (*settings, *_configuration(options, used, folder))
        worker.call("first")
        worker.call("warmup", calls=options.warmup)

        for number in range(options.rounds):
            for ours_now in shuffle.sample([True, False], 2):
                what = f"benchmark_app, round {number + 1}: {row.label}"
                progress(what, len(ours) + len(theirs), 2 * options.rounds)
                if ours_now:
                    found = worker.call("round", iterations=options.iterations, seconds=None, bare=True)
                    ours.append(found["latency"])
                else:
                    theirs.append([_run(model, arguments, folder, options.timeout, row)])
    shown = settings if options.threads is None else (*settings, f"INFERENCE_NUM_THREADS={options.threads}")
    mine, other = summarise(ours), summarise(theirs)
    return AppComparison(row.label, mine, other, paired_ratio(mine.rounds, other.rounds), shown)


def _settings(options: MeasureOptions, used: Used) -> tuple[str, ...]:
    """The options that make ``benchmark_app`` do what our engine does."""
    return (
        "-d", used.device, "-hint", "latency", "-api", "sync", "-infer_precision", used.arithmetic,
        "-niter", str(options.iterations),
    )  # fmt: skip


def _configuration(options: MeasureOptions, used: Used, folder: Path) -> tuple[str, ...]:
    """The number of threads: together with a hint, ``benchmark_app`` takes it from a file only."""
    if options.threads is None:
        return ()
    path = folder / "configuration.json"
    path.write_bytes(msgspec.json.encode({used.device: {"INFERENCE_NUM_THREADS": str(options.threads)}}))
    return "-load_config", str(path)


def _run(model: Path, settings: tuple[str, ...], folder: Path, timeout: float, row: ArtefactRow) -> float:
    """One run of ``benchmark_app``; its median latency in milliseconds."""
    command = [sys.executable, "-P", "-c", _MAIN, "-m", str(model), *settings]
    command += ["-json_stats", "-report_type", "no_counters", "-report_folder", str(folder)]
    report = folder / _REPORT
    report.unlink(missing_ok=True)
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=timeout, check=False, cwd=folder,
            env=environment(folder),
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise WorkerError(f"benchmark_app took longer than {timeout:g} s", hint="raise --timeout") from None
    try:
        found = msgspec.json.decode(report.read_bytes(), type=_AppReport, strict=False)  # its numbers are texts
        return found.execution_results.latency
    except (OSError, msgspec.MsgspecError):
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        last = redact(lines[-1], row.paths()) if lines else "no output"
        raise WorkerError(f"benchmark_app failed with code {done.returncode}: {last}") from None
