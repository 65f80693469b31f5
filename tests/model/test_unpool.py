"""The unpooling against PyTorch's own, on one CPU thread: bit for bit, for both kinds of pooling."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp
from torch.nn import functional

from p3m_edge.model.unpool import Kernel, max_pool, max_unpool

KINDS = ["normal", "quantised", "relu", "equal", "negative"]


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def picture(kind: str, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    x = torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))
    match kind:
        case "quantised":
            return torch.round(2 * x) / 2
        case "relu":
            return torch.relu(x)
        case "equal":
            return torch.full_like(x, 0.25)
        case "negative":
            return -torch.abs(x) - 1
        case _:
            return x


def published(x: torch.Tensor, y: torch.Tensor | None, kernel: Kernel) -> tuple[torch.Tensor, torch.Tensor]:
    pooled, indices = functional.max_pool2d(x, kernel, 2, kernel - 2, return_indices=True)
    value = pooled if y is None else y
    return pooled, functional.max_unpool2d(value, indices, [2, 2], [2, 2], output_size=[*x.shape[-2:]])


def assert_same(x: torch.Tensor, y: torch.Tensor, kernel: Kernel) -> None:
    pooled, unpooled = published(x, y, kernel)
    with torch.no_grad():
        ours, winners = max_pool(x, kernel)
        assert torch.equal(ours, pooled)
        assert len(winners) == kernel**2
        assert torch.equal(torch.stack(winners).sum(0), torch.ones_like(pooled, dtype=torch.int64))
        inference = max_unpool(y, winners, kernel)
        assert torch.equal(inference[..., : x.shape[-2], : x.shape[-1]], unpooled)
    training = max_unpool(y, max_pool(x, kernel)[1], kernel)  # with gradients: selects instead of products
    assert torch.equal(training, inference)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kernel", [2, 3])
@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    channels=st.integers(1, 3),
    batch=st.integers(1, 2),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60)
def test_equals_pytorch(kernel: Kernel, kind, height, width, channels, batch, seed):
    shape = (batch, channels, 2 * height, 2 * width)
    x = picture(kind, shape, seed)
    y = picture("normal", (batch, channels, height, width), seed + 1)
    assert_same(x, y, kernel)


@given(height=st.integers(1, 15), width=st.integers(1, 15), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_odd_sizes_with_overlapping_windows(height, width, seed):
    x = picture("quantised", (1, 2, height, width), seed)
    y = picture("normal", (1, 2, (height + 1) // 2, (width + 1) // 2), seed + 1)
    assert_same(x, y, 3)


@given(
    hnp.arrays(
        np.float32,
        (1, 1, 6, 8),
        elements=st.sampled_from([-2.0, -0.5, 0.0, 0.5, 2.0]) | st.floats(-(2.0**99), 2.0**99, width=32),
    )
)
@settings(max_examples=200)
def test_arbitrary_values(array):
    x = torch.from_numpy(array)
    for kernel in (2, 3):
        y = picture("normal", (1, 1, 3, 4), 7)
        assert_same(x, y, kernel)


def test_the_last_window_in_raster_order_wins_a_shared_pixel():
    x = torch.zeros(1, 1, 4, 4)
    x[0, 0, 1, 1] = 1.0  # the maximum of all four 3x3 windows
    y = torch.arange(1.0, 5.0).reshape(1, 1, 2, 2)
    with torch.no_grad():
        unpooled = max_unpool(y, max_pool(x, 3)[1], 3)
    expected = torch.zeros(1, 1, 4, 4)
    expected[0, 0, 1, 1] = 4.0
    assert torch.equal(unpooled, expected)


@pytest.mark.parametrize("kernel", [2, 3])
def test_gradients_equal_pytorchs(kernel: Kernel):
    """Through the maxima, and through the unpooled values where windows do not collide."""
    distinct = np.random.default_rng(0).permutation(2 * 3 * 16 * 12)
    x = torch.from_numpy(distinct.reshape(2, 3, 16, 12).astype(np.float32))
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    pooled, winners = max_pool(ours, kernel)
    reference, indices = functional.max_pool2d(theirs, kernel, 2, kernel - 2, return_indices=True)
    weight = torch.from_numpy(np.random.default_rng(1).standard_normal(pooled.shape).astype(np.float32))
    (pooled * weight).sum().backward()
    (reference * weight).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-6, atol=1e-6)  # sums of up to four terms, in any order

    y = weight.clone().requires_grad_()
    cotangent = torch.from_numpy(np.random.default_rng(2).standard_normal(x.shape).astype(np.float32))
    (max_unpool(y, winners, kernel) * cotangent).sum().backward()
    # A window's value reaches its pixel unless a later window wins it; then its gradient is zero.
    flat = indices.flatten(2)
    winner = torch.zeros(2, 3, 16 * 12, dtype=torch.int64)
    for place in range(flat.shape[-1]):
        winner.scatter_(2, flat[..., place : place + 1], place)
    shown = winner.gather(2, flat) == torch.arange(flat.shape[-1])
    expected = (cotangent.flatten(2).gather(2, flat) * shown).reshape(y.shape)
    torch.testing.assert_close(y.grad, expected, rtol=0, atol=0)


def test_ties_give_the_gradient_to_the_first():
    x = torch.ones(1, 1, 2, 2, requires_grad=True)
    max_pool(x, 2)[0].sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]]), rtol=0, atol=0)
