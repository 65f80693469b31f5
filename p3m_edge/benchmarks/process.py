"""The parent's side of a worker: start it, ask it, survive its end."""

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
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import IO, Any, Self

import msgspec

import p3m_edge
from p3m_edge.errors import P3MEdgeError

_POLITE_SECONDS = 5.0
_TAIL_BYTES = 4000
# The folders of an absolute path (POSIX, drive or share), but not of a web address.
_FOLDERS = re.compile(r"(?<![\w./\\])(?:[A-Za-z]:)?(?:\\\\?|/(?!/))(?:[^\s'\"\\/:;,()]+[\\/])+")
_NTSTATUS_ACCESS_VIOLATION = 0xC0000005


class WorkerError(P3MEdgeError):
    """A worker crashed, did not answer in time, or answered with an error.

    Attributes
    ----------
    code
        The exit code that the worker's own error asks for; 1 for a crash.
    """

    def __init__(self, message: str, *, hint: str | None = None, code: int = 1) -> None:
        super().__init__(message, hint=hint)
        self.code = code


class Worker:
    """A process that runs ``module`` and answers commands (:mod:`p3m_edge.benchmarks.protocol`).

    Use it in a ``with`` block: whatever happens, the process is gone afterwards.

    Parameters
    ----------
    module
        The module to run with ``python -m``.
    timeout
        Seconds to wait for each answer.
    scratch
        The folder for temporary files; None: the system's.

    Attributes
    ----------
    started
        ``time.perf_counter()`` just before the process was made.
    """

    def __init__(self, module: str, *, timeout: float, scratch: Path | None = None) -> None:
        self._timeout = timeout
        self._messages: IO[bytes] = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 - closed by kill()
        self._answers: queue.Queue[bytes | None] = queue.Queue()
        self.started = perf_counter()
        self._process = subprocess.Popen(
            # -P: a file in the current folder must not shadow a package.
            [sys.executable, "-P", "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._messages,
            env=environment(scratch),
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        try:
            self._reader.start()
        except BaseException:  # Ctrl-C before anybody else can end it
            self._process.kill()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close() if kind is None else self.kill()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def call(self, op: str, **arguments: object) -> dict[str, Any]:
        """Run one operation and wait for its answer.

        Raises
        ------
        WorkerError
            The worker crashed, gave no answer in time (it is killed), or answered with an error.
        """
        pipe = self._process.stdin
        if pipe is None or pipe.closed:
            raise WorkerError("the worker has ended")
        try:
            pipe.write(msgspec.json.encode({"op": op, **arguments}) + b"\n")
            pipe.flush()
        except OSError:
            raise self._crashed() from None
        try:
            line = self._answers.get(timeout=self._timeout)
        except queue.Empty:
            self.kill()
            raise WorkerError(
                f"no answer to {op!r} within {self._timeout:g} s", hint="raise --timeout, or lower --iterations"
            ) from None
        if line is None:
            raise self._crashed()
        answer = self._decode(line)
        if "error" in answer:
            found = answer["error"]
            raise WorkerError(str(found["message"]), hint=found["hint"], code=int(found["exit_code"]))
        result: dict[str, Any] = answer["result"]
        return result

    def close(self) -> None:
        """Let the worker end by itself, and kill it if it does not."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            try:
                self._process.stdin.close()
                self._process.wait(_POLITE_SECONDS)
            except (OSError, subprocess.TimeoutExpired):
                pass  # kill() below ends it
        self.kill()

    def kill(self) -> None:
        """End the process at once and free what belongs to it."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reader.join(_POLITE_SECONDS)
        for stream in (self._process.stdin, self._process.stdout, self._messages):
            if stream is not None:
                try:
                    stream.close()
                except OSError:
                    continue  # a last write into the pipe of a dead process

    def _read(self) -> None:
        stream = self._process.stdout
        if stream is not None:
            for line in stream:
                self._answers.put(line)
        self._answers.put(None)

    def _decode(self, line: bytes) -> dict[str, Any]:
        try:
            answer = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.MsgspecError as error:
            self.kill()
            raise WorkerError(f"the worker's answer is not JSON: {error}") from error
        return answer

    def _crashed(self) -> WorkerError:
        try:
            code = self._process.wait(_POLITE_SECONDS)
        except subprocess.TimeoutExpired:
            code = 0
        last = self._last_message()
        self.kill()
        return WorkerError(f"the worker {_how_it_ended(code)}{f': {last}' if last else ''}")

    def _last_message(self) -> str:
        """The last line that the worker wrote to stderr."""
        size = self._messages.seek(0, os.SEEK_END)
        self._messages.seek(max(0, size - _TAIL_BYTES))
        lines = self._messages.read().decode("utf-8", "replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


def redact(text: str, known: Mapping[str, str] | None = None) -> str:
    """The text without folders: a report names files, never where they lie.

    Parameters
    ----------
    text
        An error message.
    known
        Paths to what stands for them, replaced first (they may contain blanks).
    """
    for path, name in sorted((known or {}).items(), key=lambda item: -len(item[0])):
        text = text.replace(path, name)
    return _FOLDERS.sub("", text)


def _how_it_ended(code: int) -> str:
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        hint = ", perhaps for lack of memory" if name == "SIGKILL" else ""
        return f"was killed by {name}{hint}"
    if code & 0xFFFFFFFF == _NTSTATUS_ACCESS_VIOLATION:
        return "crashed (access violation)"
    return f"ended unasked with code {code}"


def environment(scratch: Path | None) -> dict[str, str]:
    """The environment variables of a worker whose temporary files belong into ``scratch``.

    The worker must import the same ``p3m_edge`` as the parent, also from a wheel or a checkout on ``sys.path``.
    """
    variables = dict(os.environ)
    home = str(Path(p3m_edge.__file__).parent.parent)
    installed = {sysconfig.get_paths()[name] for name in ("purelib", "platlib")}
    if home not in installed:
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, (home, variables.get("PYTHONPATH"))))
    if sys.dont_write_bytecode:
        variables["PYTHONDONTWRITEBYTECODE"] = "1"
    if scratch is not None:
        variables.update({name: str(scratch) for name in ("TMPDIR", "TEMP", "TMP")})
    return variables
