"""Effects: each option against what it is defined as, in 8 and 16 bits, and effects that make no sense."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from p3m_edge.data.synth.portraits import portrait
from p3m_edge.errors import InputError, UsageError
from p3m_edge.runtimes import compose
from p3m_edge.runtimes.blend import blend
from p3m_edge.runtimes.compose import Effect, apply
from p3m_edge.runtimes.fusion import estimate_fast

DTYPES = [np.uint8, np.uint16]
HEIGHT, WIDTH = 150, 200


def scene(dtype: Any = np.uint8, seed: int = 0) -> tuple[NDArray[Any], NDArray[np.float32], NDArray[Any]]:
    """A frame, an alpha with soft edges and exact values inside and outside, and another picture."""
    random = np.random.default_rng(seed)
    frame, behind = (random.integers(0, np.iinfo(dtype).max + 1, (HEIGHT, WIDTH, 3), dtype=dtype) for _ in range(2))
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    alpha = np.clip((45 - np.hypot(x - WIDTH / 2, y - HEIGHT / 2)) / 14 + 0.5, 0, 1).astype(np.float32)
    return frame, alpha, behind


def eight(alpha: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.rint(alpha * 255).astype(np.uint8)


# --- one function for all --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_effect_is_what_the_functions_do(dtype: Any) -> None:
    frame, alpha, behind = scene(dtype)
    assert np.array_equal(apply(frame, alpha, Effect()), compose.cutout(frame, alpha))
    assert np.array_equal(apply(frame, alpha, Effect(behind)), compose.composite(frame, alpha, behind))
    assert np.array_equal(apply(frame, alpha, Effect((1, 2, 3))), compose.composite(frame, alpha, (1, 2, 3)))
    assert np.array_equal(apply(frame, alpha, Effect("blur", blur=0.3)), compose.blur_background(frame, alpha, 0.3))
    known = compose.foreground(frame, alpha)
    assert np.array_equal(apply(frame, alpha, Effect(behind), foreground=known), apply(frame, alpha, Effect(behind)))
    kept = Effect(behind, colours="frame")
    assert np.array_equal(apply(frame, alpha, kept), compose.composite(frame, alpha, behind, foreground=frame))


def test_a_video_behind_is_another_picture_each_time() -> None:
    frame, alpha, _ = scene()
    effect = Effect(colours="frame")
    for seed in range(3):
        behind = scene(seed=seed + 5)[2]
        made = apply(frame, alpha, replace(effect, background=behind))
        assert np.array_equal(made[alpha == 0], behind[alpha == 0])


@pytest.mark.parametrize("background", [(9, 8, 7), np.full((40, 90, 3), 77, np.uint8)], ids=["colour", "picture"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_fitted_effect_is_the_same(background: Any, dtype: Any) -> None:
    frame, alpha, _ = scene(dtype)
    effect = Effect(background, feather=1.5, linear=True, colours="fast")
    fitted = effect.fitted(frame)
    assert isinstance(fitted.background, np.ndarray)
    assert (fitted.background.shape, fitted.background.dtype) == (frame.shape, frame.dtype)
    assert np.array_equal(apply(frame, alpha, fitted), apply(frame, alpha, effect))
    for word in ("transparent", "blur"):
        assert Effect(word).fitted(frame).background == word


# --- 8 bits ----------------------------------------------------------------------------------------------------------


@settings(max_examples=80)
@given(st.tuples(st.integers(1, 40), st.integers(1, 40)), st.integers(0, 2**32 - 1))
def test_mixing_in_8_bits_differs_by_one_at_most(shape: tuple[int, int], seed: int) -> None:
    random = np.random.default_rng(seed)
    front, behind = (random.integers(0, 256, (*shape, 3), dtype=np.uint8) for _ in range(2))
    alpha = np.clip(random.integers(-80, 336, shape), 0, 255).astype(np.uint8)
    share = alpha[..., None] / 255
    exact = np.rint(front * share + behind * (1 - share))
    mixed = blend(front, behind, alpha)
    assert np.abs(mixed - exact).max() <= 1
    assert np.array_equal(mixed[alpha == 255], front[alpha == 255])
    assert np.array_equal(mixed[alpha == 0], behind[alpha == 0])


@pytest.mark.parametrize(
    "options",
    [{}, {"light_wrap": 0.7}, {"feather": 2.0}, {"linear": True}, {"colours": "fast"}, {"colours": "frame"}],
    ids=str,
)
@pytest.mark.parametrize("background", ["blur", "picture"])
def test_an_alpha_of_8_bits_gives_the_same_picture(background: str, options: dict[str, Any]) -> None:
    smooth = portrait(5, 160, 120)
    assert smooth.background is not None
    effect = Effect("blur", **options)
    if background == "picture":
        effect = replace(effect, background=np.ascontiguousarray(smooth.background[::-1]))
    exact = apply(smooth.image, smooth.alpha.astype(np.float32) / 255, effect)
    made = apply(smooth.image, smooth.alpha, effect)
    more = 2 if "light_wrap" in options or "feather" in options else 1  # two roundings, one after the other
    assert np.abs(made.astype(int) - exact).max() <= more


def test_no_blur_is_the_frame_in_8_bits_too() -> None:
    frame, alpha, _ = scene()
    assert np.array_equal(apply(frame, eight(alpha), Effect("blur", blur=0)), frame)


# --- the subject's colours -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [3, 5, 7])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_fast_estimate_is_nearly_as_good(seed: int, dtype: Any) -> None:
    sample = portrait(seed, 320, 240)
    truth = sample.foreground
    assert truth is not None
    one = int(np.iinfo(dtype).max) // 255
    frame, alpha = sample.image.astype(dtype) * dtype(one), sample.alpha * np.float32(1 / 255)
    mixed = (alpha > 0) & (alpha < 1)

    def error(colours: NDArray[Any]) -> float:
        difference = np.abs(colours.astype(float) / one - truth).mean(axis=-1)
        return float((difference * alpha)[mixed].mean())

    fast, full = estimate_fast(frame, alpha), compose.foreground(frame, alpha)
    assert error(fast) < 0.5 * error(frame)
    assert error(fast) < 1.5 * error(full)
    assert np.array_equal(fast[alpha == 1], frame[alpha == 1])
    if dtype == np.uint8:
        assert np.abs(estimate_fast(frame, sample.alpha).astype(int) - fast).max() <= 3


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (7, 9), (100, 30), (181, 33)], ids=str)
def test_fast_colours_of_frames_of_any_size(size: tuple[int, int]) -> None:
    alpha = np.tile(np.linspace(0, 1, size[1], dtype=np.float32), (size[0], 1))
    front, behind = np.array([200, 90, 30]), np.array([20, 60, 180])
    frame = np.rint(front * alpha[..., None] + behind * (1 - alpha[..., None])).astype(np.uint8)
    colours = estimate_fast(frame, alpha, everywhere=True)
    assert colours.shape == frame.shape
    if size[1] > 5:
        wrong, naive = (np.abs(each[alpha > 0.3].astype(int) - front).mean() for each in (colours, frame))
        assert wrong < 0.75 * naive


def test_a_fast_cutout_hides_what_was_behind() -> None:
    frame, alpha, _ = scene()
    frame[alpha == 1] = (250, 10, 10)
    rgba = apply(frame, alpha, Effect(colours="fast"))
    outside = rgba[..., :3][alpha == 0].astype(float)
    assert outside[:, 0].mean() > 180
    assert abs(np.corrcoef(outside[:, 1], frame[alpha == 0][:, 1])[0, 1]) < 0.1


# --- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_feather_is_a_gaussian_blur_of_the_alpha(dtype: Any) -> None:
    frame, alpha, behind = scene(dtype)
    blurred = cv2.GaussianBlur(alpha, (0, 0), 3, borderType=cv2.BORDER_REPLICATE)
    soft = np.clip(np.asarray(blurred, np.float32), 0, 1)
    expected = compose.composite(frame, soft, behind, foreground=frame)
    made = apply(frame, alpha, Effect(behind, feather=3), foreground=frame)
    assert np.array_equal(made, expected)
    cut = apply(frame, alpha, Effect(feather=3))
    assert np.array_equal(cut[..., 3], compose.quantized(soft, frame.dtype))


def test_a_feather_brings_no_old_background_in() -> None:
    alpha = np.zeros((80, 80), np.float32)
    alpha[20:60, 20:60] = 1
    frame = np.where(alpha[..., None] == 1, np.array([200, 20, 20]), np.array([0, 255, 0])).astype(np.uint8)
    for colours in ("estimate", "fast"):
        made = apply(frame, alpha, Effect((0, 0, 200), feather=4, colours=colours))
        assert made[..., 1].max() <= 24


@pytest.mark.parametrize("dtype", DTYPES)
def test_in_linear_light_half_of_white_on_black_is_188(dtype: Any) -> None:
    one = int(np.iinfo(dtype).max) // 255
    frame, half = np.full((3, 4, 3), 255 * one, dtype), np.full((3, 4), 0.5, np.float32)
    made = apply(frame, half, Effect((0, 0, 0), linear=True, colours="frame"))
    assert np.abs(made.astype(int) - 188 * one).max() <= one
    assert made.min() == made.max()


@pytest.mark.parametrize("dtype", DTYPES)
def test_linear_light_keeps_what_is_no_mixture(dtype: Any) -> None:
    frame, alpha, behind = scene(dtype)
    made = apply(frame, alpha, Effect(behind, linear=True))
    assert np.array_equal(made[alpha == 1], frame[alpha == 1])
    assert np.array_equal(made[alpha == 0], behind[alpha == 0])
    same = apply(frame, alpha, Effect(frame, linear=True, colours="frame")).astype(int)
    assert np.abs(same - frame).max() <= 1
    nearly = np.nextafter(np.ones_like(alpha), np.float32(0))
    assert np.array_equal(apply(frame, nearly, Effect(behind, linear=True, colours="frame")), frame)


@pytest.mark.parametrize("dtype", DTYPES)
def test_light_wraps_around_the_edge_alone(dtype: Any) -> None:
    _, alpha, _ = scene(dtype)
    top = int(np.iinfo(dtype).max)
    dark = np.zeros((HEIGHT, WIDTH, 3), dtype)
    plain = apply(dark, alpha, Effect((255, 255, 255), colours="frame")).astype(int)
    levels = [
        apply(dark, alpha, Effect((255, 255, 255), light_wrap=amount, colours="frame")).astype(int)
        for amount in (0.0, 0.5, 1.0)
    ]
    assert np.array_equal(levels[0], plain)
    edge = (alpha > 0.5) & (alpha < 1)
    assert levels[2][edge].mean() > levels[1][edge].mean() > plain[edge].mean() + 0.02 * top
    assert levels[2][HEIGHT // 2, WIDTH // 2].max() <= 0.01 * top
    assert np.array_equal(levels[2][alpha == 0], plain[alpha == 0])
    unlit = apply(dark, alpha, Effect((0, 0, 0), light_wrap=1, colours="frame"))
    assert unlit.max() == 0


# --- what makes no sense ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"background": "beach.jpg"}, {"background": ""}, {"blur": -0.1}, {"blur": 2}, {"blur": "much"}, {"blur": None},
        {"feather": -1}, {"feather": 65}, {"feather": math.nan}, {"light_wrap": 1.1}, {"light_wrap": True},
        {"linear": "no"}, {"linear": 1}, {"colours": "slow"}, {"colours": None},
    ],
    ids=str,
)  # fmt: skip
def test_effects_that_are_none(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Effect(**options)


@pytest.mark.parametrize(
    "background", [None, 3, (1, 2), (1, 2, 300), np.zeros((4, 4), np.uint8), [[1, 2], [3]]], ids=str
)
def test_backgrounds_that_are_none(background: Any) -> None:
    frame, alpha, _ = scene()
    with pytest.raises(InputError):
        apply(frame, alpha, Effect(background))
    with pytest.raises(InputError):
        Effect(background).fitted(frame)


def test_what_does_not_fit_together() -> None:
    frame, alpha, _ = scene()
    others: list[Any] = [frame[1:], frame.astype(np.uint16), "frame"]
    for foreground in others:
        with pytest.raises(InputError, match="the foreground is"):
            apply(frame, alpha, Effect(), foreground=foreground)
    with pytest.raises(InputError, match="the alpha is"):
        apply(frame, alpha[1:], Effect())
    with pytest.raises(InputError, match="the frame must be"):
        Effect((1, 2, 3)).fitted(alpha)  # type: ignore[type-var]  # that is what is tested


def test_nothing_is_written_to() -> None:
    frame, alpha, behind = scene()
    narrow = eight(alpha)
    for array in (frame, alpha, narrow, behind):
        array.flags.writeable = False
    effect = Effect(behind, feather=2, light_wrap=0.5, linear=True)
    for each in (alpha, narrow):
        for background in (behind, "blur", "transparent"):
            for colours in ("fast", "frame", "estimate"):
                made = apply(frame, each, replace(effect, background=background, colours=colours))
                assert not np.shares_memory(made, frame)
                assert not np.shares_memory(made, behind)


@pytest.mark.parametrize("dtype", DTYPES)
def test_views_are_taken_as_they_are(dtype: Any) -> None:
    frame, alpha, behind = (each[::-1, ::-2] for each in scene(dtype))
    effect = Effect(behind, feather=2, light_wrap=0.5)
    for each in (alpha, eight(alpha)[::1, ::-1][:, ::-1]):
        for background in (behind, "blur", "transparent"):
            for colours in ("fast", "frame", "estimate"):
                options = replace(effect, background=background, colours=colours)
                copied = apply(np.ascontiguousarray(frame), np.ascontiguousarray(each), options)
                assert np.array_equal(apply(frame, each, options), copied)
