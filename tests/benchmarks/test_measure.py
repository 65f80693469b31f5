"""The whole benchmark on real artefacts, and everything that may go wrong under way."""

import importlib.util
import shutil
import sys
import tempfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest

from p3m_edge.benchmarks.benchmark_app import compare
from p3m_edge.benchmarks.measure import measure
from p3m_edge.benchmarks.report import files, schema
from p3m_edge.benchmarks.report.ranking import failure
from p3m_edge.benchmarks.report.schema import BenchmarkReport, MeasureOptions, RowResult
from p3m_edge.benchmarks.rows import ArtefactRow, EagerRow, Row, artefact_rows
from p3m_edge.benchmarks.statistics import Summary
from p3m_edge.errors import ArtefactError, CheckpointError, GateError, MissingError, PartialError, UsageError
from tests.artefacts import edit_manifest, make_artefact, rehash, scale_constant

QUICK = MeasureOptions(rounds=3, iterations=2, warmup=1, threads=1, frame_width=80, frame_height=50, throughput=False)
ONE = replace(QUICK, rounds=1, iterations=1, warmup=0)
SUMMARIES = ("latency", "end_to_end", "preprocess", "postprocess", "throughput")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("artefacts")
    make_artefact(home / "plain", size=(32, 32))
    make_artefact(home / "vino", "openvino", size=(32, 32))
    make_artefact(home / "pair", size=(32, 32), batch=2)
    make_artefact(home / "dynamic", size=None)
    make_artefact(home / "broken", size=(32, 32), breaking=scale_constant("local.weight", 1.5))
    return home


@pytest.fixture(scope="module")
def report(folder: Path) -> BenchmarkReport:
    rows = artefact_rows([folder / "plain", folder / "vino"])
    seen: list[tuple[int, int]] = []
    found = measure(rows, replace(QUICK, throughput=True), progress=lambda _, d, t: seen.append((d, t)))
    assert seen == [(done, len(seen) - 1) for done in range(len(seen))]
    return found


def _row(report: BenchmarkReport, label: str) -> RowResult:
    return next(row for row in report.rows if row.label == label)


def test_every_number_is_there_and_sane(report: BenchmarkReport) -> None:
    assert [row.label for row in report.rows] == ["plain", "vino"]
    for row in report.rows:
        assert (row.status, row.reason, row.shape) == ("ok", None, "32x32")
        assert row.used is not None
        assert row.parity is not None
        assert row.measured is not None
        assert row.parity.passed
        assert {"local_mean", "flips"} <= row.parity.worst.keys()
        assert row.size_bytes > 0
        found = row.measured
        for name in SUMMARIES:
            summary: Summary = getattr(found, name)
            assert summary.count == (3 if name == "throughput" else 6)
            assert len(summary.rounds) == 3
            ordered = [0, summary.minimum, summary.median, summary.p90, summary.p95, summary.p99]
            assert all(a <= b for a, b in pairwise(ordered))
            assert summary.minimum > 0
        assert found.overhead is not None
        assert found.overhead.count == 6
        assert found.end_to_end is not None
        assert 0 < found.overhead.median < found.end_to_end.median
        for start in (found.cold_start, found.second_start):
            assert start is not None
            assert start.ready_ms > start.import_ms + start.load_ms > 0
            assert start.first_ms > 0
        assert min(found.memory.cold, found.memory.running, found.memory.throughput or 0) > 20_000_000
    assert sorted(label for r in report.rankings for g in r.groups for label in g) == ["plain", "vino"]
    assert report.options.threads == 1
    assert _row(report, "vino").engine == "openvino"
    assert failure(report) is None


def test_it_survives_json_and_holds_no_path(report: BenchmarkReport, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(files.encode(report))
    assert files.read(path) == report
    text = path.read_text(encoding="utf-8")
    for private in (str(folder), str(Path.home()), str(Path.cwd()), tempfile.gettempdir()):
        assert private not in text


def test_a_batch_a_dynamic_size_and_a_picture(folder: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "frame.png"), np.full((70, 110, 3), 90, np.uint8))
    rows = artefact_rows([folder / "pair", folder / "dynamic"])
    options = replace(ONE, throughput=True, seconds=0.01)
    found = measure(rows, options, frame=tmp_path / "frame.png")
    assert found.frame == "file"
    assert [row.shape for row in found.rows] == ["32x32, batch 2", "96x64"]
    assert len(found.rankings) == 2
    assert failure(found) is None
    assert str(tmp_path) not in files.encode(found).decode()


