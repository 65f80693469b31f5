"""Device, precision and processes, by Lightning Fabric, and the signals that stop them.

What was asked for and cannot be had is an error.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

import torch

from p3m_edge.errors import MissingError, UsageError, missing_package
from p3m_edge.train.config import Run

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def device_name(run: Run) -> str:
    """``cpu``, ``cuda`` or ``mps``: the one asked for, or with ``auto`` the fastest that is here.

    :class:`MissingError` if it is not here; :class:`UsageError` if it cannot do what the other settings ask for.
    """
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    name = next(kind for kind, here in present.items() if here) if run.device == "auto" else run.device
    if not present[name]:
        raise MissingError(
            f"no {name} device can be used here", hint="run.device=cpu or auto; see the driver with: p3m-edge doctor"
        )
    if run.precision == "16-mixed" and name == "cpu":
        raise UsageError("run.precision=16-mixed needs a GPU", hint="on the CPU: bf16-mixed or 32-true")
    if run.sync_batchnorm and name != "cuda":
        raise UsageError(
            f"run.sync_batchnorm=true needs CUDA, and the device is {name}",
            hint="PyTorch's SyncBatchNorm refuses other devices; see docs/training.md",
        )
    return name


def processes(run: Run) -> tuple[int, int]:
    """Processes on this machine, and machines: as torchrun says, else as the settings do."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        here = int(os.environ["LOCAL_WORLD_SIZE"])
        return here, int(os.environ["WORLD_SIZE"]) // here
    return run.devices, 1


def start_fabric(run: Run) -> Fabric:
    """Start (or join) the processes; gloo connects them on the CPU, NCCL on CUDA.

    Raises
    ------
    MissingError
        lightning-fabric is not installed, or there are fewer devices than asked for.
    UsageError
        See :func:`device_name`.
    """
    try:
        from lightning_fabric import Fabric
    except ImportError as error:
        raise missing_package("lightning_fabric", "train", error) from error
    name = device_name(run)
    here, machines = processes(run)
    if name == "cuda" and here > torch.cuda.device_count():
        raise MissingError(f"{here} CUDA devices were asked for, {torch.cuda.device_count()} are here")
    strategy = "ddp" if here * machines > 1 else "auto"
    started = Fabric(accelerator=name, devices=here, num_nodes=machines, strategy=strategy, precision=run.precision)
    started.launch()
    return started


class StopRequest:
    """Ctrl-C and SIGTERM inside ``with``, in the main thread: finish the step, save, stop. A second one stops at once.

    ``asked``: whether somebody wants the training to stop.
    """

    def __init__(self) -> None:
        self.asked = False
        self._waiting = False
        self._previous: dict[signal.Signals, signal._HANDLER] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Inside, a signal raises :class:`KeyboardInterrupt`: there is no step to finish."""
        if self.asked:
            raise KeyboardInterrupt
        self._waiting = True
        try:
            yield
        finally:
            self._waiting = False

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        stop, self.asked = self.asked or self._waiting, True
        if stop:
            raise KeyboardInterrupt
