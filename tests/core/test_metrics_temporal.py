"""dtSSD and flicker on sequences whose value follows from their definition."""

from __future__ import annotations

import numpy as np
import pytest

from p3m_edge.errors import InputError
from p3m_edge.metrics import dtssd, flicker


def steps(*values: float, shape: tuple[int, int] = (4, 6)) -> list[np.ndarray]:
    return [np.full(shape, value, np.float32) for value in values]


def test_dtssd_of_what_moves_alike_is_zero():
    truth = steps(0.1, 0.5, 0.3)
    assert dtssd(truth, truth) == 0
    shifted = [frame + np.float32(0.25) for frame in truth]  # always wrong, never unstable
    assert dtssd(shifted, truth) == pytest.approx(0, abs=1e-5)


def test_dtssd_in_closed_form():
    truth = steps(0.0, 0.5, 0.5)
    pred = steps(0.0, 0.3, 0.5)  # the changes differ by -0.2 and by 0.2, everywhere
    assert dtssd(pred, truth) == pytest.approx(20, rel=1e-5)
    half = [frame.copy() for frame in truth]
    half[1][:2] += 0.4  # half of the pixels: 0.4 up, 0.4 down: sqrt(0.16 / 2) both times
    assert dtssd(half, truth) == pytest.approx(100 * np.sqrt(0.08), rel=1e-5)
    once = steps(0.0, 0.5, 0.9)  # 0, then 0.4: the mean of the roots, not the root of the mean
    assert dtssd(once, truth) == pytest.approx(20, rel=1e-5)


def test_dtssd_takes_8_bits_and_iterators():
    truth = [np.full((3, 3), v, np.uint8) for v in (0, 51)]
    assert dtssd(iter(steps(0, 0, shape=(3, 3))), iter(truth)) == pytest.approx(20, rel=1e-5)


def test_flicker_counts_still_pixels_only():
    frames = [np.zeros((4, 6, 3), np.uint8) for _ in range(3)]
    alphas = steps(0.5, 0.5, 0.5)
    assert flicker(alphas, frames) == 0
    alphas[1] = alphas[1] + np.float32(0.1)
    assert flicker(alphas, frames) == pytest.approx(10, rel=1e-5)
    for frame, value in zip(frames, (0, 90, 0), strict=True):
        frame[:, :3, 1] = value  # the left half moves, in one channel
    alphas[1][:, :3] = 1
    assert flicker(alphas, frames) == pytest.approx(10, rel=1e-5)


def test_flicker_leaves_out_pairs_without_a_still_pixel():
    frames = [np.full((4, 6, 3), v, np.uint8) for v in (0, 200, 200)]  # a cut, then stillness
    assert flicker(steps(0, 1, 0.9), frames) == pytest.approx(10, rel=1e-5)


def test_what_counts_as_still():
    frames = [np.full((4, 6, 3), v, np.uint8) for v in (100, 104)]
    assert flicker(steps(0, 0.3), frames) == pytest.approx(30, rel=1e-5)
    assert flicker(steps(0, 0.3), frames, still=4) == flicker(steps(0, 0.3), frames[::-1])  # no wrapping round of bytes
    with pytest.raises(InputError, match="stands still"):
        flicker(steps(0, 0.3), frames, still=3)


def test_impossible_sequences():
    frames = [np.zeros((4, 6, 3), np.uint8)] * 2
    with pytest.raises(InputError, match="at least two"):
        dtssd(steps(0), steps(0))
    with pytest.raises(InputError, match="at least two"):
        flicker([], [])
    with pytest.raises(InputError, match="differ in length"):
        dtssd(steps(0, 0), steps(0))
    with pytest.raises(InputError, match="differ in length"):
        flicker(steps(0), frames)
    with pytest.raises(InputError, match=r"\[4, 6\]"):
        dtssd(steps(0, 0), steps(0, 0, shape=(6, 4)))
    with pytest.raises(InputError, match=r"\[5, 5\]"):
        dtssd(steps(0) + steps(0, shape=(5, 5)), steps(0) + steps(0, shape=(5, 5)))
    with pytest.raises(InputError, match="a frame must be uint8"):
        flicker(steps(0, 0), steps(0, 0))
    with pytest.raises(InputError, match=r"0\.\.1"):
        dtssd(steps(0, 2), steps(0, 0))
