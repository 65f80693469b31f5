"""A worker that misbehaves on request, through the real protocol."""

import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from p3m_edge.benchmarks.worker import peak_memory
from p3m_edge.errors import ArtefactError
from p3m_edge.workers.child import called_off, serve, tell


def echo(**arguments: object) -> Mapping[str, Any]:
    return arguments


def chatter() -> Mapping[str, Any]:
    print("printed by Python")
    os.write(1, b"printed by a library\n")
    return {"said": 2}


def die(number: int) -> Mapping[str, Any]:
    os.kill(os.getpid(), number)
    time.sleep(30)
    return {}


def leave(message: str, code: int) -> Mapping[str, Any]:
    sys.stderr.write(message + "\n")
    sys.stderr.flush()
    os._exit(code)


def refuse() -> Mapping[str, Any]:
    raise ArtefactError("the artefact is torn", hint="export it again")


def fail() -> Mapping[str, Any]:
    raise ZeroDivisionError("in the engine")


def hang() -> Mapping[str, Any]:
    time.sleep(60)
    return {}


def memory(megabytes: int) -> Mapping[str, Any]:
    before = peak_memory()
    block = bytearray(megabytes * 1_000_000)
    del block
    return {"before": before, "after": peak_memory()}


def steps(count: int, size: tuple[int, int]) -> dict[str, int]:
    for step in range(count):
        tell("step", (step + 1) / count)
    tell("a remark")
    width, height = size
    assert isinstance(size, tuple)
    return {"width": width, "height": height}


def patient(note: str) -> Mapping[str, Any]:
    tell("at work")
    called_off.wait()
    Path(note).write_text("ended")
    return {}


def ignores_interrupt() -> Mapping[str, Any]:
    os.kill(os.getpid(), signal.SIGINT)
    return {"alive": True}


if __name__ == "__main__":
    sys.exit(serve({
        "echo": echo, "chatter": chatter, "die": die, "leave": leave, "refuse": refuse, "fail": fail, "hang": hang,
        "memory": memory, "steps": steps, "patient": patient, "ignores_interrupt": ignores_interrupt,
    }))  # fmt: skip
