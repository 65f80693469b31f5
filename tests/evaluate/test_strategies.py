"""The published inference strategies: their numbers, and which sizes the network sees."""

import sys
from typing import cast

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from PIL import Image

from p3m_edge.errors import InputError, MissingError, UsageError
from p3m_edge.evaluate.strategies import STRATEGIES, Strategy, network_side, predict
from p3m_edge.model import build, standin
from tests.conftest import SHARED
from tests.model.reference import reference_network
from tests.networks import shared_standin

CASES = sorted(path.stem for path in (SHARED / "reference" / "cases").glob("infer_*.npz"))


@pytest.fixture(scope="module")
def network():
    return shared_standin("mobile")


@pytest.fixture
def seen(network):
    """The sizes ``(height, width)`` at which the network is run."""
    sizes: list[tuple[int, ...]] = []
    handle = network.register_forward_pre_hook(lambda _, inputs: sizes.append(tuple(inputs[0].shape[2:])))
    yield sizes
    handle.remove()


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("case", CASES)
def test_equals_the_published_strategies(shared, case):
    folder = shared / "reference" / "cases"
    _, name, seed, *_ = case.split("_")
    network = reference_network(shared, name, int(seed.removeprefix("w")))
    rgb = np.asarray(Image.open(folder / f"{case}.png").convert("RGB"))
    expected = np.load(folder / f"{case}.npz")
    for strategy in STRATEGIES:
        alpha = predict(network, rgb, strategy)
        assert alpha.shape == rgb.shape[:2]
        assert alpha.dtype == np.float64
        error = np.abs(alpha - expected[strategy.upper()])
        assert error.mean() <= 1e-5, strategy  # the published tolerance is 1 / 255; rounding gives less
        assert (error > 1e-3).mean() <= 1e-3, strategy


@given(st.integers(0, 5000))
def test_network_sides(side):
    result = network_side(side)
    assert result % 32 == 0
    assert 32 <= result <= 1600
    if 32 <= side <= 1600:
        assert result <= side < result + 32


@pytest.mark.parametrize(
    ("size", "options", "sizes"),
    [
        ((130, 200), {"strategy": "resize"}, [(64, 96)]),
        ((131, 193), {"strategy": "hybrid"}, [(64, 96), (128, 192)]),
        ((40, 70), {"strategy": "hybrid"}, [(32, 32), (32, 64)]),  # published: fails below 32
        ((1, 1), {"strategy": "hybrid"}, [(32, 32), (32, 32)]),
        ((20, 3400), {"strategy": "resize"}, [(32, 1600)]),
        # A short side of 100 grows to 128; the other by the same ratio, not halved, whatever the strategy.
        ((100, 150), {"strategy": "resize", "minimum_side": 128}, [(128, 192)]),
        ((150, 100), {"strategy": "hybrid", "minimum_side": 128}, [(192, 128)]),
        ((128, 150), {"strategy": "resize", "minimum_side": 128}, [(64, 64)]),
        # The short side shrinks to 96 and the long one to int(96 * 150 / 101) = 142 before anything else.
        ((150, 101), {"strategy": "hybrid", "short_side_limit": 96}, [(64, 32), (128, 96)]),
        ((101, 150), {"strategy": "hybrid", "short_side_limit": 96}, [(32, 64), (96, 128)]),
        ((96, 300), {"strategy": "resize", "short_side_limit": 96}, [(32, 128)]),
        ((150, 101), {"short_side_limit": 96, "minimum_side": 128}, [(160, 128)]),
    ],
)
def test_sizes_that_the_network_sees(network, seen, size, options, sizes):
    alpha = predict(network, noise(*size), **options)
    assert seen == sizes
    assert alpha.shape == size
    assert alpha.dtype == np.float64
    assert alpha.min() >= 0
    assert alpha.max() <= 1


def test_a_ratio_that_rounds_below_the_minimum(network, seen):
    """int(512 / h * h) is 511 for some heights; the network then gets 480."""
    height = next(h for h in range(1, 512) if int(512 / h * h) == 511)
    predict(network, noise(height, height), minimum_side=512)
    assert seen == [(480, 480)]


def test_a_limited_matte_is_enlarged_again(network):
    rgb = np.kron(noise(12, 10), np.ones((12, 12, 1), np.uint8))
    alpha = predict(network, rgb, short_side_limit=96)
    assert alpha.shape == (144, 120)


@pytest.mark.parametrize(
    "rgb",
    [
        np.zeros((32, 32), np.uint8),
        np.zeros((32, 32, 4), np.uint8),
        np.zeros((0, 32, 3), np.uint8),
        np.zeros((32, 32, 3), np.float32),
        np.zeros((1, 32, 32, 3), np.uint8),
        [[[0, 0, 0]]],
        None,
    ],
)
def test_impossible_pictures(network, rgb):
    with pytest.raises(InputError, match="a picture must be"):
        predict(network, rgb)


def test_impossible_requests(network):
    rgb = noise(32, 32)
    with pytest.raises(UsageError, match="unknown strategy") as caught:
        predict(network, rgb, cast("Strategy", "hybird"))
    assert "hybrid" in str(caught.value.hint)
    with pytest.raises(UsageError, match="short_side_limit"):
        predict(network, rgb, short_side_limit=0)
    with pytest.raises(UsageError, match="minimum_side"):
        predict(network, rgb, minimum_side=-1)
    with pytest.raises(UsageError, match="training mode"):
        predict(build("tiny"), rgb)


def test_without_scikit_image(network, monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.transform", None)
    with pytest.raises(MissingError, match="skimage") as caught:
        predict(network, noise(32, 32))
    assert "p3m-edge[torch]" in str(caught.value.hint)


@pytest.mark.parametrize("when", ["before the model is made", "after it"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_default_dtype_of_a_script_changes_nothing(network, when, strategy):
    rgb = noise(160, 128)
    usual = predict(network, rgb, strategy)
    torch.set_default_dtype(torch.float64)
    try:
        there = predict(standin("mobile") if when.startswith("before") else network, rgb, strategy)
    finally:
        torch.set_default_dtype(torch.float32)
    assert there.dtype == np.float64
    np.testing.assert_allclose(there, usual, atol=1e-3)
