"""Where an inference on a GPU spends its time, in the terms and by the rules of NVIDIA's ``trtexec``.

So that a figure can be held against one of trtexec's: the same parts, the same percentiles, the same defaults for
warm-up and duration; inputs and outputs are copied (``--includeDataTransfers`` of TensorRT 11), and there is no CUDA
graph (``--noCudaGraph`` there). One inference is at work at a time: trtexec orders the next before the last has ended.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

WARMUP_MS, SECONDS, ITERATIONS = 200.0, 3.0, 10
"""Warm-up, and the least duration and number of inferences that count."""


@dataclass(frozen=True)
class Figures:
    """The distribution of one part, ms, by trtexec's rules: a percentile is one of the values."""

    minimum: float
    maximum: float
    mean: float
    median: float
    p90: float
    p95: float
    p99: float


@dataclass(frozen=True)
class GpuTimes:
    """Inferences of all outputs, measured in the GPU's stream.

    Attributes
    ----------
    latency
        ``h2d``, ``compute`` and ``d2h`` together.
    enqueue
        The host's time to order the computing.
    h2d, compute, d2h
        The GPU's, by events: input to the GPU, kernels, outputs to the host.
    inferences, seconds
        How many, and in which time on the host.
    warmup_ms, cuda_graph
        What came before, uncounted; whether the kernels were ordered as one graph.
    """

    latency: Figures
    enqueue: Figures
    h2d: Figures
    compute: Figures
    d2h: Figures
    inferences: int
    seconds: float
    warmup_ms: float = WARMUP_MS
    cuda_graph: bool = False

    @property
    def throughput(self) -> float:
        """Inferences a second."""
        return self.inferences / self.seconds

    @property
    def parts(self) -> dict[str, Figures]:
        """The parts by name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Figures)}


def gpu_times(samples: Sequence[tuple[float, float, float, float]], seconds: float) -> GpuTimes:
    """The figures of inferences, at least one: their ``enqueue``, ``h2d``, ``compute`` and ``d2h`` in ms."""
    enqueue, h2d, compute, d2h = zip(*samples, strict=True)
    latency = [math.fsum(parts) for parts in zip(h2d, compute, d2h, strict=True)]
    values = (figures(latency), figures(enqueue), figures(h2d), figures(compute), figures(d2h))
    return GpuTimes(*values, len(samples), seconds)


def figures(values: Sequence[float]) -> Figures:
    """The figures of some values, at least one; see :class:`Figures`."""
    if not values:
        raise ValueError("figures need at least one value")
    ordered = sorted(values)
    # In single precision, as there: in double, 90 % of 10 would leave none out.
    left_out = (1 - np.array([90, 95, 99], np.float32) / np.float32(100)) * np.float32(len(ordered))
    percentiles = (ordered[max(len(ordered) - 1 - int(count), 0)] for count in left_out)
    return Figures(ordered[0], ordered[-1], statistics.fmean(ordered), statistics.median(ordered), *percentiles)
