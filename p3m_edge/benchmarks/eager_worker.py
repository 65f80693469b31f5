"""The process that times PyTorch, eager or compiled: the one module here that may import torch, only as a worker."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from p3m_edge.benchmarks.worker import TimedWorker, timed_ms

if TYPE_CHECKING:
    from torch import Tensor

    from p3m_edge.model.p3mnet import P3MOutput


class EagerWorker(TimedWorker):
    """Times P3M-Net as PyTorch runs it: evaluation mode, ``torch.inference_mode``.

    As in the bare call of an engine, the input starts and alpha ends in the host's memory, also where the work is done
    on a GPU.
    """

    _network: Callable[[Tensor], P3MOutput]
    _x: Tensor

    def load(
        self, source: str, width: int, height: int, batch: int, threads: int | None, seed: int, device: str = "cpu",
        half: bool = False, compiled: bool = False, **_unused: object,
    ) -> Mapping[str, object]:  # fmt: skip
        """Build the network (stand-in weights for an architecture) and an input ``[batch, 3, height, width]``."""
        start = perf_counter()
        import torch

        from p3m_edge import model

        imported = perf_counter()
        if threads is not None:
            torch.set_num_threads(threads)
        torch.manual_seed(seed)
        network = model.standin(source) if source in model.ARCHS else model.load_checkpoint(Path(source))
        number = torch.float16 if half else torch.float32
        network = network.eval().to(device, number)
        self._network = torch.compile(network) if compiled else network
        self._device = device
        self._x = torch.randn(batch, 3, height, width).to(number)
        if device != "cpu":
            self._x = self._x.pin_memory()
        loaded = perf_counter()
        cpu = device == "cpu"
        name = torch.backends.cpu.get_cpu_capability() if cpu else torch.cuda.get_device_name(device)
        return {
            "import_ms": (imported - start) * 1e3,
            "load_ms": (loaded - imported) * 1e3,
            "arch": network.arch,
            "used": {
                "version": str(torch.__version__), "device": device, "device_name": name, "requests": 1,
                "arithmetic": "f16" if half else "f32", "threads": torch.get_num_threads(),
            },
        }  # fmt: skip

    def first(self) -> Mapping[str, object]:
        """The first call."""
        return {"ms": timed_ms(self._bare), "height": self._x.shape[2], "width": self._x.shape[3]}

    def _bare(self) -> Tensor:
        import torch

        with torch.inference_mode():
            alpha: Tensor = self._network(self._x.to(self._device, non_blocking=True)).alpha
        return alpha.cpu()  # waits for the GPU


if __name__ == "__main__":
    sys.exit(EagerWorker.run())
