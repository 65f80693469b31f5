"""What a worker does with each picture: fetch, work, store the results whole, and the marker last."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import cv2

from p3m_edge.bulk.plan import Item
from p3m_edge.bulk.store import Store, fetch, is_remote, tag
from p3m_edge.errors import InputError, P3MEdgeError
from p3m_edge.temporary import temporary_folder

R = TypeVar("R")


class Opened(NamedTuple, Generic[R]):
    """A worker's function, from an item, local copies of its inputs and a new folder for its results, and on how many
    pictures it works best at the same time.
    """

    function: Callable[[Item, tuple[Path, ...], Path], R]
    threads: int


class Work(Protocol[R]):
    """What is done with every item; it travels to the workers as a pickle, and so do its results."""

    @property
    def settings(self) -> str:
        """The digest of all that decides what comes out, but the inputs."""

    def open(self, cores: int) -> AbstractContextManager[Opened[R]]:
        """Open what is opened once in a worker."""

    def failed(self, item: Item, reason: str) -> R:
        """The result of an item that nothing came of."""

    def skipped(self, item: Item) -> R:
        """The result of an item that has been done before."""

    def is_failed(self, result: R) -> bool: ...


class Worker(Generic[R]):
    """One of the actors: Ray calls it with shards of items."""

    def __init__(self, work: Work[R], where: str, cores: int) -> None:
        cv2.setNumThreads(cores)
        self._work, self._settings, self._store = work, work.settings, Store(where)
        self._stack = ExitStack()
        self._folder = self._stack.enter_context(temporary_folder())
        self._function, threads = self._stack.enter_context(work.open(cores))
        self._pool = ThreadPoolExecutor(threads)

    def __call__(self, shard: dict[str, Any]) -> dict[str, list[object]]:
        items = [pickle.loads(each) for each in shard["item"]]  # noqa: S301 - our own driver's
        results = self._pool.map(self.process, items)
        return {"number": list(shard["number"]), "result": list(map(pickle.dumps, results))}

    def process(self, item: Item) -> R:
        """The result of one item; no exception leaves it."""
        try:
            with TemporaryDirectory(dir=self._folder) as folder:
                return self._process(item, Path(folder))
        except Exception as error:  # noqa: BLE001 - it concerns this item alone
            text = " ".join(str(error).split())
            known = isinstance(error, P3MEdgeError | OSError)
            return self._work.failed(item, text if known else f"internal error: {type(error).__name__}: {text}")

    def _process(self, item: Item, folder: Path) -> R:
        marker = item.marker(self._settings)
        if marker not in item.stale and self._store.exists(marker):  # of a worker that ended before it could tell
            return self._work.skipped(item)
        results = folder / "results"
        results.mkdir()
        copies = []
        for number, where in enumerate(item.inputs):
            (folder / str(number)).mkdir()
            copies.append(fetch(where, folder / str(number)))
        for where, said in zip(item.inputs, item.tags, strict=True):
            if is_remote(where) and said is not None and tag(where) != said:
                raise InputError(f"{where} has changed since the run began", hint="run it again")
        result = self._function(item, tuple(copies), results)
        if not self._work.is_failed(result):
            for name in item.stale:
                self._store.remove(name)
            for file in sorted(results.rglob("*")):
                if file.is_file():
                    self._store.put(file, file.relative_to(results).as_posix())
            self._store.write(marker, f"{item.name}\n".encode("utf-8", "surrogateescape"))
        return result
