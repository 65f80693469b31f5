"""Workers that answer, refuse, chatter, crash and hang; nothing of it may hang or kill the parent."""

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import psutil
import pytest

from p3m_edge.workers import parent
from p3m_edge.workers.parent import Worker, WorkerError, ended

HELPERS = Path(__file__).parent / "helpers"


@dataclass(frozen=True)
class Size:
    width: int
    height: int


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    monkeypatch.setenv("PYTHONPATH", str(HELPERS))
    with Worker("unruly_worker", timeout=30) as made:
        yield made


def test_answers_and_ends(worker: Worker) -> None:
    assert worker.call("echo", text="alpha ü\n", number=1.5, nothing=None) == {
        "text": "alpha ü\n",
        "number": 1.5,
        "nothing": None,
    }
    process = psutil.Process(worker.pid)
    worker.close()
    assert not process.is_running()
    with pytest.raises(WorkerError, match="has ended"):
        worker.call("echo")


def test_what_libraries_print_is_not_an_answer(worker: Worker) -> None:
    assert worker.call("chatter") == {"said": 2}
    assert worker.call("echo") == {}


def test_errors_travel_with_hint_and_exit_code_and_the_worker_lives_on(worker: Worker) -> None:
    with pytest.raises(WorkerError, match="torn") as refused:
        worker.call("refuse")
    assert (refused.value.hint, refused.value.exit_code) == ("export it again", 5)
    with pytest.raises(WorkerError, match="ZeroDivisionError: in the engine") as failed:
        worker.call("fail")
    assert failed.value.exit_code == 1
    with pytest.raises(WorkerError, match="KeyError"):
        worker.call("no such operation")
    assert worker.call("ignores_interrupt") == {"alive": True}


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
@pytest.mark.parametrize("name", ["SIGSEGV", "SIGKILL"])
def test_a_crash_names_its_signal(worker: Worker, name: str) -> None:
    with pytest.raises(WorkerError, match=name) as crashed:
        worker.call("die", number=int(signal.Signals[name]))
    assert ("memory" in str(crashed.value)) == (name == "SIGKILL")


def test_an_exit_names_its_code_and_the_last_words(worker: Worker) -> None:
    with pytest.raises(WorkerError, match="code 7: out of beans"):
        worker.call("leave", message="first\nout of beans", code=7)


def test_a_worker_killed_while_idle_is_noticed(worker: Worker) -> None:
    worker.call("echo")
    psutil.Process(worker.pid).kill()
    with pytest.raises(WorkerError, match=r"killed|ended"):
        worker.call("echo")


def test_progress_and_types(worker: Worker) -> None:
    told: list[tuple[str, float | None]] = []
    worker.send("steps", count=2, size=(3, 4))
    found = worker.receive(Size, lambda progress: told.append((progress.text, progress.share)))
    assert found == Size(3, 4)
    assert told == [("step", 0.5), ("step", 1.0), ("a remark", None)]


def test_an_operation_that_is_called_off_ends_in_good_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HELPERS))
    note = tmp_path / "note"

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    worker = Worker("unruly_worker", patience=30)
    worker.send("patient", note=str(note))
    with pytest.raises(KeyboardInterrupt):
        worker.receive(dict, interrupt)
    assert note.read_text() == "ended"
    assert not psutil.pid_exists(worker.pid)
    with pytest.raises(WorkerError, match="has ended"):
        worker.call("echo")


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
@pytest.mark.parametrize("operation", ["patient", "hang"])
def test_a_worker_ends_when_its_parent_was_killed(operation: str, tmp_path: Path) -> None:
    arguments = {"note": str(tmp_path / "note")} if operation == "patient" else {}
    code = (
        "from p3m_edge.workers.parent import Worker\n"
        "worker = Worker('unruly_worker')\n"
        f"worker.send({operation!r}, **{arguments!r})\n"
        "print(worker.pid, flush=True)\n"
        "worker.receive(dict)\n"
    )
    path = os.pathsep.join(filter(None, (str(HELPERS), os.environ.get("PYTHONPATH"))))
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path}
    ) as parent:
        assert parent.stdout is not None
        process = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    with suppress(psutil.NoSuchProcess):
        process.wait(60)


def test_a_worker_that_is_forgotten_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HELPERS))
    worker = Worker("unruly_worker")
    pid = worker.pid
    worker.call("echo")
    del worker
    gc.collect()
    assert not psutil.pid_exists(pid)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_what_is_printed_before_it_serves_is_no_answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, unbuffered: str
) -> None:
    code = "import time\nprint('more than eight bytes', flush=True)\ntime.sleep(60)\n"
    (tmp_path / "loud_worker.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)  # print() then writes the line in two pieces
    monkeypatch.setattr(parent, "PATIENCE", 0.1)
    with Worker("loud_worker") as worker, pytest.raises(WorkerError, match="sends no messages"):
        worker.call("echo")


def test_a_hang_ends_at_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HELPERS))
    with Worker("unruly_worker", timeout=1) as worker:
        process = psutil.Process(worker.pid)
        start = perf_counter()
        with pytest.raises(WorkerError, match="within 1 s"):
            worker.call("hang")
        assert perf_counter() - start < 20
        assert not process.is_running()


def test_a_module_that_cannot_start_says_why() -> None:
    with Worker("no_such_module_here", timeout=30) as worker, pytest.raises(WorkerError, match="no_such_module_here"):
        worker.call("echo")


def test_an_interrupted_parent_leaves_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HELPERS))
    seen: list[psutil.Process] = []

    def interrupted() -> None:
        with Worker("unruly_worker", timeout=30) as worker:
            worker.call("echo")
            seen.append(psutil.Process(worker.pid))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not seen[0].is_running()


def test_peak_memory_is_the_workers_own_and_never_falls(worker: Worker) -> None:
    found = worker.call("memory", megabytes=200)
    assert found["after"] >= found["before"] + 150_000_000
    assert worker.call("memory", megabytes=1)["after"] >= found["after"]


def test_how_processes_end() -> None:
    assert ended(-signal.SIGABRT, b"warning\nloc(x): error: no\nerror: later\n") == (
        "its process was ended by SIGABRT: error: no"
    )
    assert ended(-signal.SIGSEGV, b"") == "its process was ended by SIGSEGV"
    assert ended(-99, b"") == "its process was ended by signal 99"
    assert ended(0xC0000005, b"") == "its process crashed (access violation)"
    assert ended(3, b"first\nan errorless  line\n\n") == "its process ended with code 3: an errorless line"
