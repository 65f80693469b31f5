"""Work in processes: order, errors, a worker that is killed, a parent that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from p3m_edge.data.parallel import parallel_map
from p3m_edge.errors import InputError, P3MEdgeError


def square(value: int) -> tuple[int, int]:
    return value * value, os.getpid()


def hears_ctrl_c(_value: int) -> bool:
    return signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def fail_at_five(value: int) -> int:
    if value == 5:
        raise InputError("five is bad")
    return value


def die_at_five(value: int) -> int:
    if value == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return value


@pytest.mark.parametrize("workers", [1, 2])
def test_results_keep_the_order_and_every_step_is_told(workers):
    steps: list[tuple[int, int]] = []
    results = parallel_map(square, range(20), workers=workers, progress=lambda *step: steps.append(step))
    assert [value for value, _ in results] == [i * i for i in range(20)]
    assert steps == [(i + 1, 20) for i in range(20)]
    assert (os.getpid() in {process for _, process in results}) == (workers == 1)


def test_nothing_and_a_handful():
    assert parallel_map(square, []) == []
    assert parallel_map(square, [3]) == [(9, os.getpid())]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_arrives_as_it_is(workers):
    with pytest.raises(InputError, match="five is bad"):
        parallel_map(fail_at_five, range(20), workers=workers)


@pytest.mark.skipif(sys.platform == "win32", reason="no signal masks there")
def test_ctrl_c_is_the_business_of_the_parent_alone():
    assert parallel_map(hears_ctrl_c, range(4), workers=2) == [False] * 4
    assert hears_ctrl_c(0)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
def test_a_killed_worker_is_an_error_and_not_a_hang():
    with pytest.raises(P3MEdgeError, match="a worker process ended"):
        parallel_map(die_at_five, range(20), workers=2)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
def test_workers_end_when_their_parent_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from p3m_edge.data.parallel import parallel_map\n"
        "def work(i):\n"
        "    Path(sys.argv[1], str(os.getpid())).touch()\n"
        "    time.sleep(60)\n"
        "if __name__ == '__main__':\n"
        "    parallel_map(work, range(4), workers=2)\n"
    )
    (tmp_path / "begun").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen([sys.executable, str(script), str(tmp_path / "begun")], env=environment) as parent:
        workers: list[psutil.Process] = []
        deadline = time.monotonic() + 60
        while len(workers) < 2 and time.monotonic() < deadline:
            workers = [psutil.Process(int(path.name)) for path in (tmp_path / "begun").iterdir()]
            time.sleep(0.05)
        assert len(workers) == 2
        parent.kill()
    assert psutil.wait_procs(workers, timeout=30)[1] == []
