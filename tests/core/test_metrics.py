"""The measures against the published numbers, against slow transcriptions of their definitions, and at the edges."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from p3m_edge.errors import InputError
from p3m_edge.metrics import bootstrap, connectivity_error, evaluate, gradient_error

WHOLE = {"SAD", "MSE", "MAD", "GRAD", "CONN"}
REGIONS = {"SAD_TRIMAP", "MSE_TRIMAP", "MAD_TRIMAP", "SAD_FG", "SAD_BG"}
FACE = {"SAD_FACE", "MSE_FACE", "MAD_FACE"}


def noise(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def slow_gradient_error(pred: NDArray[np.float32], alpha: NDArray[np.float32]) -> float:
    def magnitude(values: NDArray[np.float32]) -> NDArray[np.float64]:
        along = [ndimage.gaussian_filter(values.astype(np.float64), 1.4, order) for order in ((1, 0), (0, 1))]
        return np.asarray(np.hypot(*along))

    return float(((magnitude(pred) - magnitude(alpha)) ** 2).sum() / 10)


def slow_connectivity_error(pred: NDArray[np.float32], alpha: NDArray[np.float32]) -> float:
    levels = np.arange(0, 1.1, 0.1)
    level = -np.ones(pred.shape, np.float32)
    for i in range(1, len(levels)):
        both = (pred.astype(np.float64) >= levels[i]) & (alpha.astype(np.float64) >= levels[i])
        labels, count = ndimage.label(both)  # 4-connected, numbered row by row
        if count == 0:
            continue
        areas = [(labels == label).sum() for label in range(1, count + 1)]
        region = labels == 1 + int(np.argmax(areas))
        level[(level == -1) & ~region] = levels[i - 1]
    level[level == -1] = 1
    distances = pred - level, alpha - level
    phi = [1 - d * (d >= 0.15) for d in distances]
    return float(np.abs(phi[0] - phi[1]).sum(dtype=np.float64) / 1000)


def test_the_published_numbers(shared):
    cases = shared / "reference" / "cases"
    expected = json.loads((cases / "metrics_losses.json").read_text())
    with np.load(cases / "metrics_losses.npz") as arrays:
        for case, values in expected.items():
            pred, alpha, trimap = (arrays[f"{case}_{name}"] for name in ("pred", "alpha", "trimap"))
            measures = evaluate(pred, alpha, trimap)
            assert set(measures) == WHOLE | REGIONS
            for name, value in measures.items():
                assert value == pytest.approx(values[name], rel=1e-5), (case, name)


shapes = st.tuples(st.integers(1, 24), st.integers(1, 24))


@settings(max_examples=100)
@given(shapes, st.integers(0, 2**32 - 1))
def test_gradient_error_is_that_of_scipy(shape, seed):
    """Also where the picture is smaller than the filter, and the border is reflected more than once."""
    pred, alpha = np.random.default_rng(seed).random((2, *shape), dtype=np.float32)
    assert gradient_error(pred, alpha) == pytest.approx(slow_gradient_error(pred, alpha), rel=1e-5, abs=1e-9)


@settings(max_examples=200)
@given(shapes, st.integers(0, 2**32 - 1), st.sampled_from([2, 3, 6, 11, 256]))
def test_connectivity_error_follows_its_definition(shape, seed, values):
    """Few values make ties between regions, and 6 or 11 of them lie on the levels."""
    random = np.random.default_rng(seed).integers(0, values, (2, *shape))
    pred, alpha = (random * (255 // (values - 1))).astype(np.uint8).astype(np.float32) / np.float32(255)
    assert connectivity_error(pred, alpha) == pytest.approx(slow_connectivity_error(pred, alpha), rel=1e-6, abs=1e-9)


def test_connectivity_levels_are_compared_in_float64():
    """``arange`` gives levels just above 0.3, 0.6 and 0.7: the float32 nearest to each decides by its own rounding."""
    for value in (0.1, 0.3, 0.6, 0.7):
        pred = np.full((4, 4), value, np.float32)
        alpha = np.ones((4, 4), np.float32)
        assert connectivity_error(pred, alpha) == pytest.approx(slow_connectivity_error(pred, alpha), rel=1e-6)


@pytest.mark.parametrize("corner", [(0, 0), (0, 5), (5, 0), (5, 5)])
def test_of_equally_large_regions_the_first_one_counts(corner):
    alpha = np.zeros((8, 8), np.float32)
    for top, left in ((0, 0), (0, 5), (5, 0), (5, 5)):
        alpha[top : top + 2, left : left + 2] = 1
    pred = alpha.copy()
    pred[corner[0] : corner[0] + 2, corner[1] : corner[1] + 2] = 0.95
    assert connectivity_error(pred, alpha) == pytest.approx(slow_connectivity_error(pred, alpha), rel=1e-6)


def test_regions_touching_at_a_corner_are_two():
    alpha = np.kron(np.eye(2), np.ones((3, 3))).astype(np.float32)
    pred = alpha * np.float32(0.5)
    assert connectivity_error(pred, alpha) == pytest.approx(slow_connectivity_error(pred, alpha), rel=1e-6)


def test_hand_computed_example():
    alpha = np.array([[0, 255, 255, 0]], np.uint8)
    pred = np.array([[51, 204, 255, 0]], np.uint8)
    trimap = np.array([[0, 128, 255, 128]], np.uint8)
    face = np.array([[1, 1, 0, 0]], np.uint8)
    measures = evaluate(pred, alpha, trimap, face)
    expected = {"SAD": 0.4e-3, "MAD": 0.1, "MSE": 0.02, "SAD_TRIMAP": 0.2e-3, "MAD_TRIMAP": 0.1, "MSE_TRIMAP": 0.02}
    expected |= {"SAD_FG": 0, "SAD_BG": 0.2e-3, "SAD_FACE": 0.4e-3, "MAD_FACE": 0.2, "MSE_FACE": 0.04}
    for name, value in expected.items():
        assert measures[name] == pytest.approx(value, rel=1e-5), name
    assert set(measures) == WHOLE | REGIONS | FACE


def test_a_trimap_that_contradicts_the_alpha_counts_as_published():
    """Outside the unknown region the prediction is set, and compared all the same."""
    alpha, pred = np.full((2, 2), 255, np.uint8), np.full((2, 2), 255, np.uint8)
    trimap = np.array([[0, 128], [255, 60]], np.uint8)
    measures = evaluate(pred, alpha, trimap)
    assert measures["SAD_TRIMAP"] == pytest.approx(1e-3)
    assert measures["MAD_TRIMAP"] == pytest.approx(1.0)
    assert measures["SAD_BG"] == 0


@settings(max_examples=50)
@given(shapes, st.integers(0, 2**32 - 1))
def test_equal_alphas_have_no_error_and_float_equals_8_bit(shape, seed):
    alpha, pred = noise(*shape, seed=seed), noise(*shape, seed=seed + 1)
    trimap = np.random.default_rng(seed).choice(np.array([0, 128, 255], np.uint8), shape)
    known = np.where(trimap == 128, alpha, trimap)
    measures = evaluate(known, known, trimap, trimap)
    assert measures.pop("GRAD") < 1e-12  # OpenCV's filter rounds by where an array lies in memory
    assert set(measures.values()) == {0.0}
    as_float = evaluate((pred / 255).astype(np.float32), (alpha / 255).astype(np.float32), trimap)
    for name, value in evaluate(pred, alpha, trimap).items():
        assert as_float[name] == pytest.approx(value, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("value", [0, 255])
def test_empty_regions_give_zero(value):
    alpha, pred = np.zeros((5, 6), np.uint8), noise(5, 6)
    nothing = np.zeros((5, 6), np.uint8)
    measures = evaluate(pred, alpha, np.full((5, 6), value, np.uint8), nothing)
    assert measures["SAD_TRIMAP"] == measures["MSE_TRIMAP"] == measures["MAD_TRIMAP"] == 0
    assert measures["SAD_FACE"] == measures["MSE_FACE"] == measures["MAD_FACE"] == 0
    assert measures["SAD_BG" if value == 0 else "SAD_FG"] == pytest.approx(measures["SAD"])
    assert all(np.isfinite(v) for v in measures.values())


@pytest.mark.parametrize("pred", [0, 100, 255])
@pytest.mark.parametrize("alpha", [0, 100, 255])
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (12, 12)])
def test_constant_and_tiny_pictures(pred, alpha, shape):
    p, a = np.full(shape, pred, np.uint8), np.full(shape, alpha, np.uint8)
    measures = evaluate(p, a, np.full(shape, 128, np.uint8), np.ones(shape, bool))
    assert measures["MAD"] == pytest.approx(abs(pred - alpha) / 255, rel=1e-5)
    assert measures["MAD_TRIMAP"] == pytest.approx(measures["MAD"])
    assert measures["MAD_FACE"] == pytest.approx(measures["MAD"])
    assert measures["GRAD"] == pytest.approx(0, abs=1e-9)
    expected = slow_connectivity_error(*(x.astype(np.float32) / np.float32(255) for x in (p, a)))
    assert measures["CONN"] == pytest.approx(expected, abs=1e-9)


def test_views_are_measured_and_left_alone():
    pred, alpha = noise(40, 50)[::-2, 5::3], noise(50, 40, seed=1).T[::2, 5::3]
    before = pred.copy(), alpha.copy()
    face = noise(20, 15) > 99
    copies = evaluate(np.ascontiguousarray(pred), np.ascontiguousarray(alpha), None, face)
    assert evaluate(pred, alpha, None, face) == pytest.approx(copies, rel=1e-5)  # GRAD rounds by where arrays lie
    assert np.array_equal(pred, before[0])
    assert np.array_equal(alpha, before[1])


GOOD = np.zeros((4, 5), np.uint8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pred": [[0]]}, "pred must be a NumPy array"),
        ({"pred": np.zeros((4, 6), np.uint8)}, r"pred is \[4, 6\]"),
        ({"pred": np.zeros((4, 5, 1), np.uint8)}, r"\[H, W\]"),
        ({"pred": np.zeros((0, 5), np.uint8), "alpha": np.zeros((0, 5), np.uint8)}, "not empty"),
        ({"pred": np.zeros((4, 5), np.int64)}, "int64"),
        ({"pred": np.zeros((4, 5), np.uint16)}, "uint16"),
        ({"alpha": np.zeros((4, 5), bool)}, "bool"),
        ({"alpha": np.full((4, 5), 255.0)}, "alpha must be in 0..1"),
        ({"pred": np.full((4, 5), -0.01, np.float32)}, "pred must be in 0..1"),
        ({"pred": np.full((4, 5), np.nan, np.float32)}, "nan"),
        ({"trimap": np.zeros((4, 4), np.uint8)}, r"trimap is \[4, 4\]"),
        ({"trimap": np.zeros((4, 5), np.float32)}, "trimap must be uint8"),
        ({"trimap": "trimap.png"}, "trimap must be uint8, not str"),
        ({"face_mask": np.zeros((5, 4), bool)}, r"face_mask is \[5, 4\]"),
        ({"face_mask": np.zeros((4, 5), np.float32)}, "face_mask must be uint8 or bool"),
    ],
)
def test_bad_arrays_are_input_errors(arguments: dict[str, Any], message):
    with pytest.raises(InputError, match=message):
        evaluate(**{"pred": GOOD, "alpha": GOOD, **arguments})


def test_the_interval_of_a_mean():
    assert bootstrap([0.5]) == (0.5, 0.5)
    assert bootstrap([2.0] * 9) == (2.0, 2.0)
    values = np.random.default_rng(3).normal(1, 2, 400)
    low, high = bootstrap(list(values))
    assert bootstrap(list(values)) == (low, high)  # the same every time
    error = values.std() / 20
    assert (values.mean() - low) / error == pytest.approx(1.96, rel=0.05)
    assert (high - values.mean()) / error == pytest.approx(1.96, rel=0.05)
