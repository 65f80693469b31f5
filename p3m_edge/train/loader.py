"""The training's batches, prepared by worker processes, and how long the step had to wait for them."""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

import cv2
import torch
from torch.utils.data import DataLoader

from p3m_edge.errors import P3MEdgeError
from p3m_edge.train.dataset import Pictures, Portraits, collate
from p3m_edge.train.order import Order, Steps


class Feed:
    """Batches in order, from one step to another.

    Attributes
    ----------
    waited
        Seconds that :meth:`__iter__` took for batches so far, without the first one, for which the workers start.
    """

    def __init__(self, data: Portraits, order: Order, first: int, last: int, *, workers: int, pin: bool) -> None:
        self.waited = 0.0
        self._loader: DataLoader[Pictures] = DataLoader(
            data,
            batch_sampler=Steps(order, first, last),
            collate_fn=collate,
            num_workers=workers,
            pin_memory=pin,
            worker_init_fn=_start_worker,
            # A forked worker waits for ever for threads that only its parent has (numba's, OpenMP's).
            multiprocessing_context="spawn" if workers else None,
            generator=torch.Generator(),  # else the loader would draw from the training's own random numbers
        )

    def __iter__(self) -> Iterator[Pictures]:
        """The batches.

        Raises
        ------
        P3MEdgeError
            Of the kind that a worker met; or a worker was killed.
        """
        others = set(multiprocessing.active_children())
        batches = iter(self._loader)
        _ignore_deaths()
        try:
            yield from self._batches(batches)
        except BaseException:  # PyTorch would wait for workers that hang, one after the other, and then for ever
            for worker in set(multiprocessing.active_children()) - others:
                worker.kill()
            raise

    def _batches(self, batches: Iterator[Pictures]) -> Iterator[Pictures]:
        for number in range(len(self._loader)):
            start = time.perf_counter()
            try:
                batch = next(batches)
            except P3MEdgeError as error:
                raise _plain(error) from error
            except (ConnectionError, EOFError, FileNotFoundError, RuntimeError) as error:
                if not self._loader.num_workers:
                    raise
                if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
                    raise
                raise P3MEdgeError(
                    "a process that prepares pictures was killed, perhaps for want of memory",
                    hint="go on with --resume, and less: --set data.workers=..., data.cache_mb=...",
                ) from error
            if number:
                self.waited += time.perf_counter() - start
            yield batch


def _ignore_deaths() -> None:
    """Keep PyTorch from raising errors anywhere in this process when a worker dies; it also notices by asking."""
    if hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _start_worker(_number: int) -> None:
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the training decides when to stop
    signal.signal(signal.SIGTERM, _let_the_step_end)


def _let_the_step_end(number: int, _frame: FrameType | None) -> None:
    """Batch systems send SIGTERM to every process, and the step at hand needs what is here; a second one ends."""
    signal.signal(number, signal.SIG_DFL)


def _plain(error: P3MEdgeError) -> P3MEdgeError:
    """The error without the worker's traceback, which PyTorch puts into the message."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    kind = f"{type(error).__module__}.{type(error).__qualname__}: "
    return type(error)(lines[-1].removeprefix(kind), hint=error.hint)
