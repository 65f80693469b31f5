"""The choices behind the mobile network, measured: latency and parameters of its variants beside ResNet-34's.

The weights are random: a variant that pays would have to be trained before it means anything. Latency does not depend
on them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from p3m_edge.benchmarks.interleave import interleaved
from p3m_edge.benchmarks.statistics import Summary, summarise
from p3m_edge.export import graph
from p3m_edge.model.deploy import Deploy
from p3m_edge.model.layers import initialise
from p3m_edge.model.mobile import MOBILE, MobileEncoder, MobileGlobalDecoder, MobileLocalDecoder, MobilePlan
from p3m_edge.model.p3mnet import P3MNet, build
from p3m_edge.runtimes.engines import openvino as ov

LARGE = "r34"
SHIPPED = "mobile"
CHOICES: dict[str, MobilePlan] = {
    SHIPPED: MOBILE,
    "without the stages at 1/64": MobilePlan(context=False),
    "depthwise everywhere": MobilePlan(plain=0),
    "plain at 1/8 as well": MobilePlan(plain=3),
    "plain everywhere": MobilePlan(plain=5),
    "local decoder as wide as the global": MobilePlan(fine=(96, 64, 48, 32, 24)),
    "wider decoders, 128-96-64-32-24": MobilePlan(coarse=(128, 96, 64, 32), fine=(128, 96, 64, 32, 24)),
    "both slim, 64-48-32-24-16": MobilePlan(coarse=(64, 48, 32, 24)),
    "slim, no 1/64, detail 12": MobilePlan(
        coarse=(64, 48, 32, 16), fine=(64, 48, 32, 16, 12), detail=12, context=False
    ),
    "detail of 24 channels": MobilePlan(detail=24),
}
"""What is measured, by what it changes."""


@dataclass(frozen=True)
class Choice:
    """A variant.

    Attributes
    ----------
    name
        Of :data:`CHOICES`, or :data:`LARGE`.
    parameters
        Of the whole network, with the side outputs that only training needs.
    latency
        Of an inference, in milliseconds.
    """

    name: str
    parameters: int
    latency: Summary


def measure(
    width: int, height: int, *, threads: int | None, rounds: int, iterations: int,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[Choice, ...]:  # fmt: skip
    """Measure all variants and ResNet-34 in OpenVINO, float32, the matte as the only output, in interleaved rounds.

    Raises
    ------
    MissingError
        OpenVINO is not installed.
    """
    openvino = ov.require()
    networks = {LARGE: build(LARGE), **{name: variant(plan) for name, plan in CHOICES.items()}}
    compiled = {name: _compile(openvino, network, width, height, threads) for name, network in networks.items()}
    frame = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), dtype=np.uint8)
    calls = {name: functools.partial(run, frame) for name, run in compiled.items()}
    times = interleaved(calls, rounds=rounds, iterations=iterations, progress=progress)
    return tuple(Choice(name, _parameters(network), summarise(times[name])) for name, network in networks.items())


def variant(plan: MobilePlan) -> P3MNet:
    """The mobile network with other choices, freshly initialised."""
    network = P3MNet(SHIPPED)
    network.encoder = MobileEncoder(plan)
    network.global_decoder, network.local_decoder = MobileGlobalDecoder(plan), MobileLocalDecoder(plan)
    initialise(network)
    return network


def _compile(openvino: Any, network: P3MNet, width: int, height: int, threads: int | None) -> Any:
    model = graph.trace(Deploy(network.eval(), "alpha"), height, width)
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = str(threads)
    core = openvino.Core()
    return core.compile_model(core.read_model(model.SerializeToString(), b""), "CPU", settings)


def _parameters(network: P3MNet) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
