"""Colour profiles: what a network gets is sRGB, and a file's own values stay what they are."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from p3m_edge.imageio import Picture, convert, read_image, read_mask, write_png
from p3m_edge.imageio.colour import srgb
from tests import icc

PROFILES = {"Display P3": icc.P3, "Adobe RGB": icc.ADOBE}


def colours(height: int = 40, width: int = 60, dtype: Any = np.uint8) -> NDArray[Any]:
    coarse = np.random.default_rng(3).random((5, 6, 3))
    smooth = np.clip(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR), 0, 1)
    pixels: NDArray[Any] = np.rint(smooth * np.iinfo(dtype).max).astype(dtype)
    return pixels


def read(tmp_path: Path, image: Image.Image, kind: str, **options: Any) -> Picture:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    (tmp_path / "picture.bin").write_bytes(stream.getvalue())
    return read_image(tmp_path / "picture.bin")


def far(left: NDArray[Any], right: NDArray[Any]) -> float:
    return float(np.abs(left.astype(np.float64) - right).max())


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("TIFF", {}), ("JPEG", {"quality": 95}), ("WEBP", {})])
def test_the_network_gets_srgb_and_results_the_files_own_values(tmp_path, name, kind, options):
    profile = icc.rgb_profile(PROFILES[name])
    picture = read(tmp_path, Image.fromarray(colours()), kind, icc_profile=profile, **options)
    with Image.open(tmp_path / "picture.bin") as image:
        stored = np.asarray(image)
    assert np.array_equal(picture.own, stored)
    assert picture.icc_profile == profile
    expected = icc.to_srgb(stored / 255, PROFILES[name]) * 255
    assert far(picture.rgb, expected) <= 3
    assert far(picture.rgb, stored) > 20
    assert picture.remarks == ()


def test_16_bits_keep_their_values(tmp_path):
    pixels, profile = colours(dtype=np.uint16), icc.rgb_profile(icc.P3)
    write_png(tmp_path / "deep.png", pixels, icc_profile=profile)
    picture = read_image(tmp_path / "deep.png")
    assert np.array_equal(picture.own, pixels)
    assert picture.own.dtype == np.uint16
    assert picture.icc_profile == profile
    assert far(picture.rgb, icc.to_srgb(np.rint(pixels / 257) / 255, icc.P3) * 255) <= 3


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG"])
def test_grey_with_a_profile_becomes_srgb(tmp_path, kind):
    ramp = np.tile(np.arange(256, dtype=np.uint8), (16, 1))
    picture = read(tmp_path, Image.fromarray(ramp), kind, icc_profile=icc.grey_profile(1.0))
    with Image.open(tmp_path / "picture.bin") as image:
        expected = icc.encoded(np.asarray(image) / 255) * 255
    assert far(picture.rgb, np.dstack([expected] * 3)) <= 2
    assert np.array_equal(picture.own, picture.rgb)
    assert picture.icc_profile == srgb()


def test_16_bit_grey_with_a_profile(tmp_path):
    deep = np.linspace(0, 65535, 4096).astype(np.uint16).reshape(64, 64)
    picture = read(tmp_path, Image.fromarray(deep), "PNG", icc_profile=icc.grey_profile(1.0))
    assert picture.own.dtype == np.uint16
    assert far(picture.own[..., 0] / 257, icc.encoded(deep / 65535) * 255) <= 2
    assert len(np.unique(picture.own)) > 4000


def test_grey_in_an_rgb_space(tmp_path):
    profile = icc.rgb_profile(icc.P3, 1.0)
    picture = read(tmp_path, Image.fromarray(colours()[..., 0]), "PNG", icc_profile=profile)
    assert far(picture.rgb, icc.encoded(colours()[..., :1] / 255) * 255) <= 2
    assert picture.icc_profile == profile


def test_cmyk_as_its_profile_means_it(tmp_path):
    paper = [(255, 128, 128)] + [(200, 128, 170)] * 15  # with any ink yellowish
    ink = np.zeros((16, 16, 4), np.uint8)
    ink[:, 8:, 3] = 255
    for kind in ("TIFF", "JPEG"):
        picture = read(tmp_path, Image.fromarray(ink, "CMYK"), kind, icc_profile=icc.table_profile(b"CMYK", 4, paper))
        red, green, blue = (int(value) for value in picture.rgb[8, 13])
        assert red > green > blue + 60
        assert picture.rgb[8, 2].min() > 250
        assert picture.icc_profile == srgb()
        naive = read(tmp_path, Image.fromarray(ink, "CMYK"), kind)
        assert naive.rgb[8, 13].max() < 5
        assert naive.icc_profile is None


def test_a_profile_of_one_direction(tmp_path):
    corners = np.random.default_rng(0).integers(60, 200, (8, 3))
    profile = icc.table_profile(b"RGB ", 3, corners)
    for dtype in (np.uint8, np.uint16):
        write_png(tmp_path / "scan.png", colours(dtype=dtype), icc_profile=profile)
        picture = read_image(tmp_path / "scan.png")
        assert picture.icc_profile == srgb()  # nothing else can be put into the other space
        assert picture.own.dtype == dtype
        assert np.array_equal(np.rint(picture.own / (np.iinfo(dtype).max // 255)), picture.rgb)
        assert far(picture.rgb, colours()) > 20


def test_srgb_by_another_name_changes_nothing(tmp_path):
    made = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb(), made, made[:24] + b"\7\xd0" + made[26:]):
        picture = read(tmp_path, Image.fromarray(colours()), "PNG", icc_profile=profile)
        assert np.array_equal(picture.rgb, colours())
        assert picture.own is picture.rgb
        assert picture.icc_profile == profile


@pytest.mark.parametrize(
    "damage", [lambda p: p[:200], lambda p: p[:130], lambda p: p[:16] + b"GRAY" + p[20:], bytes.swapcase]
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_damaged_profile_does_not_cost_the_picture(tmp_path, mode, damage):
    image = Image.fromarray(colours()).convert(mode)
    picture = read(tmp_path, image, "PNG", icc_profile=damage(icc.rgb_profile(icc.P3)))
    assert np.array_equal(picture.rgb, np.asarray(image.convert("RGB")))
    assert picture.icc_profile is None


def test_profiles_of_spaces_that_the_pixels_are_not_in(tmp_path):
    for mode, profile in (("RGB", icc.grey_profile(1.0)), ("RGB", icc.table_profile(b"CMYK", 4, [(9, 9, 9)] * 16))):
        picture = read(tmp_path, Image.fromarray(colours()).convert(mode), "TIFF", icc_profile=profile)
        assert np.array_equal(picture.rgb, colours())
        assert picture.icc_profile is None


def test_masks_are_no_colours(tmp_path):
    ramp = np.tile(np.arange(256, dtype=np.uint8), (16, 1))
    for profile in (icc.grey_profile(1.0), icc.rgb_profile(icc.ADOBE)):
        Image.fromarray(ramp).save(tmp_path / "mask.png", icc_profile=profile)
        assert np.array_equal(read_mask(tmp_path / "mask.png"), ramp)


def test_there_and_back():
    profile = icc.rgb_profile(icc.P3)
    there = convert(colours(), None, profile)
    assert far(there, colours()) > 10
    assert far(convert(there, profile, None), colours()) <= 6
    assert convert(colours(), profile, profile) is not None
    assert far(convert(colours(), profile, bytes(profile)), colours()) == 0


def test_large_pictures_are_converted_in_strips(tmp_path):
    profile = icc.rgb_profile(icc.ADOBE)
    rows = np.tile(colours(), (1, 3000, 1))  # 40 x 180000: several strips
    assert np.array_equal(convert(rows, profile, None)[:, :60], convert(colours(), profile, None))
