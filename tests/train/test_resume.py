"""A training that was killed, or interrupted, ends where an undisturbed one does."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from p3m_edge.train.state import load
from tests.train.conftest import TINY

STEPS = 40
SETTINGS = (
    "optim.ema=0.9",
    "optim.schedule=cosine",
    f"run.max_steps={STEPS}",
    "run.epochs=100",
    "run.checkpoint_every=3",
)


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "p3m_edge", "train", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )  # fmt: skip


def fresh(data: Path, out: Path, *settings: str) -> subprocess.Popen[str]:
    sets = [part for setting in (*TINY, *SETTINGS, *settings) for part in ("--set", setting)]
    return start("--preset", "smoke", "--data", data, "--out", out, *sets)


def end_at(process: subprocess.Popen[str], log: Path, step: int, number: int, *, group: bool = False) -> int:
    """Send a signal, to its workers too or not, as soon as the log has that step; the exit code."""
    deadline = time.monotonic() + 120
    while not log.is_file() or log.read_text().count("\n") <= step:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.001)
    if group:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    process.communicate(timeout=60)
    return process.returncode


def children(pid: int) -> list[psutil.Process]:
    """The processes that prepare pictures, without the one that multiprocessing tracks resources with."""
    found = psutil.Process(pid).children()
    return [process for process in found if "resource_tracker" not in " ".join(process.cmdline())]


def group_of(process: psutil.Process) -> int | None:
    """Its process group; None where it has ended."""
    try:
        return os.getpgid(process.pid)
    except ProcessLookupError:
        return None


def assert_gone(left: Callable[[], list[psutil.Process]]) -> None:
    """Soon nobody is left, but for the dead whom the system has not buried."""
    deadline = time.monotonic() + 20
    while alive := [process for process in left() if status_of(process) != psutil.STATUS_ZOMBIE]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.05)


def status_of(process: psutil.Process) -> str:
    try:
        return str(process.status())
    except psutil.NoSuchProcess:
        return str(psutil.STATUS_ZOMBIE)


def assert_equal(ours: Any, theirs: Any, where: str = "") -> None:
    if isinstance(ours, torch.Tensor):
        assert torch.equal(ours, theirs), where
    elif isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), where
        for key, value in ours.items():
            assert_equal(value, theirs[key], f"{where}.{key}")
    elif isinstance(ours, list):
        assert len(ours) == len(theirs), where
        for index, value in enumerate(ours):
            assert_equal(value, theirs[index], f"{where}[{index}]")
    else:
        assert ours == theirs, where


def test_killed_at_a_random_step_and_resumed(portraits, tmp_path):
    undisturbed = fresh(portraits, tmp_path / "whole")
    killed = fresh(portraits, tmp_path / "killed")
    step = random.SystemRandom().randrange(1, STEPS - 5)
    assert end_at(killed, tmp_path / "killed/log.csv", step, signal.SIGKILL) == -signal.SIGKILL
    assert load(tmp_path / "killed/state.pt").step < STEPS
    going_on = start("--out", tmp_path / "killed", "--resume", "--json")
    for process in (undisturbed, going_on):
        out, error = process.communicate(timeout=120)
        assert process.returncode == 0, error
    assert '"step": 40' in out
    whole, resumed = (load(tmp_path / name / "state.pt") for name in ("whole", "killed"))
    assert whole.step == resumed.step == STEPS
    assert_equal(vars(resumed), vars(whole))
    for name in ("last", "best"):
        files = [(tmp_path / run / f"{name}.safetensors").read_bytes() for run in ("whole", "killed")]
        assert files[0] == files[1], f"killed after step {step}"
    # What was logged after the last state is logged again, and once.
    columns = slice(0, -2)  # without the two that tell times
    logs = [
        [r.split(",")[columns] for r in (tmp_path / run / "log.csv").read_text().splitlines()]
        for run in ("whole", "killed")
    ]
    assert logs[0] == logs[1]
    assert not [path for path in (tmp_path / "killed").iterdir() if path.name.startswith(".")]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_interrupted_it_saves_the_step_it_was_in(portraits, tmp_path):
    process = fresh(portraits, tmp_path / "run")
    assert end_at(process, tmp_path / "run/log.csv", 4, signal.SIGINT) == 130
    state = load(tmp_path / "run/state.pt")
    logged = (tmp_path / "run/log.csv").read_text().count("\n") - 1
    assert 4 <= state.step == logged < STEPS


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_a_batch_system_ends_all_its_processes_at_once(portraits, tmp_path):
    """As Slurm and systemd do; the worker that prepares pictures gets the signal too."""
    process = fresh(portraits, tmp_path / "run", "data.workers=1")
    assert end_at(process, tmp_path / "run/log.csv", 4, signal.SIGTERM, group=True) == 130
    state = load(tmp_path / "run/state.pt")
    logged = (tmp_path / "run/log.csv").read_text().count("\n") - 1
    assert 4 <= state.step == logged < STEPS
    assert_gone(lambda: [other for other in psutil.process_iter() if group_of(other) == process.pid])


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_a_worker_that_hangs_does_not_keep_a_training_from_ending(portraits, tmp_path):
    """Stopped, they answer nothing, whatever they are sent, and their batches never come."""
    process = fresh(portraits, tmp_path / "run", "data.workers=2")
    while not (tmp_path / "run/state.pt").is_file():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    workers = children(process.pid)
    while len(workers) < 2:
        workers = children(process.pid)
        time.sleep(0.01)
    for worker in workers:
        worker.suspend()
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert load(tmp_path / "run/state.pt").step < STEPS
    assert_gone(lambda: [worker for worker in workers if worker.is_running()])


@pytest.mark.skipif(sys.platform == "win32", reason="Windows forks nothing")
def test_estimated_foregrounds_and_workers_do_not_wait_for_each_other(portraits, tmp_path):
    """Threads that the estimate starts in the parent do not exist in a forked worker, which would wait for them."""
    scenes = tmp_path / "scenes"
    scenes.mkdir()
    shutil.copy(portraits / "blurred_image/p00.png", scenes)
    process = fresh(
        portraits, tmp_path / "run", "data.workers=1", "data.compose=0.5", f"data.backgrounds={scenes}",
        f"data.foregrounds={tmp_path / 'foregrounds'}", "run.max_steps=3",
    )  # fmt: skip
    _, error = process.communicate(timeout=240)
    assert process.returncode == 0, error
    assert load(tmp_path / "run/state.pt").step == 3
