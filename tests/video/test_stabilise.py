"""The stabiliser: less noise where nothing moves, and the network's matte wherever something does."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from p3m_edge.arrays import Array
from p3m_edge.video import Stabiliser

HEIGHT, WIDTH = 128, 160
NOISE = 2.5  # of a webcam, in grey levels


def scene(shift: int = 0, seed: int = 0) -> NDArray[np.uint8]:
    """A picture with something to hold on to everywhere, moved to the right by some pixels."""
    noise = np.random.default_rng(seed).integers(0, 255, (HEIGHT // 8, WIDTH // 8 + 8), np.uint8)
    grey = np.kron(noise, np.ones((8, 8), np.uint8))[:, 32 - shift : 32 - shift + WIDTH]
    return np.ascontiguousarray(np.repeat(grey[..., None], 3, axis=2))


def noisy(image: Array, rng: np.random.Generator) -> NDArray[np.uint8]:
    values: Array = np.rint(image + rng.normal(0, NOISE, image.shape))
    return np.clip(values, 0, 255).astype(np.uint8)


def ramp(shift: float = 0) -> NDArray[np.float32]:
    """A soft edge from top to bottom."""
    edge = np.clip((np.arange(WIDTH, dtype=np.float32) - 60 - np.float32(shift)) / 40, 0, 1)
    return np.tile(edge, (HEIGHT, 1))


@pytest.mark.parametrize("lamp", [0.0, 0.05])
def test_flicker_of_a_still_scene_falls(lamp: float) -> None:
    """Patches that come and go, as of a network that is not sure of a jumper, in a camera's noise and uneven light."""
    rng, steadied = np.random.default_rng(1), Stabiliser()
    raw, held = [], []
    for index in range(40):
        alpha = ramp()
        alpha[40:80, 100:140] *= rng.uniform(0.2, 1)
        raw.append(alpha)
        light = 0.9 + lamp * np.sin(2 * np.pi * index / 3)
        held.append(steadied(alpha, noisy(light * scene(), rng), index / 30))
    jumps, rest = (np.abs(np.diff(np.stack(part[15:])[:, 40:80, 100:140], axis=0)).mean() for part in (raw, held))
    assert rest < 0.35 * jumps
    assert np.abs(np.mean(held[15:], axis=0) - np.mean(raw[15:], axis=0)).max() < 0.1


def test_what_the_network_says_in_the_end_is_taken_over() -> None:
    steadied = Stabiliser()
    steadied(ramp(), scene(), 0.0)
    for index in range(1, 31):
        held = steadied(ramp(20), scene(), index / 30)
    assert np.abs(held - ramp(20)).max() < 0.01


def test_it_does_not_depend_on_the_rate() -> None:
    found = []
    for rate in (15, 60):
        steadied = Stabiliser()
        steadied(np.zeros((HEIGHT, WIDTH), np.float32), scene(), 0.0)
        for index in range(1, rate // 5 + 1):  # 0.2 seconds
            held = steadied(np.ones((HEIGHT, WIDTH), np.float32), scene(), index / rate)
        found.append(float(held.mean()))
    assert found == pytest.approx([1 - np.exp(-0.2 / 0.15)] * 2, abs=0.01)


def test_what_moves_is_followed_without_lag() -> None:
    steadied = Stabiliser()
    for index in range(12):
        held = steadied(ramp(2 * index), scene(2 * index), index / 30)
    assert np.abs(held - ramp(22)).mean() < 0.002


def test_what_appears_is_there_at_once() -> None:
    steadied = Stabiliser()
    for index in range(5):
        steadied(np.zeros((HEIGHT, WIDTH), np.float32), scene(), index / 30)
    alpha, image = np.zeros((HEIGHT, WIDTH), np.float32), scene()
    alpha[40:90, 40:90] = 1
    image[40:90, 40:90] ^= 64
    assert (steadied(alpha, image, 5 / 30)[40:90, 40:90] >= 0.95).all()


@pytest.mark.parametrize("what", ["first", "cut", "gap", "back", "size"])
def test_the_raw_matte_where_nothing_is_known(what: str) -> None:
    steadied = Stabiliser()
    alpha = ramp()
    if what != "first":
        steadied(1 - alpha, scene(), 10.0)
    image = (255 - scene() if what == "cut" else scene()).copy()
    if what == "size":
        alpha, image = alpha[:64].copy(), image[:64].copy()
    held = steadied(alpha, image, {"gap": 12.0, "back": 9.0}.get(what, 10.03))
    assert np.abs(held - alpha).mean() < 0.01


def test_frames_of_one_pixel() -> None:
    steadied = Stabiliser()
    for index in range(3):
        alpha, image = np.full((1, 1), index / 2, np.float32), np.zeros((1, 1, 3), np.uint8)
        assert 0 <= steadied(alpha, image, index / 30).item() <= 1