def test_a_failed_self_test_is_never_ranked(folder: Path) -> None:
    found = measure(artefact_rows([folder / "broken", folder / "plain"]), ONE)
    broken = _row(found, "broken")
    assert broken.status == "parity-failed"
    assert broken.measured is None
    assert broken.parity is not None
    assert not broken.parity.passed
    assert "local alpha" in str(broken.reason)
    assert found.rankings[0].groups == (("plain",),)
    assert isinstance(failure(found), GateError)


def _workers() -> list[psutil.Process]:
    return [p for p in psutil.Process().children() if "p3m_edge.benchmarks.worker" in " ".join(p.cmdline())]


def test_a_killed_worker_costs_its_row_only(folder: Path) -> None:
    killed: list[int] = []

    def kill_the_newest(what: str, _done: int, _total: int) -> None:
        if what.startswith("round 2") and not killed:
            victim = max(_workers(), key=lambda p: (p.create_time(), p.pid))
            victim.kill()
            victim.wait()
            killed.append(victim.pid)

    found = measure(artefact_rows([folder / "plain", folder / "vino"]), QUICK, progress=kill_the_newest)
    assert killed
    assert {row.status for row in found.rows} == {"ok", "failed"}
    dead = next(row for row in found.rows if row.status == "failed")
    assert "killed" in str(dead.reason) or "ended" in str(dead.reason)
    assert dead.measured is None
    alive = next(row for row in found.rows if row.status == "ok")
    assert alive.measured is not None
    assert len(alive.measured.latency.rounds) == QUICK.rounds
    assert found.rankings[0].groups == ((alive.label,),)
    assert isinstance(failure(found), PartialError)
    assert not _workers()


def test_a_worker_that_does_not_answer_becomes_a_failed_row(folder: Path) -> None:
    found = measure(artefact_rows([folder / "plain"]), replace(ONE, timeout=0.01))
    assert found.rows[0].status == "failed"
    assert "within 0.01 s" in str(found.rows[0].reason)
    assert not _workers()


def test_what_the_runtime_refuses_is_a_failed_row_without_a_path(folder: Path) -> None:
    found = measure(artefact_rows([folder / "plain"]), replace(ONE, device="abacus", threads=None))
    assert found.rows[0].status == "failed"
    assert "abacus" in str(found.rows[0].reason)
    assert str(folder) not in str(found.rows[0].reason)


