"""The stabiliser: less noise where nothing moves, and the network's matte wherever the frame before says nothing."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from p3m_edge.video import Stabiliser

HEIGHT, WIDTH = 128, 160


def scene(shift: int = 0, seed: int = 0) -> NDArray[np.uint8]:
    """A picture with something to hold on to everywhere, moved to the right by some pixels."""
    noise = np.random.default_rng(seed).integers(0, 255, (HEIGHT // 8, WIDTH // 8 + 8), np.uint8)
    grey = np.kron(noise, np.ones((8, 8), np.uint8))[:, 32 - shift : 32 - shift + WIDTH]
    return np.ascontiguousarray(np.repeat(grey[..., None], 3, axis=2))


def ramp(shift: float = 0) -> NDArray[np.float32]:
    """A soft edge from top to bottom."""
    edge = np.clip((np.arange(WIDTH, dtype=np.float32) - 60 - np.float32(shift)) / 40, 0, 1)
    return np.tile(edge, (HEIGHT, 1))


def test_noise_of_a_still_scene_falls() -> None:
    rng, steadied, image = np.random.default_rng(1), Stabiliser(), scene()
    raw = [np.clip(ramp() + rng.normal(0, 0.05, (HEIGHT, WIDTH)), 0, 1).astype(np.float32) for _ in range(20)]
    held = [steadied(alpha, image, index / 30) for index, alpha in enumerate(raw)]
    band = (ramp() > 0.2) & (ramp() < 0.8)
    noise, rest = (np.std(np.stack(part[10:])[:, band], axis=0).mean() for part in (raw, held))
    assert rest < 0.7 * noise


def test_what_moves_is_followed_without_lag() -> None:
    steadied = Stabiliser()
    for index in range(12):
        held = steadied(ramp(2 * index), scene(2 * index), index / 30)
    assert np.abs(held - ramp(22))[8:-8, 8:-8].mean() < 0.005


def test_what_appears_is_there_at_once() -> None:
    steadied = Stabiliser()
    for index in range(5):
        steadied(np.zeros((HEIGHT, WIDTH), np.float32), scene(), index / 30)
    alpha, image = np.zeros((HEIGHT, WIDTH), np.float32), scene()
    alpha[40:90, 40:90], image[40:90, 40:90] = 1, 128
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
    assert steadied(alpha, image, {"gap": 11.0, "back": 9.0}.get(what, 10.03)) is alpha
