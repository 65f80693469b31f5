"""Workers that answer, refuse, chatter, crash and hang; nothing of it may hang or kill the parent."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p3m_edge.benchmarks.process import Worker, WorkerError, redact

HELPERS = Path(__file__).parent / "helpers"


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
    assert (refused.value.hint, refused.value.code) == ("export it again", 5)
    with pytest.raises(WorkerError, match="ZeroDivisionError: in the engine") as failed:
        worker.call("fail")
    assert failed.value.code == 1
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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/ada/models/a/model.onnx is missing", "model.onnx is missing"),
        ("'/srv/x y/art/model.xml' was changed", "'art/model.xml' was changed"),
        (r"C:\Users\ada\model.onnx", "model.onnx"),
        ("12 and/or 3/4 of it", "12 and/or 3/4 of it"),
        (r"\\nas\share\ada\model.onnx", "model.onnx"),
        ("see https://example.org/a/b", "see https://example.org/a/b"),
    ],
)
def test_reasons_name_files_not_folders(text: str, expected: str) -> None:
    known = {"/srv/x y": "", "/srv/x y/art": "art"}
    assert redact(text, known) == expected


@given(st.lists(st.from_regex(r"[a-z]{3,8}", fullmatch=True), min_size=1, max_size=5))
def test_no_folder_survives(parts: list[str]) -> None:
    text = redact(f"cannot read /{'/'.join(['QQQ', *parts])}: no", {})
    assert "QQQ" not in text
    assert text.endswith(f"{parts[-1]}: no")
