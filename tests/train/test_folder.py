"""One training at a time in a folder: a second one at once, a resumption beside it, and after the holder was killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from p3m_edge.cli import main
from p3m_edge.errors import OutputError
from p3m_edge.train.folder import LOCK, locked
from p3m_edge.train.state import load
from tests.train.conftest import TINY

LONG = ("run.epochs=100000", "run.checkpoint_every=2", "validation.every=100000")
REFUSED = "another training is writing"


def fresh(data: Path, out: Path) -> subprocess.Popen[str]:
    sets = [part for setting in (*TINY, *LONG) for part in ("--set", setting)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    arguments = ["train", "--preset", "smoke", "--data", str(data), "--out", str(out), *sets]
    command = [sys.executable, "-m", "p3m_edge", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def until_it_runs(process: subprocess.Popen[str], log: Path, rows: int) -> None:
    deadline = time.monotonic() + 120
    while not log.is_file() or log.read_text().count("\n") <= rows:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_a_second_training_is_refused_until_the_first_has_ended(portraits, tmp_path, capsys):
    out = tmp_path / "run"
    first = fresh(portraits, out)
    until_it_runs(first, out / "log.csv", 3)
    before = (out / "config.toml").read_bytes()
    assert main(["train", "--preset", "smoke", "--data", str(portraits), "--out", str(out)]) == 2  # it is not empty
    capsys.readouterr()
    assert main(["train", "--out", str(out), "--resume", "--steps", "5"]) == 1
    assert capsys.readouterr().err.splitlines()[0] == f"error: {REFUSED} {out}"
    assert (out / "config.toml").read_bytes() == before
    until_it_runs(first, out / "log.csv", (out / "log.csv").read_text().count("\n") + 2)  # undisturbed
    first.send_signal(signal.SIGKILL)  # whoever is killed removes no file, and the system lets the lock go
    first.communicate()
    assert (out / LOCK).exists()
    step = load(out / "state.pt").step
    assert main(["train", "--out", str(out), "--resume", "--steps", str(step + 2)]) == 0
    assert load(out / "state.pt").step == step + 2
    assert not (out / LOCK).exists()
    capsys.readouterr()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_of_several_that_start_together_one_trains(portraits, tmp_path):
    out = tmp_path / "run"
    processes = [fresh(portraits, out) for _ in range(2)]
    deadline = time.monotonic() + 240
    while (running := sum(process.poll() is None for process in processes)) > 1 or not (out / "log.csv").is_file():
        assert running, [process.communicate()[1] for process in processes]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (left,) = (process for process in processes if process.poll() is None)
    until_it_runs(left, out / "log.csv", 5)
    left.send_signal(signal.SIGINT)
    left.communicate(timeout=60)
    assert left.returncode == 130
    steps = [int(line.split(",")[0]) for line in (out / "log.csv").read_text().splitlines()[1:]]
    assert steps == list(range(1, len(steps) + 1))
    assert load(out / "state.pt").step == steps[-1]
    for process in processes:
        if process is not left:
            _, stderr = process.communicate()
            assert process.returncode in (1, 2)
            assert "Traceback" not in stderr


def test_the_folder_is_as_it_was_when_nothing_came_of_it(tmp_path):
    there = tmp_path / "there"
    there.mkdir()
    for folder in (there, tmp_path / "new"):
        with locked(folder):
            with pytest.raises(OutputError, match=REFUSED), locked(folder):
                raise AssertionError
            assert (folder / LOCK).exists()
    assert list(tmp_path.iterdir()) == [there]
    assert list(there.iterdir()) == []
    with locked(tmp_path / "new"):
        (tmp_path / "new/file").touch()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="whoever runs this may write anywhere")
def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(OutputError, match="cannot be written: Permission denied"), locked(tmp_path / "closed"):
        raise AssertionError
