"""The parent's side: start a worker, call its operations, and turn its crash into an error."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import IO, Any, Self, TypeVar

import msgspec

import p3m_edge
from p3m_edge import errors
from p3m_edge.errors import MissingError, P3MEdgeError
from p3m_edge.workers.messages import PATIENCE, Answer, Failure, Progress, Request, receive, send

_T = TypeVar("_T")
_TAIL_BYTES = 16_384
_NTSTATUS_ACCESS_VIOLATION = 0xC0000005


class WorkerError(P3MEdgeError):
    """An operation failed, or its worker crashed or did not answer in time.

    Attributes
    ----------
    cause
        The name of the exception's class that the operation raised; empty where the process is at fault.
    exit_code
        What that exception asks for; 1 for all else.
    """

    def __init__(self, message: str, *, hint: str | None = None, cause: str = "", exit_code: int = 1) -> None:
        super().__init__(message, hint=hint)
        self.cause = cause
        self.exit_code = exit_code

    def original(self) -> P3MEdgeError:
        """The error that the operation raised, where it is one of :mod:`p3m_edge.errors`; else this one."""
        kind = getattr(errors, self.cause, None)
        return kind(str(self), hint=self.hint) if kind else self


@dataclass(frozen=True)
class Interpreter:
    """What runs a worker's Python: how its command line begins, and the environment variables that it needs."""

    command: tuple[str, ...]
    variables: Mapping[str, str]


class Worker:
    """A process that runs the operations of a module of this package; it ends with this object, or the block.

    Parameters
    ----------
    module
        Its full name; it calls :func:`p3m_edge.workers.child.serve`.
    timeout
        Seconds to wait for each answer; None: as long as it takes.
    scratch
        The folder for its temporary files; None: the system's.
    patience
        Seconds that an operation has to end in good order when an error or Ctrl-C interrupts the waiting.
    interpreter
        None: the Python of this process.

    Attributes
    ----------
    started
        ``time.perf_counter()`` just before the process was made.

    Raises
    ------
    MissingError
        There is no interpreter: the app is a frozen one, or has Python inside.
    """

    def __init__(
        self, module: str, *, timeout: float | None = None, scratch: Path | None = None, patience: float = 0,
        interpreter: Interpreter | None = None,
    ) -> None:  # fmt: skip
        if interpreter is None and (getattr(sys, "frozen", False) or not sys.executable):
            raise MissingError(
                f"{module} needs a process of its own, and this app has no Python to start it with",
                hint="run the app with an installed Python, or take an artefact for another engine",
            )
        self._timeout = timeout
        self._patience = patience
        self._operation = ""
        self._said: IO[bytes] = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 - closed by _end
        self._answers: queue.SimpleQueue[Answer | Exception] = queue.SimpleQueue()
        self.started = perf_counter()
        started = interpreter or Interpreter((sys.executable,), {})
        # -P: a file in the current folder must not shadow a package.
        self._process = subprocess.Popen(
            [*started.command, "-P", "-m", module],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said,
            env={**environment(scratch), **started.variables},
        )  # fmt: skip
        self._owner = os.getpid()
        self._end = weakref.finalize(self, _end, self._process, self._said, self._owner)
        assert self._process.stdin is not None
        self._requests = self._process.stdin
        threading.Thread(target=_listen, args=(self._process.stdout, self._answers), daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *raised: object) -> None:
        self.close(PATIENCE if kind is None else self._patience)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def call(self, operation: str, **arguments: object) -> dict[str, Any]:
        """Run an operation that returns a record, and wait for that; errors are those of :meth:`receive`."""
        self.send(operation, **arguments)
        return self.receive(dict[str, Any])

    def send(self, operation: str, **arguments: object) -> None:
        """Begin an operation; :meth:`receive` gives its result."""
        if not self._end.alive:
            raise WorkerError("the worker has ended")
        self._operation = operation
        with suppress(OSError):  # it has died; receive() says how
            send(self._requests, Request(operation, arguments))

    def receive(self, kind: type[_T], hear: Callable[[Progress], None] = lambda progress: None) -> _T:
        """Wait for the result, of type ``kind``, of the operation that was begun; ``hear`` is told of its progress.

        Raises
        ------
        WorkerError
            The operation failed; the worker crashed, or gave no answer in time, and has ended.
        """
        try:
            while isinstance(answer := self._answers.get(timeout=self._timeout), Progress):
                hear(answer)
        except queue.Empty:
            self.kill()
            told = f"no answer to {self._operation!r} within {self._timeout:g} s"
            raise WorkerError(told, hint="raise --timeout, or lower --iterations") from None
        except BaseException:  # an answer that comes too late would be taken for the next one
            self.close(self._patience)
            raise
        if isinstance(answer, Exception):
            raise self._crashed(garbled=isinstance(answer, msgspec.MsgspecError)) from answer
        if isinstance(answer, Failure):
            raise WorkerError(answer.message, hint=answer.hint, cause=answer.error, exit_code=answer.exit_code)
        return msgspec.convert(answer.value, kind)

    def close(self, patience: float = PATIENCE) -> None:
        """Let the worker end by itself, and kill it if it does not; closing again does nothing."""
        if self._end.detach():
            _end(self._process, self._said, self._owner, patience)

    def kill(self) -> None:
        """End the process at once and free what belongs to it."""
        self.close(0)

    def _crashed(self, *, garbled: bool) -> WorkerError:
        """Why there is no answer; what sends no messages is not waited for."""
        if garbled:
            self._process.kill()
        with suppress(subprocess.TimeoutExpired):  # it has closed its standard output, and goes on
            self._process.wait(PATIENCE)
        self._said.seek(max(0, self._said.seek(0, os.SEEK_END) - _TAIL_BYTES))
        how = ended(None if garbled else self._process.returncode, self._said.read())
        self.kill()
        return WorkerError(how)


