"""Foreign converters in a process of their own: they log, patch other packages, and may take it down with them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from p3m_edge.errors import P3MEdgeError, ended
from p3m_edge.export.quantize import UnfitError

T = TypeVar("T")
UNFIT = 2
"""The exit code where numbers do not fit the precision that was ordered: another way to quantise may do."""


def run_converter(command: Sequence[str], order: object, converter: str, what: str) -> None:
    """Run a converter that reads its order as JSON from stdin, and wait for it.

    Parameters
    ----------
    command
        How to start it: a module that ends with :func:`serve`.
    order
        For it.
    converter, what
        Who converts what, for the error.

    Raises
    ------
    UnfitError
        Numbers do not fit the precision.
    P3MEdgeError
        It failed, or was ended.
    """
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:  # fmt: skip
        try:
            _, told = process.communicate(msgspec.json.encode(order))
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        lines = told.decode(errors="replace").strip().splitlines()
        reason = lines[-1] if lines and process.returncode > 0 else ended(process.returncode, told)
        kind = UnfitError if process.returncode == UNFIT else P3MEdgeError
        raise kind(f"{converter} cannot convert {what}: {reason}")


def serve(kind: type[T], action: Callable[[T], None]) -> int:
    """The other end: do what stdin orders, and return the exit code; what goes wrong is the last line on stderr."""
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=kind)
    try:
        action(order)
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent says it
        sys.stderr.write(f"{type(error).__name__}: {' '.join(str(error).split())}\n")
        return UNFIT if isinstance(error, RuntimeWarning) else 1
    return 0
