"""The worker's side of the conversation with the benchmark: one JSON document a line, over stdin and stdout.

The parent sends ``{"op": NAME, ...}``; the worker answers ``{"result": {...}}`` or ``{"error": {...}}``. The pipe
closes: the worker ends. Nothing but answers may reach the parent, so the real stdout is moved away first and whatever
engines print (some of them from C++) goes to stderr.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import IO, Any

import msgspec

from p3m_edge.errors import P3MEdgeError

Handler = Callable[..., Mapping[str, Any]]


def serve(handlers: Mapping[str, Handler]) -> int:
    """Answer commands until the parent closes the pipe; returns the exit code.

    Parameters
    ----------
    handlers
        The operations by name; each gets the other members of the command as keyword arguments.
    """
    # Ctrl-C reaches the whole process group; the parent alone decides, and kills its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_first()
    answers = _take_stdout()
    for line in sys.stdin.buffer:
        answers.write(msgspec.json.encode(_answer(handlers, line)) + b"\n")
        answers.flush()
    return 0


def _answer(handlers: Mapping[str, Handler], line: bytes) -> Mapping[str, Any]:
    try:
        command = msgspec.json.decode(line, type=dict[str, Any])
        return {"result": handlers[command.pop("op")](**command)}
    except P3MEdgeError as error:
        return {"error": {"message": str(error), "hint": error.hint, "exit_code": error.exit_code}}
    except MemoryError:
        return {"error": {"message": "out of memory", "hint": None, "exit_code": 1}}
    except Exception as error:  # noqa: BLE001 - whatever an engine raises must become an answer, not a hang
        return {"error": {"message": f"{type(error).__name__}: {error}", "hint": None, "exit_code": 1}}


def timed_ms(call: Callable[[], object]) -> float:
    """The duration of one call, in milliseconds."""
    start = perf_counter()
    call()
    return (perf_counter() - start) * 1e3


def enough(done: int, since: float, iterations: int, seconds: float | None) -> bool:
    """Whether a round may end: after ``iterations`` calls or, if given, after ``seconds`` (and one call at least)."""
    if seconds is None:
        return done >= iterations
    return done >= 1 and perf_counter() - since >= seconds


def peak_memory() -> int:
    """The largest resident set of this process so far, in bytes.

    On Linux this is ``VmHWM``: ``ru_maxrss`` survives ``exec`` and may be the parent's.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) if sys.platform == "darwin" else int(peak) * 1024


def _take_stdout() -> IO[bytes]:
    """Keep the real stdout for answers; file descriptor 1 and ``print`` lead to stderr from now on."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return answers


def _die_first() -> None:
    """When memory runs out, Linux shall end the worker rather than the report."""
    try:
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")
    except OSError:
        return