def test_an_interrupt_leaves_no_worker_and_no_file(folder: Path, tmp_path: Path) -> None:
    def interrupt(what: str, _done: int, _total: int) -> None:
        if what.startswith("round 2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(artefact_rows([folder / "plain"]), QUICK, scratch=tmp_path, progress=interrupt)
    assert not _workers()
    assert not list(tmp_path.iterdir())


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(folder / "plain", tmp_path / "copy")


def test_a_damaged_artefact_is_refused_before_anything_runs(copy: Path) -> None:
    with (copy / "model.onnx").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(ArtefactError, match=r"model\.onnx"):
        measure(artefact_rows([copy]), ONE)
    with pytest.raises(ArtefactError, match="does not exist"):
        measure(artefact_rows([copy.parent / "none"]), ONE)
    rejected = copy.rename(copy.with_name("copy.rejected"))
    with pytest.raises(ArtefactError, match="rejected"):
        measure(artefact_rows([rejected]), ONE)


@pytest.mark.skipif(sys.platform == "darwin", reason="here, Core ML is an engine like any other")
def test_an_engine_that_is_not_here_is_refused_before_anything_runs(copy: Path) -> None:
    elsewhere = make_artefact(copy.parent / "coreml-fp32", "coreml", size=(32, 32))
    with pytest.raises(MissingError, match="Core ML"):
        measure(artefact_rows([elsewhere]), ONE)
    edit_manifest(copy, engine__status="not-built", engine__reason="no compiler")
    with pytest.raises(ArtefactError, match="no compiler"):
        measure(artefact_rows([copy]), ONE)


def test_the_identity_is_that_of_the_content(folder: Path, copy: Path) -> None:
    from p3m_edge import manifest

    before = schema.identity(manifest.read(copy))
    assert before == schema.identity(manifest.read(folder / "plain"))
    edit_manifest(copy, model__provenance="told otherwise")
    assert schema.identity(manifest.read(copy)) == before
    (copy / "golden.npz").write_bytes(b"other")
    rehash(copy)
    assert schema.identity(manifest.read(copy)) != before


def test_labels_are_unique(tmp_path: Path) -> None:
    paths = [tmp_path / "a" / "x", tmp_path / "b" / "x", tmp_path / "y", tmp_path / "y"]
    labels = [row.label for row in artefact_rows(paths)]
    assert labels[:2] == ["a/x", "b/x"]
    assert len(set(labels)) == len(labels)
    assert not any(str(tmp_path.parent) in label for label in labels)


@pytest.mark.parametrize(
    "change",
    [{"rounds": 0}, {"iterations": 0}, {"warmup": -1}, {"threads": 0}, {"seconds": 0.0}, {"timeout": 0.0}],
)
def test_impossible_options_are_refused(folder: Path, change: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(change))):
        measure(artefact_rows([folder / "plain"]), replace(ONE, **change))


def test_impossible_rows_are_refused(folder: Path, tmp_path: Path) -> None:
    row = ArtefactRow("a", folder / "plain")
    with pytest.raises(UsageError, match="nothing to measure"):
        measure([], ONE)
    with pytest.raises(UsageError, match="same label"):
        measure([row, row], ONE)
    with pytest.raises(UsageError, match="no row is called"):
        measure([row], ONE, baseline="b")
    with pytest.raises(UsageError, match="multiple of 32"):
        measure([EagerRow("e", "r34", 100, 64)], ONE)
    with pytest.raises(CheckpointError, match="does not exist"):
        measure([EagerRow("e", str(tmp_path / "none.pth"), 64, 64)], ONE)
    with pytest.raises(UsageError, match="r35") as unknown:
        measure([EagerRow("e", "r35", 64, 64)], ONE)
    assert "r34" in str(unknown.value.hint)


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_eager_pytorch_is_the_baseline(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "wrong.pth").write_bytes(b"not a checkpoint")
    wrong_row = EagerRow("wrong", str(tmp_path / "wrong.pth"), 32, 32)
    rows: list[Row] = [*artefact_rows([folder / "plain"]), EagerRow("eager", "r34", 32, 32), wrong_row]
    seen: list[tuple[int, int]] = []
    found = measure(rows, replace(ONE, throughput=True), progress=lambda _, d, t: seen.append((d, t)))
    assert seen == [(done, len(seen) - 1) for done in range(len(seen))]  # eager rows have no throughput
    eager, wrong = _row(found, "eager"), _row(found, "wrong")
    assert eager.measured is not None
    assert eager.measured.end_to_end is None
    assert eager.measured.second_start is None
    assert eager.measured.memory.throughput is None
    assert eager.used is not None
    assert eager.used.threads == 1
    assert (eager.kind, eager.parity, eager.identity) == ("eager", None, None)
    assert found.baseline == "eager"
    assert found.ratios["plain"].value > 0
    assert wrong.status == "failed"
    assert "wrong.pth" in str(wrong.reason)
    assert str(tmp_path) not in str(wrong.reason)


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")
def test_benchmark_app_measures_the_same_artefact(folder: Path) -> None:
    row = ArtefactRow("vino", folder / "vino")
    found = compare(row, replace(QUICK, rounds=2))
    assert found.ours.count == 2 * 3
    assert len(found.ours.rounds) == len(found.theirs.rounds) == 2
    assert found.theirs.minimum > 0
    assert found.ratio.value > 0
    assert "INFERENCE_NUM_THREADS=1" in found.settings
    with pytest.raises(UsageError, match="OpenVINO"):
        compare(ArtefactRow("plain", folder / "plain"), QUICK)
