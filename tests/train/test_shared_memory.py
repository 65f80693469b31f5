"""Workers in a container whose shared memory is small, or none at all; in a mount namespace of our own."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from p3m_edge.train.state import load
from tests.train.conftest import TINY


def namespaces() -> bool:
    """Whether this machine lets us have a mount namespace."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return False
    return (
        subprocess.run([unshare, "-rm", "mount", "-t", "tmpfs", "tmpfs", "/dev/shm"], capture_output=True).returncode
        == 0
    )


pytestmark = pytest.mark.skipif(not namespaces(), reason="no mount namespaces here")


def inside(size: str, *command: object) -> subprocess.Popen[str]:
    """Start a training where /dev/shm has a size."""
    mount = f'mount -t tmpfs -o size={size} tmpfs /dev/shm && exec "$@"'
    words = ["unshare", "-rm", "sh", "-c", mount, "sh", sys.executable, "-m", "p3m_edge", "train", *map(str, command)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def settings(*more: str) -> list[str]:
    every = (*TINY, "data.size=256", "data.crops=[256]", "data.workers=2", *more)
    return [part for setting in every for part in ("--set", setting)]


def test_batches_need_none_and_a_termination_ends_it(portraits, tmp_path):
    """A batch of two pictures of 256 x 256 is ten times as large as what there is."""
    log: Path = tmp_path / "run/log.csv"
    with inside(
        "64k", "--data", portraits, "--preset", "smoke", "--out", tmp_path / "run", *settings("run.epochs=9999")
    ) as run:
        while not log.is_file() or log.read_text().count("\n") < 4:
            assert run.poll() is None, run.communicate()
            time.sleep(0.01)
        run.send_signal(signal.SIGTERM)
        _, stderr = run.communicate(timeout=60)
    assert run.returncode == 130, stderr
    assert load(tmp_path / "run/state.pt").step >= 3


def test_none_at_all_is_one_line(portraits, tmp_path):
    """The pages for the semaphores of the queues cannot be had."""
    with inside(
        "4k,nr_inodes=1", "--data", portraits, "--preset", "smoke", "--out", tmp_path / "run", *settings()
    ) as run:
        _, stderr = run.communicate(timeout=240)
    assert run.returncode == 1
    assert "Traceback" not in stderr
    error, hint = stderr.splitlines()[-2:]
    assert error.startswith("error: the processes that prepare pictures cannot be started: ")
    assert "shared memory" in hint
    assert "data.workers=0" in hint
