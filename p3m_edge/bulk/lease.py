"""One driver for one output: a file in the store that its owner renews, so that a dead one is told from a slow one."""

from __future__ import annotations

import json
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

from p3m_edge.bulk.store import Store
from p3m_edge.errors import OutputError

LEASE = ".p3m-edge/driver"
SECONDS = 30.0
"""Without renewal for so long, the owner is taken for dead."""


class Lease:
    """What the owner of an output holds; ``lost`` is set when another driver has taken it over."""

    def __init__(self, store: Store) -> None:
        self._store, self._stop, self.lost = store, threading.Event(), threading.Event()
        me = psutil.Process()
        self._me = {"host": socket.gethostname(), "pid": me.pid, "born": me.create_time(), "key": secrets.token_hex(8)}
        self._beats = 0

    def _beat(self) -> bytes:
        self._beats += 1
        return json.dumps(self._me | {"beat": self._beats}).encode()

    def take(self) -> None:
        """Become the owner. :class:`OutputError`: there is one, or the store cannot be written."""
        if not self._store.create(LEASE, self._beat()):
            self._wait_for_the_other()
            self._store.write(LEASE, self._beat())

    def _wait_for_the_other(self) -> None:
        before = self._store.read(LEASE)
        other, until = _parsed(before), time.monotonic() + SECONDS
        text = f"another driver works on {self._store.where}: process {other.get('pid')} of {other.get('host')}"
        if other.get("host") == self._me["host"]:
            if _lives(other):
                raise OutputError(text, hint="wait for it, or choose another --out")
            return
        while time.monotonic() < until:
            time.sleep(1)
            if (now := self._store.read(LEASE)) != before and now is not None:
                raise OutputError(text, hint="wait for it, or choose another --out")

    def renew(self) -> None:
        """Renew it until it is given back, in a thread."""
        while not self._stop.wait(SECONDS / 3):
            with suppress(OutputError):  # the store may be away for a moment
                if not self._mine():
                    self.lost.set()
                    return
                self._store.write(LEASE, self._beat())

    def _mine(self) -> bool:
        return bool(_parsed(self._store.read(LEASE)).get("key") == self._me["key"])

    def give_back(self) -> None:
        self._stop.set()
        with suppress(OutputError):
            if self._mine():
                self._store.remove(LEASE)


def _parsed(data: bytes | None) -> dict[str, object]:
    with suppress(ValueError):
        found = json.loads(data or b"{}")
        return found if isinstance(found, dict) else {}
    return {}


def _lives(other: dict[str, object]) -> bool:
    pid, born = other.get("pid"), other.get("born")
    with suppress(psutil.Error):
        return isinstance(pid, int) and psutil.Process(pid).create_time() == born
    return False


@contextmanager
def leased(store: Store) -> Iterator[Lease]:
    """Own an output until the block ends. :class:`OutputError`: another driver owns it, or it cannot be written."""
    lease = Lease(store)
    lease.take()
    thread = threading.Thread(target=lease.renew, daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        lease.give_back()
        thread.join()
