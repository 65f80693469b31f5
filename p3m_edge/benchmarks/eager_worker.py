"""The process that times eager PyTorch: the one module here that may import torch, and only as a worker."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from p3m_edge.benchmarks.protocol import enough, peak_memory, serve, timed_ms

if TYPE_CHECKING:
    from torch import Tensor

    from p3m_edge.model import P3MNet


class EagerWorker:
    """Times P3M-Net as PyTorch runs it: float32, evaluation mode, ``torch.inference_mode``, on the CPU."""

    _network: P3MNet
    _x: Tensor

    def load(
        self, source: str, width: int, height: int, batch: int, threads: int | None, seed: int, **_unused: object
    ) -> Mapping[str, Any]:
        """Build the network (stand-in weights for an architecture) and an input ``[batch, 3, height, width]``."""
        start = perf_counter()
        import torch

        from p3m_edge import model

        imported = perf_counter()
        if threads is not None:
            torch.set_num_threads(threads)
        torch.manual_seed(seed)
        network = model.standin(source) if source in model.ARCHS else model.load_checkpoint(Path(source))
        self._network = network.eval()
        self._x = torch.randn(batch, 3, height, width)
        loaded = perf_counter()
        return {
            "import_ms": (imported - start) * 1e3,
            "load_ms": (loaded - imported) * 1e3,
            "arch": network.arch,
            "used": {
                "version": str(torch.__version__),
                "device": "cpu",
                "device_name": torch.backends.cpu.get_cpu_capability(),
                "arithmetic": "f32",
                "threads": torch.get_num_threads(),
                "requests": 1,
            },
        }

    def first(self) -> Mapping[str, Any]:
        """The first call."""
        return {"ms": timed_ms(self._call), "height": self._x.shape[2], "width": self._x.shape[3]}

    def warmup(self, calls: int) -> Mapping[str, Any]:
        """Calls that do not count."""
        for _ in range(calls):
            self._call()
        return {}

    def round(self, iterations: int, seconds: float | None) -> Mapping[str, Any]:
        """One round: a call that does not count, then those that do."""
        self._call()
        latency: list[float] = []
        since = perf_counter()
        while not enough(len(latency), since, iterations, seconds):
            latency.append(timed_ms(self._call))
        return {"latency": latency}

    def memory(self) -> Mapping[str, Any]:
        """The peak so far."""
        return {"bytes": peak_memory()}

    def _call(self) -> Tensor:
        import torch

        with torch.inference_mode():
            alpha: Tensor = self._network(self._x).alpha
        return alpha


def main() -> int:
    """Serve until the parent closes the pipe."""
    worker = EagerWorker()
    handlers = {name: getattr(worker, name) for name in ("load", "first", "warmup", "round", "memory")}
    return serve(handlers)


if __name__ == "__main__":
    sys.exit(main())
