"""Frames to the network's input and back: geometry, colour order, dtypes, views and bad frames."""

from __future__ import annotations

from typing import Any, Literal

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from p3m_edge.errors import InputError, UsageError
from p3m_edge.preprocess import PADDING_RGB, Geometry, fit, from_network, scale_to, to_network

MODES: tuple[Literal["stretch", "letterbox"], ...] = ("stretch", "letterbox")
sizes = st.integers(1, 300)


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def photo(height: int, width: int) -> NDArray[np.uint8]:
    """Smooth colours, so that resizing loses little."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    channels = [127 + 100 * np.sin(y / 37), 127 + 100 * np.cos(x / 53), 127 + 100 * np.sin((x + y) / 61)]
    return np.stack(channels, axis=-1).astype(np.uint8)


@settings(max_examples=150)
@given(sizes, sizes, sizes, sizes, st.sampled_from(MODES), st.integers(0, 255))
def test_a_constant_stays_constant_there_and_back(h, w, height, width, mode, value):
    image, geometry = to_network(np.full((h, w, 3), value, np.uint8), height, width, mode)
    assert image.shape == (height, width, 3)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    rows = slice(geometry.top, geometry.top + geometry.content_height)
    columns = slice(geometry.left, geometry.left + geometry.content_width)
    assert (image[rows, columns] == value).all()
    outside = np.ones((height, width), dtype=bool)
    outside[rows, columns] = False
    assert (image[outside] == PADDING_RGB).all()

    alpha = np.full((height, width), value / 255, np.float32)
    alpha[outside] = 1 - value / 255  # the padding must not come back
    back = from_network(alpha, geometry)
    assert back.shape == (h, w)
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, value / 255, atol=1e-6)
    back8 = from_network(alpha, geometry, np.uint8)
    assert back8.dtype == np.uint8
    assert (back8 == value).all()


@settings(max_examples=150)
@given(sizes, sizes, sizes, sizes)
def test_letterbox_keeps_the_aspect_centres_and_touches_two_edges(h, w, height, width):
    g = fit(h, w, height, width, "letterbox")
    assert g.content_height == height or g.content_width == width
    scale = min(height / h, width / w)
    assert abs(g.content_height - max(1, h * scale)) <= 0.5 + 1e-9
    assert abs(g.content_width - max(1, w * scale)) <= 0.5 + 1e-9
    bottom, right = height - g.top - g.content_height, width - g.left - g.content_width
    assert 0 <= bottom - g.top <= 1
    assert 0 <= right - g.left <= 1


@settings(max_examples=60)
@given(sizes, sizes, sizes, sizes, st.sampled_from(MODES), st.integers(0, 2**32 - 1))
def test_the_alpha_never_leaves_its_range(h, w, height, width, mode, seed):
    alpha = np.random.default_rng(seed).choice(np.array([0, 1e-7, 0.5, 1], np.float32), (height, width))
    back = from_network(alpha, fit(h, w, height, width, mode))
    assert back.min() >= 0
    assert back.max() <= 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("frame_size", [(720, 1280), (1280, 720), (200, 90), (1080, 1920), (513, 511)])
def test_positions_survive_the_round_trip(mode, frame_size):
    """A disc keeps its place: a shift of half a network pixel would show in its centroid."""
    h, w = frame_size
    centre, radius = (w * 0.63, h * 0.31), min(h, w) / 5
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    disc = np.clip(radius - np.hypot(x - centre[0], y - centre[1]) + 0.5, 0, 1)
    frame = np.repeat((disc * 255).astype(np.uint8)[..., None], 3, axis=2)
    image, geometry = to_network(frame, 256, 256, mode)
    back = from_network(image[..., 0].astype(np.float32) / 255, geometry)
    pixel = max(h / geometry.content_height, w / geometry.content_width)
    assert abs((back * x).sum() / back.sum() - (disc * x).sum() / disc.sum()) < 0.05 * pixel
    assert abs((back * y).sum() / back.sum() - (disc * y).sum() / disc.sum()) < 0.05 * pixel
    assert np.abs(back - disc).mean() < 0.01


def test_shrinking_averages_and_does_not_skip_pixels():
    """A single bilinear pass over a fine chessboard shrunk five times would alias to black and white."""
    frame = np.zeros((640, 1280, 3), np.uint8)
    frame[::2, 1::2] = frame[1::2, ::2] = 255
    image, _ = to_network(frame, 128, 256)
    assert abs(image.astype(int) - 127).max() <= 3


def test_shrinking_is_close_to_the_area_filter():
    frame = photo(1080, 1920)
    area = cv2.resize(frame, (512, 512), interpolation=cv2.INTER_AREA)
    assert np.abs(to_network(frame, 512, 512)[0].astype(int) - area).max() <= 2


def test_no_copy_when_the_frame_is_the_network_input_already():
    frame = noise(64, 96)
    image, _ = to_network(frame, 64, 96)
    assert np.shares_memory(image, frame)
    assert np.array_equal(image, frame)
    assert np.array_equal(to_network(frame, 64, 96, "letterbox")[0], frame)


@pytest.mark.parametrize("size", [(64, 96), (50, 70), (200, 31)])
@pytest.mark.parametrize("mode", MODES)
def test_bgr_is_the_same_picture_with_swapped_channels(size, mode):
    frame = noise(*size)
    rgb, geometry = to_network(frame, 64, 96, mode)
    bgr, bgr_geometry = to_network(np.ascontiguousarray(frame[..., ::-1]), 64, 96, mode, "BGR")
    assert np.array_equal(rgb, bgr)
    assert geometry == bgr_geometry


def views(big: NDArray[Any]) -> dict[str, NDArray[Any]]:
    read_only = big.copy()
    read_only.flags.writeable = False
    return {
        "crop": big[3:57, 5:71],
        "every second": big[::2, ::2],
        "transposed": big.transpose(1, 0, 2),
        "channels last view": np.ascontiguousarray(big.transpose(2, 0, 1)).transpose(1, 2, 0),
        "four channels": np.dstack([big, big[..., 0]])[..., :3],
        "upside down": big[::-1],
        "mirrored": big[:, ::-1],
        "rotated": big[::-1, ::-1],
        "mirrored BGR": big[:, ::-1, ::-1],
        "swapped": big[..., ::-1],
        "all": big[::-2, ::-3, ::-1],
        "broadcast": np.broadcast_to(big[:1, :1], (40, 50, 3)),
        "fortran": np.asfortranarray(big),
        "read-only": read_only,
    }


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("name", views(noise(2, 2)))
def test_views_give_what_their_contiguous_copy_gives(name, dtype):
    big = noise(80, 100) if dtype == np.uint8 else (noise(80, 100) / 255).astype(dtype)
    view = views(big)[name]
    before = view.copy()
    for height, width in ((32, 32), view.shape[:2], (160, 128)):
        for mode in MODES:
            expected, _ = to_network(np.ascontiguousarray(view), height, width, mode)
            assert np.array_equal(to_network(view, height, width, mode)[0], expected)
            swapped, _ = to_network(view, height, width, mode, "BGR")
            middle = height // 2, width // 2
            assert np.array_equal(swapped[middle], expected[middle][::-1])
    assert np.array_equal(view, before)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble, ">f4"])
def test_a_float_frame_gives_what_its_8_bit_twin_gives(dtype):
    frame = noise(120, 70)
    image, _ = to_network((frame / 255).astype(dtype), 64, 96)
    assert np.array_equal(image, to_network(frame, 64, 96)[0])


def test_a_float_frame_may_leave_the_range_by_rounding_only():
    frame = np.array([[[-1e-6, 0.5, 1.000001]]], np.float32)
    assert to_network(frame, 1, 1)[0].tolist() == [[[0, 128, 255]]]


@pytest.mark.parametrize("size", [(1, 1), (1, 40000), (6000, 8000)])
@pytest.mark.parametrize("mode", MODES)
def test_tiny_and_huge_frames(size, mode):
    image, geometry = to_network(np.full((*size, 3), 99, np.uint8), 64, 96, mode)
    assert image.shape == (64, 96, 3)
    alpha = from_network(np.full((64, 96), 0.25, np.float32), geometry, np.uint8)
    assert alpha.shape == size
    assert alpha.min() == alpha.max() == 64


BAD_FRAMES: dict[str, tuple[Any, str]] = {
    "list": ([[[0, 0, 0]]], "NumPy array"),
    "none": (None, "NumPy array"),
    "grey": (np.zeros((4, 4), np.uint8), r"\[H, W, 3\]"),
    "batch": (np.zeros((1, 4, 4, 3), np.uint8), r"\[H, W, 3\]"),
    "channels first": (np.zeros((3, 4, 4), np.uint8), r"\[H, W, 3\]"),
    "rgba": (np.zeros((4, 4, 4), np.uint8), r"\[H, W, 3\]"),
    "no rows": (np.zeros((0, 4, 3), np.uint8), "empty"),
    "no columns": (np.zeros((4, 0, 3), np.float32), "empty"),
    "int64": (np.zeros((4, 4, 3), np.int64), "int64"),
    "uint16": (np.zeros((4, 4, 3), np.uint16), "uint16"),
    "bool": (np.zeros((4, 4, 3), bool), "bool"),
    "object": (np.zeros((4, 4, 3), object), "object"),
    "complex": (np.zeros((4, 4, 3), complex), "complex"),
    "nan": (np.full((4, 4, 3), np.nan, np.float32), "NaN"),
    "one nan": (np.where(np.arange(48).reshape(4, 4, 3) == 30, np.nan, 0.5), "NaN"),
    "inf": (np.full((4, 4, 3), np.inf), "infinity"),
    "0..255 float": (np.full((4, 4, 3), 255.0, np.float32), "0..1"),
    "normalised float": (np.full((4, 4, 3), -0.1, np.float32), "0..1"),
}


@pytest.mark.parametrize("name", BAD_FRAMES)
def test_bad_frames_are_input_errors(name):
    frame, message = BAD_FRAMES[name]
    with pytest.raises(InputError, match=message) as caught:
        to_network(frame, 32, 32)
    assert "\n" not in str(caught.value)


def test_unknown_names_and_sizes_are_usage_errors():
    frame = noise(4, 4)
    with pytest.raises(UsageError, match="fill") as unknown:
        to_network(frame, 32, 32, "fill")  # type: ignore[arg-type]  # that is what is tested
    assert unknown.value.hint == "choose from: letterbox, stretch"
    with pytest.raises(UsageError, match="strech") as typo:
        to_network(frame, 32, 32, "strech")  # type: ignore[arg-type]  # that is what is tested
    assert typo.value.hint == "did you mean 'stretch'?"
    with pytest.raises(UsageError, match="GBR"):
        to_network(frame, 32, 32, colour="GBR")  # type: ignore[arg-type]  # that is what is tested
    for size in ((0, 32), (32, -1)):
        with pytest.raises(UsageError, match="positive"):
            to_network(frame, *size)


GEOMETRY = fit(40, 60, 32, 64)


def test_alpha_is_clipped_to_its_range():
    alpha = np.zeros((32, 64), np.float32)
    alpha[:16], alpha[16:] = -0.25, 1.5
    back = from_network(alpha, GEOMETRY)
    assert (back[:19] == 0).all()
    assert (back[21:] == 1).all()
    assert alpha[0, 0] == -0.25


def test_half_precision_alpha():
    alpha = np.linspace(0, 1, 32 * 64).reshape(32, 64)
    back = from_network(alpha.astype(np.float16), GEOMETRY)
    np.testing.assert_allclose(back, from_network(alpha.astype(np.float32), GEOMETRY), atol=1e-3)


@pytest.mark.parametrize("geometry", [GEOMETRY, fit(32, 64, 32, 64), fit(16, 64, 32, 64, "letterbox")])
def test_the_alpha_is_memory_of_its_own(geometry):
    alpha = np.full((32, 64), 0.5, np.float32)
    assert not np.shares_memory(from_network(alpha, geometry), alpha)


def test_the_8_bit_alpha_is_the_rounded_float_alpha():
    alpha = np.random.default_rng(0).random((32, 64), dtype=np.float32)
    exact = from_network(alpha, GEOMETRY) * 255
    assert np.abs(from_network(alpha, GEOMETRY, np.uint8) - exact).max() <= 0.5 + 1e-4


@pytest.mark.parametrize(
    ("alpha", "message"),
    [
        (np.zeros((32, 63), np.float32), "not"),
        (np.zeros((1, 1, 32, 64), np.float32), "not"),
        (np.zeros((32, 64), np.uint8), "float"),
        (np.full((32, 64), np.nan, np.float32), "NaN"),
        (np.full((32, 64), np.inf, np.float32), "infinity"),
    ],
)
def test_bad_alphas_are_input_errors(alpha, message):
    with pytest.raises(InputError, match=message):
        from_network(alpha, GEOMETRY)


def test_the_alpha_is_float32_or_uint8():
    with pytest.raises(UsageError, match="uint16"):
        from_network(np.zeros((32, 64), np.float32), GEOMETRY, np.uint16)  # type: ignore[arg-type]  # that is what is tested


@settings(max_examples=60)
@given(sizes, sizes, sizes, sizes, st.sampled_from([np.uint8, np.uint16, np.float32]), st.sampled_from([1, 3, 4]))
def test_scale_to_keeps_dtype_channels_and_range(h, w, height, width, dtype, channels):
    shape = (h, w) if channels == 1 else (h, w, channels)
    picture = (np.random.default_rng(h * w).random(shape) * 250).astype(dtype)
    scaled = scale_to(picture, height, width)
    assert scaled.shape == (height, width, *shape[2:])
    assert scaled.dtype == dtype
    rounding = 1e-4 if dtype is np.float32 else 0  # the two weights of a mean are rounded by themselves
    assert picture.min() <= scaled.min() + rounding
    assert scaled.max() <= picture.max() + rounding


def test_a_geometry_is_a_value():
    assert fit(40, 60, 32, 64) == Geometry(40, 60, 32, 64, 0, 0, 32, 64)
