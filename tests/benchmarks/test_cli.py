"""``p3m-edge bench`` as a user meets it: documents, files, exit codes, Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from p3m_edge.benchmarks.report import files
from p3m_edge.cli import main
from tests.artefacts import make_artefact, scale_constant

QUICK = ("--rounds", "2", "--iterations", "1", "--warmup", "0", "--threads", "1", "--frame-size", "64x48")
FAST = (*QUICK, "--no-throughput")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("artefacts")
    make_artefact(home / "plain", size=(32, 32))
    make_artefact(home / "broken", size=(32, 32), breaking=scale_constant("local.weight", 1.5))
    return home


def _error(capsys: pytest.CaptureFixture[str], code: int, *arguments: object) -> str:
    assert main(["bench", *map(str, arguments)]) == code
    return capsys.readouterr().err


def test_one_document_two_files_and_a_failed_self_test(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report"
    assert main(["bench", str(folder / "plain"), str(folder / "broken"), *QUICK, "--json", "--out", str(out)]) == 3
    shown, err = capsys.readouterr()
    document: dict[str, Any] = json.loads(shown)
    assert document.pop("error")["exit_code"] == 3
    assert [(row["label"], row["status"]) for row in document["rows"]] == [("plain", "ok"), ("broken", "parity-failed")]
    assert document == json.loads((out / "report.json").read_bytes())
    plain, broken = files.read(out / "report.json").rows
    assert plain.measured is not None
    assert plain.measured.throughput is not None
    assert broken.measured is None
    assert "Bare call of the engine" in (out / "report.md").read_text(encoding="utf-8")
    assert "cold start" in err  # progress
    assert sorted(path.name for path in out.iterdir()) == ["report.json", "report.md"]


def test_a_bundle_and_an_import(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain, bundle = folder / "plain", tmp_path / "bundle"
    assert main(["bench", "--bundle", str(bundle), str(plain), *FAST]) == 0
    assert "run_bench.py" in capsys.readouterr().out
    done = subprocess.run([sys.executable, str(bundle / "run_bench.py")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = bundle / "result.json"
    assert main(["bench", "--import", str(result), str(plain), *FAST]) == 0
    assert "Machines side by side" in capsys.readouterr().out
    assert main(["bench", "--import", str(result), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["label"] == "plain"
    other = make_artefact(tmp_path / "other", size=(32, 32), seed=9)
    assert "another artefact" in _error(capsys, 5, "--import", result, other, *FAST)
    result.write_text("{}", encoding="utf-8")
    assert "not a benchmark result" in _error(capsys, 5, "--import", result)


def test_what_cannot_be_done_is_said(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = folder / "plain"
    assert "nothing to measure" in _error(capsys, 2)
    assert "does not exist" in _error(capsys, 5, tmp_path / "none")
    assert "rounds" in _error(capsys, 2, plain, "--rounds", "0")
    assert "seconds" in _error(capsys, 2, plain, "--seconds", "-1")
    assert "exclude" in _error(capsys, 2, plain, "--frame", "a.png", "--frame-size", "4x4")
    assert "none.png" in _error(capsys, 1, plain, "--frame", tmp_path / "none.png")
    assert "no row is called" in _error(capsys, 2, plain, "--baseline", "plane", *FAST)
    assert "OpenVINO artefact" in _error(capsys, 2, plain, "--against-benchmark-app", *FAST)
    assert "eager row" in _error(capsys, 2, plain, "--size", "64x64")
    assert "no meaning" in _error(capsys, 2, plain, "--bundle", tmp_path / "b", "--eager", "r34")
    assert "at least one artefact" in _error(capsys, 2, "--bundle", tmp_path / "b")
    assert "--roundss" in _error(capsys, 2, plain, "--roundss", "3")
    assert not (tmp_path / "b").exists()


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
def test_an_interrupt_ends_with_130_and_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "p3m_edge",
        "bench",
        str(folder / "plain"),
        "--rounds",
        "100000",
        "--no-throughput",
    ]
    environment = os.environ | {"TMPDIR": str(tmp_path / "tmp")}
    (tmp_path / "tmp").mkdir()
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path / "report")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    children: list[psutil.Process] = []
    deadline = time.monotonic() + 60
    while not children and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
        children = psutil.Process(process.pid).children()
    assert children
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert b"interrupted" in err
    assert not psutil.wait_procs(children, timeout=20)[1]
    assert not (tmp_path / "report").exists()
    assert not list((tmp_path / "tmp").iterdir())
