"""Choosing people: whose alpha is left, what stays with them, and what is said of those who touch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from p3m_edge.benchmarks.people import Pair, figures, measure, pairs
from p3m_edge.errors import InputError, UsageError
from p3m_edge.runtimes import Matting
from p3m_edge.runtimes.people import Who, select
from tests.artefacts import make_artefact, picture

HEIGHT, WIDTH = 240, 320


def figure(alpha: NDArray[Any], x: int, size: int, bottom: int = HEIGHT) -> None:
    """Head and shoulders of a height, above the frame's lower border, with a soft edge."""
    drawn = np.zeros_like(alpha)
    cv2.ellipse(drawn, (x, bottom), (size // 2, round(0.55 * size)), 0, 180, 360, 1.0, -1)
    cv2.circle(drawn, (x, bottom - round(0.7 * size)), round(0.28 * size), 1.0, -1)
    np.maximum(alpha, cv2.GaussianBlur(drawn, (5, 5), 0), out=alpha)


def frame(*people: tuple[int, int]) -> NDArray[np.float32]:
    alpha = np.zeros((HEIGHT, WIDTH), np.float32)
    for x, size in people:
        figure(alpha, x, size)
    return alpha


LARGE, SMALL = (90, 140), (250, 90)
BOTH = frame(LARGE, SMALL)


# --- who -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("who", "left"),
    [
        ("largest", [LARGE]),
        (1, [LARGE]),
        (2, [LARGE, SMALL]),
        (9, [LARGE, SMALL]),
        ("all", [LARGE, SMALL]),
        ((250, 200), [SMALL]),
        ([250, 200], [SMALL]),
        (np.array([90.0, 200.0]), [LARGE]),
        ((310, 10), [SMALL]),  # nobody is there: the nearest
        ((-900, 90), [LARGE]),
        ((230, 150, 40, 40), [SMALL]),
        ((100, 0, 140, 240), [LARGE]),  # it has a little of the other, too
        ((300, -50, 500, 60), [SMALL]),
        ((5000, 5000, 1, 1), [SMALL]),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_those_who_are_meant_are_left(who: Who, left: list[tuple[int, int]], dtype: Any) -> None:
    top = 255 if dtype == np.uint8 else 1
    alpha = np.rint(BOTH * 255).astype(np.uint8) if top == 255 else BOTH
    chosen = select(alpha, who)
    assert chosen.people == 2
    assert not chosen.touching
    assert chosen.alpha.dtype == dtype
    np.testing.assert_allclose(chosen.alpha / top, frame(*left), atol=0.003)
    if len(left) == 1:
        assert chosen.box is not None
        assert np.array_equal(select(alpha, chosen.box).alpha, chosen.alpha)


def test_a_box_follows_a_person_who_moves() -> None:
    box = select(frame((60, 120), (250, 130)), (60, 200)).box
    for step in range(1, 6):
        alpha = frame((60 + 8 * step, 120), (250, 130))
        assert box is not None
        chosen = select(alpha, box)
        box = chosen.box
        assert chosen.alpha[200, 60 + 8 * step] == 1
        assert chosen.alpha[200, 250] == 0


@pytest.mark.parametrize("who", ["largest", "all", 3, (5, 5), (1, 1, 9, 9)], ids=str)
@pytest.mark.parametrize("value", [0.0, 0.05])
def test_nobody_is_in_view(who: Who, value: float) -> None:
    alpha = np.full((30, 40), value, np.float32)
    chosen = select(alpha, who)
    assert (chosen.people, chosen.touching, chosen.box) == (0, False, None)
    assert chosen.alpha is alpha


def test_one_person_is_left_as_she_is() -> None:
    alpha = frame(LARGE)
    for who in ("largest", "all", 1, (0, 0)):
        assert select(alpha, who).alpha is alpha


# --- what stays with a person ----------------------------------------------------------------------------------------


def with_blob(at: tuple[int, int], radius: int, value: float = 1.0) -> NDArray[np.float32]:
    alpha = BOTH.copy()
    cv2.circle(alpha, at, radius, value, -1)
    return alpha


@pytest.mark.parametrize(
    ("at", "radius", "value"), [((26, 150), 8, 1.0), ((90, 90), 2, 0.4), ((152, 150), 7, 0.9)], ids=str
)
def test_a_hand_and_loose_hair_stay_with_the_nearest_person(at: tuple[int, int], radius: int, value: float) -> None:
    alpha = with_blob(at, radius, value)
    assert select(alpha, 2).people == 2
    assert select(alpha, "largest").alpha[at[::-1]] == np.float32(value)
    assert select(alpha, (250, 200)).alpha[at[::-1]] == 0


def test_a_small_person_far_away_is_one_of_her_own_and_a_speck_is_nobody() -> None:
    alpha = with_blob((180, 20), 14)
    assert select(alpha, "largest").people == 3
    assert select(alpha, "largest").alpha[20, 180] == 0
    assert select(alpha, 3).alpha[20, 180] == 1
    speck = with_blob((180, 20), 3)
    assert select(speck, 2).people == 2
    assert select(speck, 2).alpha[20, 180] == 0
    assert select(speck, "all").alpha is speck


def test_faint_alpha_goes_with_the_nearest_person() -> None:
    alpha = np.maximum(BOTH, 0.04).astype(np.float32)
    alpha[40, 90] = 0.04
    chosen = select(alpha, "largest").alpha
    assert chosen[100, 30] == np.float32(0.04)
    assert chosen[100, 300] == 0


# --- people who touch ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("distance", [70, 90, 110])
def test_people_who_touch_are_kept_together_and_that_is_said(distance: int) -> None:
    alpha = frame((100, 120), (100 + distance, 110))
    chosen = select(alpha, (100, 200))
    assert chosen.people == 1
    assert chosen.touching
    assert chosen.alpha is alpha


def test_a_group_that_falls_away_says_nothing() -> None:
    alpha = frame((60, 90), (120, 90), (260, 110))
    assert select(alpha, (60, 200)).touching
    assert not select(alpha, (260, 200)).touching
    assert select(alpha, "all").touching


@pytest.mark.parametrize("raised", [False, True])
def test_one_person_does_not_touch_herself(raised: bool) -> None:
    alpha = frame((160, 160))
    if raised:
        cv2.line(alpha, (230, 190), (232, 80), 1.0, 8)
    assert not select(alpha).touching


# --- composites of drawn portraits -----------------------------------------------------------------------------------


def test_of_two_drawn_people_apart_the_other_one_is_gone() -> None:
    made = {id(pair.frame): pair for pair in pairs(list(figures(None, 3)), [], 8, apart=True)}

    def perfect(image: NDArray[np.uint8]) -> NDArray[np.float32]:
        pair: Pair = made[id(image)]
        return np.maximum(pair.meant, pair.other)

    for count in measure("truth", perfect, made.values(), "apart"):
        assert (count.pictures, count.others, count.kept) == (8, 8, 8)
        assert count.told <= 1


# --- the runtime -----------------------------------------------------------------------------------------------------


def test_matting_keeps_whom_the_app_means(tmp_path: Path) -> None:
    shown = picture(120, 200)
    with Matting(make_artefact(tmp_path / "artefact"), threads=1) as matting:
        whole = matting(shown)
        assert matting.select == "all"
        assert np.array_equal(matting.selection(shown).alpha, whole)
        for who in ("largest", 1, (20, 30), (150, 20, 30, 30)):
            matting.select = who
            expected = select(whole, who)
            assert np.array_equal(matting(shown), expected.alpha)
            assert np.array_equal(matting.batch([shown])[0], expected.alpha)
            matting.submit(shown)
            assert np.array_equal(matting.collect(), expected.alpha)
            found = matting.selection(shown)
            assert (found.people, found.touching, found.box) == (expected.people, expected.touching, expected.box)
        with pytest.raises(UsageError, match="unknown choice of people"):
            matting.select = "smallest"  # type: ignore[assignment]  # that is what is tested


# --- arguments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "who",
    [
        "biggest", "", 0, -2, True, 1.5, None, (), (1,), (1, 2, 3), (1, 2, 3, 4, 5), (1, 2, 0, 4), (1, 2, 3, -1),
        (math.nan, 1), (1, math.inf), ("a", "b"), b"ab", {1, 2}, (None, 1),
    ],
    ids=repr,
)  # fmt: skip
def test_nobody_is_named_like_that(who: Any) -> None:
    with pytest.raises(UsageError):
        select(BOTH, who)


@pytest.mark.parametrize(
    "alpha",
    [
        None, [[0.5]], np.zeros((0, 4), np.float32), np.zeros((4, 4, 1), np.uint8), np.zeros((4, 4), np.int32),
        *(np.full((3, 3), value, np.float32) for value in (math.nan, 1.2, -0.1)),
    ],
)  # fmt: skip
def test_what_is_no_alpha_is_refused(alpha: Any) -> None:
    with pytest.raises(InputError):
        select(alpha)


@settings(max_examples=60)
@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)), st.integers(0, 2**32 - 1),
    st.sampled_from(["largest", "all", 2, (3.5, 4), (-4, 2, 9, 99)]),
)  # fmt: skip
def test_a_selection_of_anything_is_part_of_it(shape: tuple[int, int], seed: int, who: Who) -> None:
    random = np.random.default_rng(seed)
    alpha = np.where(random.random(shape) < 0.6, 0, random.random(shape)).astype(np.float32)
    before = alpha.copy()
    chosen = select(alpha, who)
    assert np.array_equal(alpha, before)
    assert ((chosen.alpha == alpha) | (chosen.alpha == 0)).all()
    if chosen.box is not None:
        x, y, width, height = chosen.box
        assert min(x, y) >= 0
        assert min(width, height) > 0
        assert x + width <= shape[1]
        assert y + height <= shape[0]


def test_views_and_wide_frames() -> None:
    wide = np.zeros((20, 3000), np.float64)
    wide[:, 100:500] = wide[:, 2000:2200] = 1
    chosen = select(wide[:, ::-1])
    assert chosen.alpha.dtype == np.float32
    assert chosen.box == pytest.approx((2500, 0, 400, 20), abs=7)
    assert chosen.alpha.sum() == pytest.approx(400 * 20)


def test_matting_refuses_such_names_before_it_loads_anything(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="chosen by a point or box"):
        Matting(tmp_path / "nowhere", select=(1, 2, 3))  # type: ignore[arg-type]  # that is what is tested
