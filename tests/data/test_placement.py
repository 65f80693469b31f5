"""Where people go in a composite: no cut is ever seen, heads are inside, sizes and sides are those that were asked."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p3m_edge.data.compose.placement import HEIGHT, INSIDE, TURN, Figure, draw_placement, scale_of


def blob(height: int, width: int, box: tuple[float, float, float, float]) -> np.ndarray:
    """A head on shoulders in a box (left, top, right, bottom) in shares of the picture; beyond it, cut off."""
    left, top, right, bottom = np.array(box) * [width, height, width, height]
    rows, columns = np.mgrid[:height, :width] + 0.5
    x, y = (columns - (left + right) / 2) / (right - left), (rows - top) / (bottom - top)
    head = (x / 0.25) ** 2 + ((y - 0.2) / 0.2) ** 2 < 1
    shoulders = (y > 0.35) & (y < 1) & (np.abs(x) < 0.5)
    return np.where(head | shoulders, np.uint8(255), np.uint8(0))


def moved(picture: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The nearest pixel of the portrait for each of the frame; 0 beyond. Written anew, by the inverse map."""
    columns, rows = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5)
    points = np.stack([columns.ravel(), rows.ravel()]) - matrix[:, 2:]
    x, y = np.floor(np.linalg.solve(matrix[:, :2], points)).astype(int)
    inside = (x >= 0) & (x < picture.shape[1]) & (y >= 0) & (y < picture.shape[0])
    values = np.zeros(len(x), picture.dtype)
    values[inside] = picture[y[inside], x[inside]]
    return values.reshape(size[::-1])


def figure(alpha: np.ndarray, face: np.ndarray | None = None) -> Figure:
    found = Figure.of(alpha, face)
    assert found is not None
    return found


def shows_a_cut(alpha: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> bool:
    """Whether the person touches, inside the frame, what lies beyond the portrait."""
    person = moved(alpha, matrix, size) > 127
    beyond = moved(np.full_like(alpha, 255), matrix, size) == 0
    around = cv2.dilate(beyond.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    return bool((person & around).any())


sides = st.floats(0.1, 0.4), st.floats(0.05, 0.3), st.floats(0.6, 0.9), st.floats(0.6, 0.9)
cut = st.sets(st.sampled_from(["left", "top", "right", "bottom"]))


@settings(max_examples=60)
@given(
    box=st.tuples(*sides), cut=cut, height=st.integers(40, 200), width=st.integers(40, 200),
    size=st.tuples(st.integers(32, 160), st.integers(32, 160)), seed=st.integers(0, 10**6),
)  # fmt: skip
def test_no_cut_is_seen(box, cut, height, width, size, seed):
    left, top, right, bottom = box
    box = (
        -0.1 if "left" in cut else left, -0.1 if "top" in cut else top,
        1.1 if "right" in cut else right, 1.2 if "bottom" in cut else bottom,
    )  # fmt: skip
    alpha = blob(height, width, box)
    matrix = draw_placement(figure(alpha), size, np.random.default_rng(seed))
    assert np.isfinite(matrix).all()
    assert not shows_a_cut(alpha, matrix, size)
    assert (moved(alpha, matrix, size) > 0).any()


BUST = (0.3, 0.2, 0.7, 1.3)
WHOLE = (0.4, 0.2, 0.6, 0.9)


@pytest.mark.parametrize("box", [BUST, WHOLE])
def test_sizes_sides_and_rotations(box):
    alpha = blob(200, 300, box)
    person = figure(alpha)
    matrices = [draw_placement(person, (128, 128), np.random.default_rng(seed)) for seed in range(400)]
    heights = np.array([scale_of(matrix) * person.height / 128 for matrix in matrices])
    assert heights.min() >= HEIGHT[0] - 1e-9
    assert heights.max() <= HEIGHT[1] + 1e-9
    assert (heights < 0.7).mean() > 0.1
    assert (heights > 1.0).mean() > 0.1
    mirrored = np.array([np.linalg.det(matrix[:, :2]) < 0 for matrix in matrices])
    assert 0.4 < mirrored.mean() < 0.6
    turns = np.array([np.rad2deg(np.arctan2(matrix[1, 0], matrix[1, 1])) for matrix in matrices])
    turns = np.where(mirrored, -turns, turns)
    assert np.abs(turns).max() <= TURN + 1e-6
    assert 0.4 < (np.abs(turns) < 1e-9).mean() < 0.6


@pytest.mark.parametrize("box", [BUST, WHOLE])
def test_head_and_most_of_the_person_are_inside(box):
    alpha = blob(200, 300, box)
    face = np.zeros_like(alpha)
    top, height = (int(200 * share) for share in (box[1], box[3] - box[1]))
    face[top + height // 10 : top + int(0.35 * height), 135:165] = 255
    centres = []
    for seed in range(60):
        matrix = draw_placement(figure(alpha, face), (120, 90), np.random.default_rng(seed))
        shown = (moved(face, matrix, (120, 90)) > 0).sum() / scale_of(matrix) ** 2
        assert shown > 0.9 * (face > 0).sum()
        rows, columns = np.nonzero(alpha)
        x = matrix[0] @ [columns + 0.5, rows + 0.5, np.ones(len(rows))]
        assert ((x > 0) & (x < 120)).mean() > INSIDE - 0.03
        centres.append(x.mean())
    assert np.ptp(centres) > 60  # all over the frame


def test_a_torso_stands_on_the_lower_border_and_a_whole_person_anywhere():
    gaps: dict[str, list[int]] = {}
    for name, box in {"bust": BUST, "whole": WHOLE}.items():
        alpha, gaps[name] = blob(200, 300, box), []
        for seed in range(60):
            matrix = draw_placement(figure(alpha), (100, 100), np.random.default_rng(seed))
            gaps[name].append(100 - 1 - np.nonzero(moved(alpha, matrix, (100, 100)))[0].max())
    assert max(gaps["bust"]) == 0
    assert np.mean(np.array(gaps["whole"]) > 5) > 0.2


def test_a_portrait_that_is_nothing_but_person_covers_the_frame():
    alpha = np.full((60, 40), 255, np.uint8)
    for size in ((32, 100), (100, 32), (64, 64)):
        matrix = draw_placement(figure(alpha), size, np.random.default_rng(1))
        assert (moved(alpha, matrix, size) == 255).all()


def test_noise_of_a_matte_is_neither_a_person_nor_a_cut():
    assert Figure.of(np.full((30, 40), 10, np.uint8)) is None
    alpha = np.maximum(blob(100, 100, WHOLE), 10)
    assert figure(alpha).height == figure(blob(100, 100, WHOLE)).height
    assert not any(len(points) for points in figure(alpha).cuts)


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (2, 2)])
def test_tiny_portraits(shape):
    matrix = draw_placement(figure(np.full(shape, 255, np.uint8)), (32, 32), np.random.default_rng(0))
    assert np.isfinite(matrix).all()
