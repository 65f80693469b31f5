"""Compositing, on pictures put together from a known foreground, background and alpha."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from p3m_edge.errors import InputError, UsageError
from p3m_edge.runtimes import compose
from p3m_edge.runtimes.fusion import scaled_rows

DTYPES = [np.uint8, np.uint16]


def smooth(height: int, width: int, seed: int, cells: int = 5) -> NDArray[np.float32]:
    """Colours in 0..1 that change slowly, as a subject's do."""
    coarse = np.random.default_rng(seed).random((cells, cells, 3), dtype=np.float32)
    colours: NDArray[np.float32] = np.clip(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), 0, 1)
    return colours


def hairy_alpha(height: int, width: int, seed: int) -> NDArray[np.float32]:
    """A disc with a soft edge and strands around it."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    distance = np.hypot(x - width / 2, y - height / 2)
    disc = np.clip((0.3 * min(height, width) - distance) / 12 + 0.5, 0, 1)
    strands = cv2.GaussianBlur(np.random.default_rng(seed).random((height, width), dtype=np.float32), (0, 0), 1.2)
    reach = np.clip((0.42 * min(height, width) - distance) / 30, 0, 1)
    alpha: NDArray[np.float32] = np.maximum(disc, np.clip((strands - 0.52) * 8, 0, 1) * reach)
    return alpha


class Scene:
    """``I = a F + (1 - a) B`` with everything known."""

    def __init__(self, seed: int, dtype: Any, height: int = 260, width: int = 300) -> None:
        self.top = int(np.iinfo(dtype).max)
        self.alpha = hairy_alpha(height, width, seed)
        self.front = smooth(height, width, seed + 1)
        self.behind = smooth(height, width, seed + 2, cells=12)
        share = self.alpha[..., None]
        self.frame = np.rint((self.front * share + self.behind * (1 - share)) * self.top).astype(dtype)
        self.soft = (self.alpha > 0.02) & (self.alpha < 0.98)

    def error(self, picture: NDArray[Any], truth: NDArray[np.float32], weights: NDArray[np.float32]) -> float:
        difference = np.abs(picture[..., :3] / self.top - truth).mean(axis=-1)
        return float((difference * weights)[self.soft].mean())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(3))
def test_foreground_colours_are_recovered_in_soft_edges(seed, dtype):
    scene = Scene(seed, dtype)
    estimate = compose.foreground(scene.frame, scene.alpha)
    assert estimate.dtype == dtype
    naive = scene.error(scene.frame, scene.front, scene.alpha)
    assert naive > 0.03  # the scene has something to recover
    assert scene.error(estimate, scene.front, scene.alpha) < naive / 2


@pytest.mark.parametrize("seed", range(3))
def test_a_cutout_brings_no_halo_to_a_new_background(seed):
    scene = Scene(seed, np.uint8)
    rgba = compose.cutout(scene.frame, scene.alpha)
    new = smooth(260, 300, seed + 9)
    share = rgba[..., 3:] / 255
    pasted = rgba[..., :3] * share + new * 255 * (1 - share)
    truth = scene.front * scene.alpha[..., None] + new * (1 - scene.alpha[..., None])
    new8 = np.rint(new * 255).astype(np.uint8)
    naive = compose.composite(scene.frame, scene.alpha, new8, foreground=scene.frame)
    everywhere = np.ones_like(scene.alpha)
    assert scene.error(pasted, truth, everywhere) < scene.error(naive, truth, everywhere) / 2
    estimated = compose.composite(scene.frame, scene.alpha, new8)
    assert np.abs(estimated - pasted).max() < 2
    colours = np.ascontiguousarray(rgba[..., :3])
    assert np.array_equal(compose.composite(scene.frame, scene.alpha, new8, foreground=colours), estimated)


@pytest.mark.parametrize("dtype", DTYPES)
def test_uniform_colours_are_recovered_everywhere(dtype):
    """Any deviation at the tiles' borders or at the frame's would show."""
    top = int(np.iinfo(dtype).max)
    alpha = hairy_alpha(300, 280, 0)
    front, behind = np.array([0.9, 0.2, 0.1]) * top, np.array([0.1, 0.3, 0.8]) * top
    frame = np.rint(front * alpha[..., None] + behind * (1 - alpha[..., None])).astype(dtype)
    estimate = compose.foreground(frame, alpha)
    assert (np.abs(estimate - front)[alpha > 0.1] / top).max() < 0.02
    assert (np.abs(estimate - front)[alpha > 0] / top).mean() < 0.01


def test_transparent_pixels_continue_the_subject_and_hide_the_background():
    scene = Scene(4, np.uint8)
    red = np.where(scene.alpha[..., None] > 0, scene.alpha[..., None] * np.array([250.0, 10, 10]), 0)
    secret = np.random.default_rng(0).integers(0, 256, (*scene.alpha.shape, 3)) * (1 - scene.alpha[..., None])
    rgba = compose.cutout(np.rint(red + secret).astype(np.uint8), scene.alpha)
    outside = rgba[..., :3][scene.alpha == 0].astype(float)
    background = secret[scene.alpha == 0]
    assert outside[:, 0].mean() > 200
    for channel in range(3):
        assert abs(np.corrcoef(outside[:, channel], background[:, channel])[0, 1]) < 0.05


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_alpha_of_a_cutout(dtype):
    scene = Scene(0, dtype)
    rgba = compose.cutout(scene.frame, scene.alpha)
    assert rgba.dtype == dtype
    assert rgba.shape == (*scene.alpha.shape, 4)
    assert np.array_equal(rgba[..., 3], np.rint(scene.alpha * np.float32(scene.top)).astype(dtype))
    assert np.array_equal(rgba[..., :3], compose.foreground(scene.frame, scene.alpha))


@pytest.mark.parametrize(
    ("source", "size"), [((40, 30), (80, 60)), ((41, 33), (81, 65)), ((80, 61), (40, 31)), ((1, 1), (9, 7))]
)
def test_strips_are_parts_of_the_whole(source, size):
    picture = np.random.default_rng(0).random((*source, 3), dtype=np.float32) * 255
    whole = cv2.resize(picture, size[::-1], interpolation=cv2.INTER_LINEAR)
    for first in range(0, size[0], 7):
        rows = slice(first, min(first + 7, size[0]))
        part = scaled_rows(picture, size[0], size[1], rows)
        np.testing.assert_allclose(part, whole[rows], atol=1e-3)


shapes = st.tuples(st.integers(1, 40), st.integers(1, 40))


@settings(max_examples=100)
@given(shapes, st.integers(0, 2**32 - 1), st.sampled_from(DTYPES))
def test_opaque_and_transparent_pixels_are_exact(shape, seed, dtype):
    random = np.random.default_rng(seed)
    frame, behind = (random.integers(0, np.iinfo(dtype).max + 1, (*shape, 3), dtype=dtype) for _ in range(2))
    alpha = np.clip(random.random(shape, dtype=np.float32) * 3 - 1, 0, 1)
    opaque, transparent = alpha == 1, alpha == 0
    assert np.array_equal(compose.foreground(frame, alpha)[opaque], frame[opaque])
    assert np.array_equal(compose.cutout(frame, alpha)[opaque][:, :3], frame[opaque])
    assert np.array_equal(compose.blur_background(frame, alpha)[opaque], frame[opaque])
    for foreground in (None, frame):
        picture = compose.composite(frame, alpha, behind, foreground=foreground)
        assert picture.dtype == dtype
        assert np.array_equal(picture[opaque], frame[opaque])
        assert np.array_equal(picture[transparent], behind[transparent])
    for value, expected in ((1, frame), (0, behind)):
        assert np.array_equal(compose.composite(frame, np.full(shape, value, np.float32), behind), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_half_transparent_pixels_are_mixed(dtype):
    one = int(np.iinfo(dtype).max) // 255
    frame, alpha = np.full((3, 4, 3), 200 * one, dtype), np.full((3, 4), 0.25, np.float32)
    picture = compose.composite(frame, alpha, (100, 0, 40), foreground=frame)
    assert np.abs(picture[1, 1].astype(int) - np.array([125, 50, 80]) * one).max() <= 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_8_bit_alpha_is_that_alpha(dtype):
    scene = Scene(1, dtype)
    alpha8 = np.rint(scene.alpha * 255).astype(np.uint8)
    as_float = alpha8.astype(np.float32) / np.float32(255)
    assert np.array_equal(compose.cutout(scene.frame, alpha8), compose.cutout(scene.frame, as_float))
    eight, exact = (compose.composite(scene.frame, alpha, (1, 2, 3)).astype(int) for alpha in (alpha8, as_float))
    assert np.abs(eight - exact).max() <= (dtype == np.uint8)


# --- backgrounds -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("colour", [(12, 200, 255), [12, 200, 255], np.array([12, 200, 255])], ids=repr)
def test_a_colour_has_8_bits_at_any_depth(dtype, colour):
    frame = np.zeros((4, 5, 3), dtype)
    picture = compose.composite(frame, np.zeros((4, 5), np.float32), colour)
    assert (picture == np.array([12, 200, 255]) * (int(np.iinfo(dtype).max) // 255)).all()


@pytest.mark.parametrize("size", [(50, 100), (200, 100), (100, 800), (33, 17), (1, 1)])
@pytest.mark.parametrize("frame_size", [(60, 60), (40, 90), (90, 41)])
def test_a_picture_covers_the_frame_keeps_its_aspect_and_its_centre(size, frame_size):
    (h, w), (height, width) = size, frame_size
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    ramps = np.stack([np.full_like(x, 99), (x + 0.5) / w * 255, (y + 0.5) / h * 255], axis=-1).astype(np.uint8)
    transparent = np.zeros(frame_size, np.float32)
    picture = compose.composite(np.zeros((*frame_size, 3), np.uint8), transparent, ramps).astype(float)
    assert (picture[..., 0] == 99).all()
    if min(size) == 1:
        return
    scale = max(height / h, width / w)
    for axis, length, shown in ((1, w, width), (2, h, height)):
        along = picture[..., axis].mean(axis=axis - 1)
        assert along.mean() == pytest.approx(127.5, abs=255 / length + 2)  # centred
        span = 255 * shown / (length * scale)  # how much of the picture is seen
        assert along.max() - along.min() == pytest.approx(span * (1 - 1 / shown), abs=2 * 255 / length + 2)


def test_a_background_of_another_depth():
    deep = np.random.default_rng(0).integers(0, 65536, (6, 7, 3), dtype=np.uint16)
    shallow = (deep // 257).astype(np.uint8)
    clear = np.zeros((6, 7), np.float32)
    assert np.array_equal(compose.composite(deep, clear, shallow), shallow.astype(np.uint16) * 257)
    assert np.array_equal(compose.composite(shallow, clear, deep), np.rint(deep / 257).astype(np.uint8))


# --- blur ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("strength", [0.02, 0.1, 0.5, 1.0])
def test_the_subject_does_not_bleed_into_the_blurred_background(strength, dtype):
    top = int(np.iinfo(dtype).max)
    alpha = hairy_alpha(240, 320, 3)
    red, blue = np.array([top, 0, 0]), np.array([0, 0, top])
    frame = np.rint(red * alpha[..., None] + blue * (1 - alpha[..., None])).astype(dtype)
    blurred = compose.blur_background(frame, alpha, strength)
    clear = alpha == 0
    glow = float(blurred[..., 0][clear].max()) / top
    assert glow < 0.07  # 1/16 of subject may be in a pixel that counts as background
    plain = cv2.GaussianBlur(frame, (0, 0), max(0.5, strength * 320 / 20))
    if strength >= 0.1:
        assert float(plain[..., 0][clear].max()) / top > 0.2
    exact = np.where(alpha > 0.5, 1, 0).astype(np.float32)
    hard = np.where(exact[..., None] == 1, red, blue).astype(dtype)
    assert np.array_equal(compose.blur_background(hard, exact, strength), hard)


def test_the_background_is_blurred_the_more_the_stronger():
    scene = Scene(5, np.uint8)
    frame = np.where(
        scene.alpha[..., None] > 0, scene.frame, np.random.default_rng(0).integers(0, 256, scene.frame.shape)
    )
    frame = frame.astype(np.uint8)
    clear = scene.alpha == 0
    detail = [compose.blur_background(frame, scene.alpha, s)[clear].std() for s in (0, 0.05, 0.2, 1)]
    assert detail == sorted(detail, reverse=True)
    assert detail[-1] < detail[0] / 5
    untouched = compose.blur_background(frame, scene.alpha, 0)
    assert np.array_equal(untouched, frame)
    assert not np.shares_memory(untouched, frame)


def test_a_blur_does_not_depend_on_the_resolution():
    large = smooth(400, 600, 1, cells=14)
    large8 = np.rint(large * 255).astype(np.uint8)
    small8 = np.asarray(cv2.resize(large8, (300, 200), interpolation=cv2.INTER_AREA), np.uint8)
    blurred = compose.blur_background(large8, np.zeros((400, 600), np.float32), 0.6)
    reference = compose.blur_background(small8, np.zeros((200, 300), np.float32), 0.6)
    shrunk = cv2.resize(blurred, (300, 200), interpolation=cv2.INTER_AREA)
    assert np.abs(shrunk.astype(int) - reference).max() <= 4
    assert np.abs(small8.astype(int) - reference).max() > 30


@pytest.mark.parametrize("value", [0.5, 1.0])
def test_a_picture_without_pure_background_is_blurred_all_the_same(value):
    frame = np.full((30, 40, 3), 77, np.uint8)
    assert np.array_equal(compose.blur_background(frame, np.full((30, 40), value, np.float32), 1), frame)


# --- arguments -------------------------------------------------------------------------------------------------------


def test_views_work_and_nothing_is_written_to():
    scene = Scene(2, np.uint8, 120, 130)
    frame, alpha = scene.frame[::-1, ::2], scene.alpha[::-1, ::2]
    behind = np.random.default_rng(1).integers(0, 256, (60, 240, 3), dtype=np.uint8)[::-1, ::-1]
    before = frame.copy(), alpha.copy(), behind.copy()
    contiguous = [np.ascontiguousarray(array) for array in (frame, alpha, behind)]
    for arrays in ((frame, alpha, behind), contiguous):
        for array in arrays:
            array.flags.writeable = False
    for foreground in (None, frame):
        from_views = compose.composite(frame, alpha, behind, foreground=foreground)
        assert np.array_equal(from_views, compose.composite(*contiguous, foreground=foreground))
    for use in (compose.blur_background, compose.cutout):
        assert np.array_equal(use(frame, alpha), use(contiguous[0], contiguous[1]))
    for array, copy in zip((frame, alpha, behind), before, strict=True):
        assert np.array_equal(array, copy)


def test_half_and_double_precision_alpha():
    scene = Scene(2, np.uint8, 60, 50)
    halved, doubled = scene.alpha.astype(np.float16), scene.alpha.astype(np.float64)
    for alpha in (halved, doubled):
        expected = compose.cutout(scene.frame, alpha.astype(np.float32))
        assert np.array_equal(compose.cutout(scene.frame, alpha), expected)


FRAME, ALPHA = np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5), np.float32)


@pytest.mark.parametrize(
    ("frame", "alpha"),
    [
        (None, ALPHA),
        (np.zeros((4, 5), np.uint8), ALPHA),
        (np.zeros((4, 5, 4), np.uint8), ALPHA),
        (np.zeros((0, 5, 3), np.uint8), np.zeros((0, 5), np.float32)),
        (np.zeros((4, 5, 3), np.float32), ALPHA),
        (FRAME, None),
        (FRAME, ALPHA.T),
        (FRAME, ALPHA[..., None]),
        (FRAME, np.zeros((4, 5), np.int32)),
        (FRAME, np.zeros((4, 5), bool)),
        (FRAME, ALPHA + 1.01),
        (FRAME, ALPHA - 0.01),
        (FRAME, ALPHA * np.nan),
    ],
)
def test_bad_frames_and_alphas(frame: Any, alpha: Any):
    for use in (compose.cutout, compose.foreground, compose.blur_background):
        with pytest.raises(InputError):
            use(frame, alpha)
    with pytest.raises(InputError):
        compose.composite(frame, alpha, (0, 0, 0))


@pytest.mark.parametrize(
    "background",
    [
        *((0, 0), (0, 0, 256), (-1, 0, 0), (0.5, 0.5, 0.5), "green", None),
        *(np.zeros((4, 5), np.uint8), np.zeros((4, 5, 4), np.uint8)),
        *(np.zeros((0, 5, 3), np.uint8), np.zeros((4, 5, 3), np.float32)),
    ],
    ids=repr,
)
def test_bad_backgrounds(background: Any):
    with pytest.raises(InputError, match="background"):
        compose.composite(FRAME, ALPHA, background)


@pytest.mark.parametrize(
    ("background", "told"),
    [
        (np.random.default_rng(0).integers(0, 256, (480, 640), np.uint8), r"not a grey picture, uint8 \[480, 640\]$"),
        (np.zeros((4, 5), np.float64), r"not a grey picture, float64 \[4, 5\]$"),
        (np.zeros(1000), r"not float64 \[1000\]$"),
        (np.array([1, 2, 300]), r"not array\(\[ *1, *2, *300\]\) \(ndarray\)$"),
        ([[1, 2], [3]], r"not \[\[1, 2\], \[3\]\] \(list\)$"),
        (list(range(1000)), r"not .{1,60} \(list\)$"),
        ("a\nb", r"not 'a\\nb'$"),
        ({"a": 1}, r"not \{'a': 1\} \(dict\)$"),
    ],
    ids=lambda value: "" if isinstance(value, str) else type(value).__name__,
)
def test_a_background_that_is_none_is_one_clear_line(background: Any, told: str):
    with pytest.raises(InputError, match=told) as caught:
        compose.composite(FRAME, ALPHA, background)
    assert "\n" not in str(caught.value)
    assert (caught.value.hint is not None) == ("grey" in told)


@pytest.mark.parametrize("foreground", [np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5, 3), np.uint16)])
def test_bad_foregrounds(foreground):
    with pytest.raises(InputError, match="foreground"):
        compose.composite(FRAME, ALPHA, (0, 0, 0), foreground=foreground)


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_bad_strengths(strength):
    with pytest.raises(UsageError, match="strength"):
        compose.blur_background(FRAME, ALPHA, strength)
