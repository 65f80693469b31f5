"""The unpooling, as it is exported, in the engines: the same values as PyTorch on one thread."""

from collections.abc import Callable
from functools import cache
from typing import Any

import hypothesis.strategies as st
import numpy as np
import onnxruntime
import openvino
import pytest
import torch
from hypothesis import given, settings
from torch.nn import functional

from p3m_edge.export import graph
from p3m_edge.model.unpool import Kernel, Lowering, lowering, max_pool, max_unpool

SCATTERING = {"ScatterND", "ScatterElements", "Scatter", "MaxUnpool", "NonZero"}
KINDS = ["normal", "quantised", "relu", "equal", "negative"]
SIZES = [(10, 14), (2, 6), (12, 8)]  # halves: odd, one row, even
BATCH, CHANNELS = 2, 3

Run = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


class PoolAndUnpool(torch.nn.Module):
    """``x [B, C, H, W]`` pooled, and ``y [B, C, H/2, W/2]`` put where the maxima stood."""

    def __init__(self, kernel: Kernel, unpool: Lowering) -> None:
        super().__init__()
        self.kernel, self.unpool = kernel, unpool

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with lowering(self.unpool):
            pooled, winners = max_pool(x, self.kernel)
            return pooled, max_unpool(y, winners, self.kernel)


@cache
def traced(kernel: Kernel, size: tuple[int, int], unpool: Lowering) -> Any:
    height, width = size
    x = torch.zeros(BATCH, CHANNELS, height, width)
    y = torch.zeros(BATCH, CHANNELS, height // 2, width // 2)
    return graph.to_onnx(PoolAndUnpool(kernel, unpool), {"x": x, "y": y}, ("pooled", "unpooled"))


@cache
def compiled(engine: str, kernel: Kernel, size: tuple[int, int], unpool: Lowering) -> Run:
    data = traced(kernel, size, unpool).SerializeToString()
    if engine == "onnxruntime":
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        return lambda x, y: tuple(session.run(["pooled", "unpooled"], {"x": x, "y": y}))
    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    core = openvino.Core()
    request = core.compile_model(core.read_model(data, b""), "CPU", settings).create_infer_request()

    def run(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = request.infer({"x": x, "y": y})
        return found["pooled"].copy(), found["unpooled"].copy()

    return run


def values(kind: str, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    x = generator.standard_normal(shape).astype(np.float32)
    match kind:
        case "quantised":
            return np.round(2 * x) / 2
        case "relu":
            return np.maximum(x, 0)
        case "equal":
            return np.full_like(x, 0.25)
        case "negative":
            return -np.abs(x) - 1
        case _:
            return x


def published(x: np.ndarray, y: np.ndarray, kernel: Kernel) -> tuple[np.ndarray, np.ndarray]:
    """What PyTorch gives on one thread, which fixes the order in which repeated indices are written."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        pooled, indices = functional.max_pool2d(torch.from_numpy(x), kernel, 2, kernel - 2, return_indices=True)
        unpooled = functional.max_unpool2d(torch.from_numpy(y), indices, [2, 2], [2, 2], output_size=[*x.shape[-2:]])
    finally:
        torch.set_num_threads(threads)
    return pooled.numpy(), unpooled.numpy()


def assert_same(engine: str, kernel: Kernel, size: tuple[int, int], kind: str, seed: int, unpool: Lowering) -> None:
    generator = np.random.default_rng(seed)
    x = values(kind, (BATCH, CHANNELS, *size), generator)
    y = values("normal", (BATCH, CHANNELS, size[0] // 2, size[1] // 2), generator)
    pooled, unpooled = compiled(engine, kernel, size, unpool)(x, y)
    wanted_pooled, wanted_unpooled = published(x, y, kernel)
    np.testing.assert_array_equal(pooled, wanted_pooled)
    np.testing.assert_array_equal(unpooled, wanted_unpooled)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("kernel", [2, 3])
@given(size=st.sampled_from(SIZES), kind=st.sampled_from(KINDS), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=100)
def test_equals_pytorch(engine, kernel: Kernel, size, kind, seed):
    assert_same(engine, kernel, size, kind, seed, "select")


@pytest.mark.parametrize("kernel", [2, 3])
@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_native_follows_the_order_of_the_cpu_for_repeated_indices(kernel: Kernel, kind, seed):
    assert_same("onnxruntime", kernel, SIZES[0], kind, seed, "native")


def test_the_inputs_do_repeat_indices():
    x = values("normal", (BATCH, CHANNELS, *SIZES[0]), np.random.default_rng(0))
    _, indices = functional.max_pool2d(torch.from_numpy(x), 3, 2, 1, return_indices=True)
    planes = indices.flatten(0, 1).flatten(1)
    assert any(len(plane.unique()) < len(plane) for plane in planes)


@pytest.mark.parametrize("kernel", [2, 3])
def test_the_portable_form_needs_no_scatter_and_no_high_rank(kernel: Kernel):
    model = traced(kernel, SIZES[0], "select")
    assert not SCATTERING & {node.op_type for node in model.graph.node}
    assert all(len(value.type.tensor_type.shape.dim) <= 5 for value in model.graph.value_info)
    assert "MaxUnpool" in {node.op_type for node in traced(kernel, SIZES[0], "native").graph.node}
