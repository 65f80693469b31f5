"""Mattes and masks: grey of every kind, and files whose values are not what they seem."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from p3m_edge.errors import InputError
from p3m_edge.imageio import MASK_SOURCES, MaskError, decode_mask, read_image, read_mask, write_png
from tests.picture_files import encode, noise


def mask(tmp_path: Path, data: bytes, **options: Any) -> NDArray[np.uint8]:
    path = tmp_path / "mask.bin"
    path.write_bytes(data)
    return read_mask(path, **options)


def test_grey_masks_of_every_kind(tmp_path):
    grey = noise(20, 30)
    image = Image.fromarray(grey)
    palette = Image.fromarray(grey, "P")
    palette.putpalette(np.repeat(np.arange(256, dtype=np.uint8), 3).tobytes())
    opaque = Image.new("L", image.size, 255)
    for kind in (image, palette, Image.merge("RGB", [image] * 3), Image.merge("RGBA", [*[image] * 3, opaque])):
        for result in (mask(tmp_path, encode(kind, "PNG")), mask(tmp_path, encode(kind, "TIFF"))):
            assert result.shape == (20, 30)
            assert result.dtype == np.uint8
            assert result.flags.c_contiguous
            assert np.array_equal(result, grey)
    binary = np.where(grey > 127, 255, 0)
    assert np.array_equal(mask(tmp_path, encode(Image.fromarray(binary.astype(np.uint8)).convert("1"), "PNG")), binary)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bit_masks_are_rounded(tmp_path, channels):
    deep = noise(20, 30, dtype=np.uint16)
    deep[0, :4] = (0, 128, 129, 65535)
    write_png(tmp_path / "mask.png", deep if channels == 1 else np.dstack([deep] * channels))
    result = read_mask(tmp_path / "mask.png")
    assert list(result[0, :4]) == [0, 0, 1, 255]
    assert np.array_equal(result, np.rint(deep / 257).astype(np.uint8))


def test_a_picture_is_no_mask(tmp_path):
    rgb = np.dstack([noise(20, 30)] * 3)
    for channel in range(3):
        coloured = rgb.copy()
        coloured[7, 8, channel] ^= 1
        with pytest.raises(InputError, match=r"mask\.bin is a colour picture"):
            mask(tmp_path, encode(Image.fromarray(coloured), "PNG"))


def test_masks_are_protected_like_pictures(tmp_path):
    grey = encode(Image.fromarray(noise(20, 30)), "PNG")
    for data in (b"", b"text", grey[:-30]):
        with pytest.raises(InputError, match=r"mask\.bin"):
            mask(tmp_path, data)
    with pytest.raises(InputError, match="does not exist"):
        read_mask(tmp_path / "nowhere.png")


# --- what they seem --------------------------------------------------------------------------------------------------

DISC = np.hypot(*np.mgrid[-30:30, -25:25]) < 20
SOFT = np.rint(np.clip((22 - np.hypot(*np.mgrid[-30:30, -25:25])) / 8, 0, 1) * 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("values", "cause", "source", "expected"),
    [
        (DISC.astype(np.uint8), "a mask of 0 and 1", "mask", DISC * 255),
        (DISC.astype(np.uint16), "a mask of 0 and 1", "mask", DISC * 255),
        (DISC.astype(np.uint8) * 15, "numbers of classes", "mask", DISC * 255),
        (DISC.astype(np.uint8) + DISC[::-1, ::-1], "numbers of classes", "mask", (DISC | DISC[::-1, ::-1]) * 255),
        (SOFT.astype(np.uint16), "values of 8 bits", "8-bit", SOFT),
        (DISC.astype(np.uint16) * 255, "values of 8 bits", "8-bit", DISC * 255),
        (SOFT.astype(np.uint16) * 16, "10 or 12 bits", "values", np.rint(SOFT * (16 / 257))),
    ],
)
def test_masks_that_are_no_mattes(tmp_path, values, cause, source, expected):
    path = tmp_path / "mask.png"
    write_png(path, values)
    with pytest.raises(MaskError, match=cause) as caught:
        read_mask(path)
    assert f"--alpha-from {source} " in str(caught.value.hint)
    assert str(caught.value).startswith(f"{path} ")
    assert np.array_equal(read_mask(path, source=source), expected)
    rounded = values if values.dtype == np.uint8 else np.rint(values / 257)
    assert np.array_equal(read_mask(path, source="values"), rounded)


def test_faint_and_empty_mattes_are_mattes(tmp_path):
    for values in (np.zeros((4, 5)), np.full((4, 5), 9), np.where(DISC, 26, 0), np.where(DISC, 255, 1)):
        write_png(tmp_path / "mask.png", values.astype(np.uint8))
        assert np.array_equal(read_mask(tmp_path / "mask.png"), values)
    write_png(tmp_path / "mask.png", np.where(DISC, 4096, 0).astype(np.uint16))
    assert read_mask(tmp_path / "mask.png").max() == 16


@pytest.mark.parametrize("high", [1, 128, 255])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_where_only_zero_matters_a_mask_of_0_and_1_will_do(tmp_path, high, dtype):
    write_png(tmp_path / "mask.png", DISC.astype(dtype) * dtype(high))
    assert np.array_equal(read_mask(tmp_path / "mask.png", binary=True) != 0, DISC)


def with_alpha(grey: NDArray[Any], alpha: NDArray[Any], mode: str) -> Image.Image:
    bands = [Image.fromarray(grey.astype(np.uint8))] * (len(mode) - 1)
    return Image.merge(mode, [*bands, Image.fromarray(alpha.astype(np.uint8))])


WHITE = np.full_like(SOFT, 255)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
@pytest.mark.parametrize(
    ("grey", "cause"),
    [
        (WHITE, "255 wherever it is not transparent: its matte is in the alpha channel"),
        (np.zeros_like(SOFT), "0 wherever"),
        (np.where(SOFT > 0, 255, 0), "255 wherever"),  # tools that clean up what is not seen
        (noise(60, 50), "either may be the matte"),  # the cut-out of a grey photograph
    ],
)
def test_the_matte_in_the_alpha_channel(tmp_path, grey, cause, mode, kind):
    path = tmp_path / "mask.bin"
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    path.write_bytes(encode(with_alpha(grey, SOFT, mode), kind, **options))
    with pytest.raises(MaskError, match=cause):
        read_mask(path)
    assert np.array_equal(read_mask(path, source="alpha"), SOFT)
    assert np.array_equal(read_mask(path, source="values"), grey)


def test_an_alpha_channel_that_says_the_same_or_nothing(tmp_path):
    for alpha in (SOFT, WHITE):
        path = tmp_path / "mask.png"
        path.write_bytes(encode(with_alpha(SOFT, alpha, "LA"), "PNG"))
        assert np.array_equal(read_mask(path), SOFT)
    with pytest.raises(MaskError, match="opaque"):
        read_mask(path, source="alpha")


def test_16_bit_alpha_channels(tmp_path):
    deep = SOFT.astype(np.uint16) * 257
    white = np.full_like(deep, 65535)
    write_png(tmp_path / "mask.png", np.dstack([white, white, white, deep]))
    with pytest.raises(MaskError, match="alpha channel"):
        read_mask(tmp_path / "mask.png")
    assert np.array_equal(read_mask(tmp_path / "mask.png", source="alpha"), SOFT)


def test_a_cutout_in_the_place_of_a_matte(tmp_path):
    path = tmp_path / "mask.png"
    Image.fromarray(np.dstack([noise(60, 50, 3), SOFT])).save(path)
    with pytest.raises(MaskError, match="colour picture") as caught:
        read_mask(path)
    assert "--alpha-from alpha" in str(caught.value.hint)
    assert np.array_equal(read_mask(path, source="alpha"), SOFT)


def test_sources_that_do_not_fit_the_file(tmp_path):
    write_png(tmp_path / "deep.png", SOFT.astype(np.uint16) * 257)
    with pytest.raises(MaskError, match="more than 8 bits"):
        read_mask(tmp_path / "deep.png", source="8-bit")
    write_png(tmp_path / "picture.png", noise(4, 5, 3))
    for source in MASK_SOURCES:
        with pytest.raises(InputError, match="colour picture" if source != "alpha" else "opaque"):
            read_mask(tmp_path / "picture.png", source=source)


def test_a_colour_profile_does_not_change_shares(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    Image.fromarray(SOFT).save(tmp_path / "mask.png", icc_profile=profile)
    assert np.array_equal(read_mask(tmp_path / "mask.png"), SOFT)


def test_the_orientation_of_a_mask_is_told(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(SOFT).save(tmp_path / "mask.png", exif=exif)
    values, orientation = decode_mask(tmp_path / "mask.png")
    assert orientation == 6
    assert np.array_equal(values, np.rot90(SOFT, -1))
    for suffix in ("png", "tif"):
        Image.fromarray(SOFT).save(tmp_path / f"same.{suffix}")
        assert decode_mask(tmp_path / f"same.{suffix}")[1] == 1
    Image.fromarray(SOFT).save(tmp_path / "mask.tif", tiffinfo={0x0112: 8})
    values, orientation = decode_mask(tmp_path / "mask.tif")
    assert orientation == 8
    assert np.array_equal(values, np.rot90(SOFT))
    assert read_image(tmp_path / "mask.tif").orientation == 8
