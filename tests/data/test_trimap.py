"""Trimaps: the published ones bit for bit, and alphas at the edge of what is possible."""

from __future__ import annotations

import json

import numpy as np
import pytest

from p3m_edge.data.trimap import make_trimap, random_trimap
from p3m_edge.errors import InputError


@pytest.mark.parametrize("case", ["case0", "case1", "case2"])
def test_published_trimaps(shared, case):
    folder = shared / "reference" / "cases"
    kernel = json.loads((folder / "metrics_losses.json").read_text())[case]["trimap_kernel"]
    with np.load(folder / "metrics_losses.npz") as arrays:
        assert np.array_equal(make_trimap(arrays[f"{case}_alpha"], kernel), arrays[f"{case}_trimap"])


def test_a_disc_by_hand():
    alpha = np.zeros((41, 41), np.uint8)
    alpha[10:31, 10:31] = 255
    alpha[20, 20] = 254  # nearly opaque is not certain
    trimap = make_trimap(alpha, 5)
    assert set(np.unique(trimap)) == {0, 128, 255}
    assert trimap[20, 7] == 0
    assert list(trimap[20, 8:13]) == [128] * 4 + [255]
    assert list(trimap[20, 17:24]) == [255, 128, 128, 128, 128, 128, 255]
    assert trimap[8, 8] == 0  # the kernel is an ellipse: corners are not reached
    assert make_trimap(alpha, 1)[20, 20] == 128
    assert (make_trimap(alpha, 1) != 128).sum() == 41 * 41 - 1


def test_alphas_without_edges():
    for value in (0, 255):
        assert (make_trimap(np.full((9, 7), value, np.uint8), 30) == value).all()
    assert (make_trimap(np.full((9, 7), 1, np.uint8), 3) == 128).all()
    assert make_trimap(np.full((1, 1), 255, np.uint8), 15).tolist() == [[255]]


def test_random_kernels_are_15_to_30_and_all_occur():
    alpha = np.zeros((4, 100), np.uint8)
    alpha[:, 50:] = 255
    unknown = {int((make_trimap(alpha, kernel)[0] == 128).sum()): kernel for kernel in range(1, 61)}
    assert len(unknown) == 60  # the width of the unknown band tells the kernel
    drawn = {unknown[int((random_trimap(alpha, np.random.default_rng(seed))[0] == 128).sum())] for seed in range(200)}
    assert drawn == set(range(15, 31))


@pytest.mark.parametrize(
    "alpha", [np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.float32), np.zeros((0, 4), np.uint8)], ids=str
)
def test_arrays_that_are_no_alpha(alpha):
    with pytest.raises(InputError, match=r"uint8 \[H, W\]"):
        make_trimap(alpha, 15)


@pytest.mark.parametrize("kernel", [0, -3, 1001, 99999])
def test_kernels_that_are_none(kernel):
    with pytest.raises(InputError, match=f"has 1 to 1000 pixels, not {kernel}"):
        make_trimap(np.zeros((4, 4), np.uint8), kernel)
