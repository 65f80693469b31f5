"""Transparency: which colours may be seen, and which never again."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from p3m_edge.imageio import fill_hidden, flatten, read_image, write_png


def smooth(height: int, width: int, dtype: Any = np.uint8) -> NDArray[Any]:
    coarse = np.random.default_rng(0).random((4, 5, 3))
    colours = np.clip(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR), 0, 1)
    made: NDArray[Any] = np.rint(colours * np.iinfo(dtype).max).astype(dtype)
    return made


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("size", [(1, 1), (1, 50), (37, 41), (300, 900)])
def test_hidden_colours_become_continued_visible_ones(size, dtype):
    colours, alpha = smooth(size[0], size[1], dtype), np.full(size, 3, dtype)
    alpha[size[0] // 3 :, size[1] // 4 :] = 0
    hidden = alpha == 0
    one, other = colours.copy(), colours.copy()
    other[hidden] = np.random.default_rng(1).integers(0, np.iinfo(dtype).max + 1, (int(hidden.sum()), 3))
    filled = fill_hidden(one, alpha)
    assert filled.dtype == dtype
    assert np.array_equal(filled, fill_hidden(other, alpha))
    assert np.array_equal(filled[~hidden], colours[~hidden])
    if not hidden.all():
        for channel in range(3):
            seen = colours[~hidden][:, channel]
            assert filled[..., channel].min() >= int(seen.min()) - 1
            assert filled[..., channel].max() <= int(seen.max()) + 1


def test_what_is_near_decides():
    colours = np.zeros((100, 200, 3), np.uint8)
    colours[:, :40], colours[:, 160:] = (200, 0, 0), (0, 0, 200)
    alpha = np.zeros((100, 200), np.uint8)
    alpha[:, :40] = alpha[:, 160:] = 255
    filled = fill_hidden(colours, alpha)
    assert (filled[:, 42, 0] > 150).all()
    assert (filled[:, 157, 2] > 150).all()
    assert not fill_hidden(colours, np.zeros_like(alpha)).any()  # nothing is seen
    assert fill_hidden(colours, np.full_like(alpha, 1)) is colours


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_flattening_is_the_sum_of_both(dtype):
    colours = smooth(20, 30)
    alpha = np.tile(np.linspace(0, np.iinfo(dtype).max, 30).astype(dtype), (20, 1))
    share = alpha[..., None] / np.iinfo(dtype).max
    for grey in (128, 255):
        expected = colours * share + grey * (1 - share)
        assert np.abs(flatten(colours, alpha, grey) - expected).max() <= 1
    assert (flatten(colours, alpha)[:, 0] == 128).all()


def test_what_is_visible_of_a_picture(tmp_path):
    colours, alpha = smooth(20, 30), np.full((20, 30), 255, np.uint8)
    write_png(tmp_path / "opaque.png", np.dstack([colours, alpha]))
    opaque = read_image(tmp_path / "opaque.png")
    assert opaque.alpha is None
    assert opaque.visible is opaque.rgb
    alpha[5:] = 0
    write_png(tmp_path / "partly.png", np.dstack([colours, alpha]))
    partly = read_image(tmp_path / "partly.png")
    assert partly.alpha is not None
    assert np.array_equal(partly.alpha, alpha)
    assert np.array_equal(partly.rgb, colours)
    assert (partly.visible[5:] == 128).all()
    assert np.array_equal(partly.visible[:5], colours[:5])
