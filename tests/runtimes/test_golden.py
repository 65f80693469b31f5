"""How outputs are measured against their reference, and where the verdict turns."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from p3m_edge import metrics
from p3m_edge.runtimes.golden import compare, judge
from p3m_edge.targets import FP16, FP32

SIDE = 100


def outputs() -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (1, 3, SIDE, SIDE)).astype(np.float32)
    local = rng.uniform(0, 1, (1, 1, SIDE, SIDE)).astype(np.float32)
    return {"alpha": fuse(logits, local), "local_alpha": local, "global_logits": logits}


def fuse(logits: NDArray[np.float32], local: NDArray[np.float32]) -> NDArray[np.float32]:
    winner = logits.argmax(axis=1, keepdims=True)
    return np.where(winner == 1, local, (winner == 2).astype(np.float32))


def changed(**changes: Any) -> dict[str, NDArray[np.float32]]:
    found = {name: value.copy() for name, value in outputs().items()}
    for name, change in changes.items():
        change(found[name])
    return found


def flip(pixels: int) -> dict[str, NDArray[np.float32]]:
    """The reference, but the class of the first ``pixels`` pixels is another one."""
    found = changed()
    flat = found["global_logits"].reshape(3, -1)[:, :pixels]
    flat[:] = np.roll(flat, 1, axis=0)
    found["alpha"] = fuse(found["global_logits"], found["local_alpha"])
    return found


def passes(found: dict[str, NDArray[np.float32]], limits: Any = FP32) -> bool:
    return judge((compare("x", outputs(), found, limits.pixel_tolerance),), limits).passed


def test_equal_outputs_differ_by_nothing() -> None:
    item = compare("x", outputs(), outputs(), 1e-3)
    figures = [item.logits_mean, item.local_mean, item.local_share, item.flips, item.alpha_mean, item.alpha_max]
    assert figures == [0] * 6
    assert passes(outputs())


def test_as_many_flips_as_the_limit_grants() -> None:
    # In single precision the logits' mean error is a limit too, and these flips exceed it.
    limits = dataclasses.replace(FP16, alpha_mean=None, mse=None, grad_mean=None)
    assert compare("x", outputs(), flip(1), 1e-3).flips == 1e-4
    assert passes(flip(20), limits)
    assert not passes(flip(21), limits)


def test_the_mean_error_of_the_logits_counts_by_their_range() -> None:
    reference = outputs()["global_logits"]
    spread = float(reference.max() - reference.min())

    def shift(by: float) -> dict[str, NDArray[np.float32]]:
        return changed(global_logits=lambda logits: logits.__iadd__(np.float32(by * spread)))

    assert compare("x", outputs(), shift(0.01), 1e-3).logits_mean == pytest.approx(0.01, rel=1e-3)
    assert passes(shift(0.9e-5))
    assert not passes(shift(1.1e-5))
    assert passes(shift(1.1e-5), FP16)


def test_the_local_alpha() -> None:
    def off(by: float, pixels: int) -> dict[str, NDArray[np.float32]]:
        found = changed(local_alpha=lambda local: local.reshape(-1)[:pixels].__iadd__(np.float32(by)))
        found["alpha"] = fuse(found["global_logits"], found["local_alpha"])
        return found

    assert passes(off(9e-6, SIDE * SIDE))
    assert not passes(off(1.2e-5, SIDE * SIDE))
    assert passes(off(2e-3, 10))
    assert not passes(off(2e-3, 11))


def test_sad_mse_and_grad_of_half_precision() -> None:
    """Each by the published measure, as a pixel's mean, and alone beyond its limit."""
    reference = {"alpha": np.full((2, 1, SIDE, SIDE), 0.5, np.float32)}
    dots = {"alpha": reference["alpha"].copy()}
    dots["alpha"][1, 0, 20:80:10, 50] = 1.0
    item = compare("x", reference, dots, FP16.pixel_tolerance)
    pairs = zip(dots["alpha"], reference["alpha"], strict=True)
    measures = [metrics.evaluate(found[0], wanted[0]) for found, wanted in pairs]
    pixels = reference["alpha"].size
    assert item.alpha_mean == pytest.approx(1000 * sum(one["SAD"] for one in measures) / pixels)
    assert item.mse == pytest.approx(sum(one["MSE"] for one in measures) / 2)
    assert item.grad_mean == pytest.approx(10 * sum(one["GRAD"] for one in measures) / pixels)
    assert judge((item,), FP16).passed
    for name in ("alpha_mean", "mse", "grad_mean"):
        value = getattr(item, name)
        assert judge((item,), dataclasses.replace(FP16, **{name: value})).passed
        (failure,) = judge((item,), dataclasses.replace(FP16, **{name: 0.99 * value})).failures
        assert f"is {value:.3g}" in failure


def test_a_broken_fusion_is_caught() -> None:
    found = changed()
    found["alpha"] = found["local_alpha"]
    assert not passes(found)
    assert not passes(found, FP16)


@pytest.mark.parametrize("name", ["alpha", "local_alpha", "global_logits"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_within_no_limit(name: str, value: float) -> None:
    assert not passes(changed(**{name: lambda array: array.reshape(-1).__setitem__(5, value)}))


def test_infinity_on_both_sides_is_no_agreement() -> None:
    reference = changed(alpha=lambda array: array.reshape(-1).__setitem__(5, np.inf))
    assert not judge((compare("x", reference, reference, 1e-3),), FP32).passed


def test_alpha_alone_is_judged_too() -> None:
    reference = {"alpha": outputs()["alpha"]}
    item = compare("x", reference, reference, 1e-3)
    assert (item.flips, item.local_mean, item.logits_mean) == (None, None, None)
    assert judge((item,), FP32).passed
    item = compare("x", reference, {"alpha": reference["alpha"] * np.float32(0.999)}, 1e-3)
    verdict = judge((item,), FP32)
    assert not verdict.passed
    assert verdict.failures == (f"x: mean error of alpha is {item.alpha_mean:.3g}, limit 1e-05",)


@settings(max_examples=50)
@given(st.integers(0, SIDE * SIDE), st.floats(-1, 1, width=32))
def test_whatever_the_local_alpha_passes_alpha_passes(pixels: int, by: float) -> None:
    found = changed(local_alpha=lambda local: local.reshape(-1)[:pixels].__iadd__(np.float32(by)))
    found["alpha"] = fuse(found["global_logits"], found["local_alpha"])
    item = compare("x", outputs(), found, FP32.pixel_tolerance)
    assert item.local_mean is not None
    assert item.local_share is not None
    within = item.local_mean <= FP32.local_mean and item.local_share <= FP32.pixel_share
    assert judge((item,), FP32).passed == within
