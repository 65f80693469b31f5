"""The child's side: run the operations that the parent asks for, until it closes the pipe."""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, get_type_hints

import msgspec

from p3m_edge.errors import P3MEdgeError
from p3m_edge.workers.messages import PATIENCE, Answer, Failure, Progress, Request, Result, receive, send

called_off = threading.Event()
"""Set when the parent has closed the pipe or is no more: an operation that looks at it can end in good order."""
_answers: IO[bytes] | None = None
_lock = threading.Lock()


def serve(operations: Mapping[str, Callable[..., Any]]) -> int:
    """Answer requests until the parent closes the pipe; returns the exit code.

    Parameters
    ----------
    operations
        By name. Each gets the request's arguments as keywords, converted to the types of its parameters, and returns
        what msgspec can encode.
    """
    global _answers
    # Ctrl-C reaches the whole process group; the parent alone decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(OSError):  # when memory runs out, Linux shall end the worker rather than its parent
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")
    _answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    requests: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
    # A descriptor of its own: Python could not wind up while a thread reads from the standard one.
    orders = os.fdopen(os.dup(0), "rb")
    threading.Thread(target=_listen, args=(orders, requests), daemon=True).start()
    while (request := requests.get()) is not None:
        _send(_answer(operations, request))
    return 0


def tell(text: str, share: float | None = None) -> None:
    """Report an operation's progress, the share that is done (0..1), or a remark. It raises nothing."""
    _send(Progress(text, share))


def described(error: BaseException) -> str:
    """An exception in one line, with the name of its class."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _send(answer: Answer) -> None:
    assert _answers is not None
    with _lock, suppress(OSError):  # the parent is no more, which the listening thread knows
        send(_answers, answer)


def _listen(orders: IO[bytes], requests: queue.SimpleQueue[Request | None]) -> None:
    """Take requests; at their end have the process end, first by itself, then at once."""
    with suppress(EOFError, msgspec.MsgspecError):
        while True:
            requests.put(receive(orders, Request))
    called_off.set()
    requests.put(None)
    time.sleep(PATIENCE)
    os._exit(1)


def _answer(operations: Mapping[str, Callable[..., Any]], request: Request) -> Result | Failure:
    try:
        operation = operations[request.operation]
        types = get_type_hints(operation)
        given = {name: msgspec.convert(value, types.get(name, Any)) for name, value in request.arguments.items()}
        return Result(msgspec.to_builtins(operation(**given), builtin_types=(bytes,)))
    except P3MEdgeError as error:
        return Failure(type(error).__name__, str(error), error.hint, error.exit_code)
    except Exception as error:  # noqa: BLE001 - whatever a library raises is an answer, not a hang
        text = "out of memory" if isinstance(error, MemoryError) else described(error)
        return Failure(type(error).__name__, text, None, 1)