def ended(code: int | None, said: bytes) -> str:
    """How a process with that return code (None: it sends no messages) ended, and its last words, in one line."""
    if code is None:
        how = "sends no messages"
    elif code < 0:
        names = {int(each): each.name for each in signal.Signals}
        how = f"was ended by {names.get(-code, f'signal {-code}')}"
        how += ", perhaps for lack of memory" if how.endswith("SIGKILL") else ""
    elif code & 0xFFFFFFFF == _NTSTATUS_ACCESS_VIOLATION:
        how = "crashed (access violation)"
    else:
        how = f"ended with code {code}"
    text = said.decode(errors="replace")
    error = re.search(r"\b(?:LLVM )?error:.*", text, re.IGNORECASE)  # says more than what libraries print at the end
    last = error[0] if error else next((line for line in reversed(text.splitlines()) if line.strip()), "")
    return f"its process {how}" + (f": {' '.join(last.split())}" if last else "")


def environment(scratch: Path | None = None) -> dict[str, str]:
    """The environment of a worker whose temporary files belong into ``scratch``.

    It must import the same ``p3m_edge`` as the parent, also from a wheel, a zipapp or a checkout on ``sys.path``.
    """
    variables = dict(os.environ)
    home = str(Path(p3m_edge.__file__).parent.parent)
    if home not in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, (home, variables.get("PYTHONPATH"))))
    if sys.dont_write_bytecode:
        variables["PYTHONDONTWRITEBYTECODE"] = "1"
    if scratch is not None:
        variables.update(dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch)))
    return variables


def _listen(stream: IO[bytes], answers: queue.SimpleQueue[Answer | Exception]) -> None:
    """Hand on what the worker sends; at the end, why there is no more."""
    with stream:
        try:
            while True:
                answers.put(receive(stream, Answer))  # type: ignore[arg-type]  # a union is a type to msgspec
        except (EOFError, msgspec.MsgspecError) as error:
            answers.put(error)
        while stream.read(_TAIL_BYTES):  # a closed pipe would add an error to its last words
            pass


def _end(process: subprocess.Popen[bytes], said: IO[bytes], owner: int, patience: float = PATIENCE) -> None:
    """Close the pipe, at which the process ends; kill it if it does not. A forked child of its owner does nothing."""
    if owner != os.getpid():
        return
    assert process.stdin is not None
    try:
        with suppress(OSError):  # what is left in it for a process that is dead
            process.stdin.close()
        process.wait(patience)
    except subprocess.TimeoutExpired:
        pass
    finally:  # also after a second Ctrl-C
        if process.poll() is None:
            process.kill()
            process.wait()
        said.close()
