"""A report against an earlier one: verdicts, what cannot be compared, and ``bench --baseline FILE`` for its user."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from p3m_edge.benchmarks.report import files
from p3m_edge.benchmarks.report import render as rendering
from p3m_edge.benchmarks.report.regression import compare, describe, earlier_report, regression
from p3m_edge.benchmarks.report.schema import Accuracy, BenchmarkReport, MeasureOptions, RowResult
from p3m_edge.benchmarks.statistics import Interval, Summary
from p3m_edge.cli import main
from p3m_edge.errors import ArtefactError, InputError, P3MEdgeError, RegressionError, UsageError
from tests.artefacts import make_artefact, scale_constant
from tests.benchmarks.helpers.samples import MACHINE, eager, report, row

OPTIONS = MeasureOptions(threads=4)
QUICK = ("--rounds", "3", "--iterations", "1", "--warmup", "0", "--threads", "1", "--frame-size", "64x48")
FAST = (*QUICK, "--no-throughput")


def _verdicts(now: BenchmarkReport, before: BenchmarkReport) -> dict[str, str]:
    return {change.label: change.verdict for change in compare(now, before).changes}


def _scaled(summary: Summary, factor: float) -> Summary:
    interval = Interval(summary.interval.low * factor, summary.interval.high * factor, summary.interval.coverage)
    numbers = {name: getattr(summary, name) * factor for name in ("minimum", "mean", "median", "p90", "p95", "p99")}
    return replace(summary, **numbers, interval=interval, rounds=tuple(value * factor for value in summary.rounds))


def _with_latency(found: BenchmarkReport, factor: float) -> BenchmarkReport:
    """The same report with every latency times a factor."""

    def scaled(one: RowResult) -> RowResult:
        if one.measured is None:
            return one
        return replace(one, measured=replace(one.measured, latency=_scaled(one.measured.latency, factor)))

    return replace(found, rows=tuple(scaled(one) for one in found.rows))


def test_what_is_beyond_the_noise_is_slower_or_faster():
    before = report(row("a", 10.0), row("b", 10.0), row("c", 10.0), eager("eager", 40.0))
    now = report(row("a", 11.0), row("b", 9.0), row("c", 10.3), eager("eager", 40.0))
    assert _verdicts(now, before) == {"a": "slower", "b": "faster", "c": "same", "eager": "same"}
    changes = compare(now, before).changes
    assert changes[0].ratio is not None
    assert changes[0].ratio.value == pytest.approx(10 / 11)
    assert changes[0].ratio.interval.low <= changes[0].ratio.value <= changes[0].ratio.interval.high < 1
    assert (changes[0].same_artefact, changes[3].same_artefact) == (True, None)
    assert "x1.10" in describe(changes[0])


def test_overlapping_intervals_are_noise_however_far_the_medians():
    before, now = report(row("a", 10.0)), report(row("a", 13.0))
    measured = now.rows[0].measured
    assert measured is not None
    wide = replace(measured.latency, interval=Interval(9.0, 17.0, 0.96))
    now = replace(now, rows=(replace(now.rows[0], measured=replace(measured, latency=wide)),))
    assert _verdicts(now, before) == {"a": "same"}
    thin = replace(measured.latency, interval=Interval(12.9, 13.1, 0.5))  # two rounds
    now = replace(now, rows=(replace(now.rows[0], measured=replace(measured, latency=thin)),))
    assert _verdicts(now, before) == {"a": "same"}


def test_what_happened_to_rows_that_are_not_simply_measured():
    before = report(
        row("lost", 10.0), row("crashed", 10.0), row("dead", None, status="failed"),
        row("wrong", None, status="failed"), row("gone", 5.0),
        replace(row("other", 10.0), target="onnx-fp16"), replace(row("size", 10.0), width=128),
    )  # fmt: skip
    now = report(
        row("lost", None, status="parity-failed"), row("crashed", None, status="failed"), row("dead", 10.0),
        row("wrong", None, status="parity-failed"), row("other", 10.0), row("size", 10.0), row("fresh", 3.0),
    )  # fmt: skip
    assert _verdicts(now, before) == {
        "lost": "parity lost", "crashed": "failed", "dead": "regained", "wrong": "failed", "other": "not comparable",
        "size": "not comparable", "fresh": "new", "gone": "missing",
    }  # fmt: skip
    found = replace(now, comparison=compare(now, before))
    error = regression(found)
    assert isinstance(error, RegressionError)
    assert "lost: parity lost: because of parity-failed" in str(error)
    notes = {change.label: change.note for change in compare(now, before).changes}
    assert notes["other"] == "target onnx-fp16 then, onnx-fp32 now"
    assert notes["size"] == "shape 128x32 then, 64x32 now"


def test_only_what_became_worse_is_an_error():
    before = report(row("a", 10.0), row("b", 10.0))
    for now in (before, report(row("a", 5.0), row("b", 10.0)), report(row("a", 10.0))):
        assert regression(replace(now, comparison=compare(now, before))) is None
    assert regression(before) is None  # nothing was compared
    worse = report(row("a", 20.0), row("b", 20.0))
    error = regression(replace(worse, comparison=compare(worse, before)))
    assert isinstance(error, RegressionError)
    assert error.exit_code == 6
    assert "a: slower, 10.01 ms before, 20.02 ms now (x2.00) (and 1 more)" in str(error)


def test_remarks_name_what_else_changed():
    before = report(row("a", 10.0), row("b", 10.0))
    now = report(row("a", 20.0, identity="cd" * 32), row("b", 20.0))
    machine = replace(MACHINE, packages={"p3m-edge": "0.2.0", "numpy": "2.0.0"}, system="Linux 7.0")
    found = compare(replace(now, machine=machine), before)
    text = "\n".join(found.remarks)
    assert "every row is slower" in text
    assert "p3m-edge: 0.1.0 then, 0.2.0 now" in text
    assert "system: Linux 6.6 then, Linux 7.0 now" in text
    assert "numpy" not in text
    assert "in the earlier run: the CPU frequency governor" in text
    assert [change.note for change in found.changes] == ["the artefact has changed", ""]


def _file(folder: Path, found: BenchmarkReport) -> Path:
    path = folder / "old.json"
    path.write_bytes(files.encode(found))
    return path


def test_a_report_that_says_nothing_about_this_run_is_refused(tmp_path: Path) -> None:
    good = report(row("a", 10.0))
    cases: list[tuple[BenchmarkReport, type[P3MEdgeError], str, str | None]] = [
        (replace(good, machine=replace(MACHINE, cpu="Other CPU")), ArtefactError, "another machine", "again"),
        (
            replace(good, machine=replace(MACHINE, usable_cores=2)),
            ArtefactError,
            "usable cores: 2 then, 4 now",
            "again",
        ),
        (replace(good, options=replace(OPTIONS, threads=2)), ArtefactError, "threads 2 then, 4 now", "--threads 2"),
        (replace(good, options=replace(OPTIONS, device="gpu")), ArtefactError, "device gpu then", "--device gpu"),
        (report(row("b", 10.0)), UsageError, "no row in common", "label"),
        (replace(good, options=replace(OPTIONS, rounds=2)), UsageError, "2 rounds", "--rounds"),
    ]
    for found, kind, message, hint in cases:
        with pytest.raises(kind, match=message) as refused:
            earlier_report(_file(tmp_path, found), MACHINE, OPTIONS, ["a"])
        assert hint is None or hint in str(refused.value.hint)
    with pytest.raises(UsageError, match="this run has 1 rounds"):
        earlier_report(_file(tmp_path, good), MACHINE, replace(OPTIONS, rounds=1), ["a"])
    with pytest.raises(UsageError, match="no row can be compared"):
        compare(good, report(replace(row("a", 10.0), target="onnx-fp16")))
    with pytest.raises(InputError, match="cannot be read"):
        earlier_report(tmp_path / "none.json", MACHINE, OPTIONS, ["a"])


def test_of_several_machines_the_one_that_this_is_counts(tmp_path: Path) -> None:
    here = report(row("a", 10.0))
    both = replace(here, machine=replace(MACHINE, cpu="Other CPU"), imported=(here,))
    assert earlier_report(_file(tmp_path, both), MACHINE, OPTIONS, ["a"]) == here


def test_comparison_and_accuracy_travel_in_the_report_and_are_shown(tmp_path: Path) -> None:
    before, now = report(row("a", 10.0), row("b", 10.0)), report(row("a", 20.0), row("c", 1.0))
    accuracy = Accuracy(2, 1, "a", {"a": 3.25}, {"a": 0.0}, {"c": "out of memory"})
    found = replace(now, comparison=compare(now, before), accuracy=accuracy)
    path = _file(tmp_path, found)
    assert files.read(path) == found
    text = rendering.markdown(found)
    for expected in ("Against the report of 2026-01-02", "slower", "missing", "3.25", "out of memory"):
        assert expected in text


# --- the command line ---


def _bench(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any], str]:
    code = main(["bench", *map(str, arguments), "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out), err


def test_an_import_is_held_against_an_earlier_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    now = tmp_path / "now.json"
    now.write_bytes(files.encode(report(row("a", 10.0), row("b", 10.0))))
    slow = _file(tmp_path, report(row("a", 20.0), row("b", 10.0)))
    code, document, _ = _bench(capsys, "--import", now, "--baseline", slow)
    assert code == 0
    assert [change["verdict"] for change in document["comparison"]["changes"]] == ["faster", "same"]
    quick = _file(tmp_path, report(row("a", 5.0), row("b", 10.0)))
    out = tmp_path / "out"
    code, document, err = _bench(capsys, "--import", now, "--baseline", quick, "--out", out)
    assert code == 6
    assert document["error"]["exit_code"] == 6
    assert "error: a: slower" in err
    written = files.read(out / "report.json").comparison
    assert written is not None
    assert written.changes[0].verdict == "slower"
    assert "Against the report of" in (out / "report.md").read_text(encoding="utf-8")
    code, document, _ = _bench(capsys, "--import", now, "--baseline", "a")  # a label, as ever
    assert (code, document["baseline"], document["comparison"]) == (0, "a", None)


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        (None, 1, "cannot be read"),
        (b"", 5, "not a benchmark result"),
        (b"hello", 5, "not a benchmark result"),
        (b'{"schema": 99}', 5, "has schema 99"),
        (b"[]", 5, "not a benchmark result"),
        (files.encode(report(row("z", 1.0))), 2, "no row in common"),
        (files.encode(replace(report(row("a", 1.0)), machine=replace(MACHINE, cpu="X"))), 5, "another machine"),
    ],
)
def test_an_unfit_baseline_is_one_clear_line(
    content: bytes | None, code: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now = tmp_path / "now.json"
    now.write_bytes(files.encode(report(row("a", 10.0))))
    if content is not None:
        (tmp_path / "old.json").write_bytes(content)
    assert main(["bench", "--import", str(now), "--baseline", str(tmp_path / "old.json")]) == code
    out, err = capsys.readouterr()
    assert message in err
    assert err.count("error:") == 1
    assert not out


def test_measured_twice_and_worse_the_second_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_artefact(tmp_path / "one", size=(32, 32))
    assert main(["bench", str(folder), *FAST, "--out", str(tmp_path / "first")]) == 0
    capsys.readouterr()
    first = files.read(tmp_path / "first" / "report.json")
    old = _file(tmp_path, _with_latency(first, 1e-4))
    code, document, err = _bench(capsys, folder, *FAST, "--baseline", old)
    assert (code, document["comparison"]["changes"][0]["verdict"]) == (6, "slower")
    assert "one: slower" in err

    shutil.rmtree(folder)
    make_artefact(folder, size=(32, 32), breaking=scale_constant("local.weight", 1.5))
    code, document, _ = _bench(capsys, folder, *FAST, "--baseline", tmp_path / "first" / "report.json")
    assert code == 6  # and not 3: it passed before
    assert document["comparison"]["changes"][0]["verdict"] == "parity lost"


def test_a_baseline_of_another_machine_is_refused_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_artefact(tmp_path / "a", size=(32, 32))
    old = _file(tmp_path, report(row("a", 10.0)))
    assert main(["bench", str(folder), *FAST, "--baseline", str(old)]) == 5
    err = capsys.readouterr().err
    assert "another machine" in err
    assert "cold start" not in err
    assert main(["bench", str(folder), "--bundle", str(tmp_path / "bundle"), "--baseline", str(old)]) == 2
    assert not (tmp_path / "bundle").exists()
