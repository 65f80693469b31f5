"""Pictures of every mode and depth, damaged files, and files that must be written whole or not at all."""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms, PngImagePlugin

from p3m_edge.atomic import atomic_write
from p3m_edge.errors import InputError, OutputError, UsageError
from p3m_edge.imageio import (
    IMAGE_SUFFIXES,
    MAX_PIXELS,
    TooLargeError,
    count_frames,
    list_images,
    open_regular,
    read_image,
    read_mask,
    write_png,
)
from tests import icc
from tests.artefacts import picture
from tests.picture_files import encode, noise, png_chunk

before_all = Image.MAX_IMAGE_PIXELS
RGB_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def read(tmp_path: Path, data: bytes, name: str = "picture.bin", **options: Any) -> Any:
    path = tmp_path / name
    path.write_bytes(data)
    return read_image(path, **options)


Tag = tuple[str, tuple[int, ...] | bytes]


def tiff(pixels: NDArray[Any], photometric: int, order: Literal["<", ">"] = "<", **tags: Tag) -> bytes:
    """A minimal TIFF, one strip, for the kinds that Pillow and OpenCV cannot write."""
    height, width = pixels.shape[:2]
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    sample_format = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    entries: dict[int, Tag] = {
        256: ("H", (width,)),
        257: ("H", (height,)),
        258: ("H", (pixels.dtype.itemsize * 8,) * channels),
        259: ("H", (1,)),
        262: ("H", (photometric,)),
        273: ("L", (8,)),
        277: ("H", (channels,)),
        278: ("H", (height,)),
        279: ("L", (len(data),)),
        339: ("H", (sample_format,) * channels),
        **{int(tag[1:]): value for tag, value in tags.items()},
    }
    data += b"\0" * (len(data) % 2)
    directory, extra = b"", b""
    extra_at = 8 + len(data) + 2 + 12 * len(entries) + 4
    for tag, (code, values) in sorted(entries.items()):
        raw = values if isinstance(values, bytes) else struct.pack(f"{order}{len(values)}{code}", *values)
        count, kind = (len(raw), 7) if isinstance(values, bytes) else (len(values), {"H": 3, "L": 4}[code])
        field = raw.ljust(4, b"\0") if len(raw) <= 4 else struct.pack(order + "L", extra_at + len(extra))
        extra += b"" if len(raw) <= 4 else raw + b"\0" * (len(raw) % 2)
        directory += struct.pack(order + "HHL", tag, kind, count) + field
    mark = {"<": b"II", ">": b"MM"}[order]
    header = mark + struct.pack(order + "HL", 42, 8 + len(data))
    return header + data + struct.pack(order + "H", len(entries)) + directory + b"\0" * 4 + extra


# --- orientation -----------------------------------------------------------------------------------------------------

STORED = {  # how a camera stores an upright picture under each EXIF orientation
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation(tmp_path, orientation):
    upright = noise(20, 30, 3)
    stored = np.ascontiguousarray(STORED[orientation](upright))
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = read(tmp_path, encode(Image.fromarray(stored), "PNG", exif=exif))
    assert np.array_equal(picture.rgb, upright)
    assert picture.rgb.flags.c_contiguous
    assert picture.rgb.flags.writeable
    picture = read(tmp_path, encode(Image.fromarray(stored), "TIFF", tiffinfo={0x0112: orientation}))
    assert np.array_equal(picture.rgb, upright)
    jpeg = read(tmp_path, encode(Image.fromarray(stored).resize((300, 200)), "JPEG", quality=95, exif=exif))
    assert jpeg.rgb.shape == ((200, 300, 3) if orientation < 5 else (300, 200, 3))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", STORED)
def test_orientation_of_16_bit_and_float_tiff(tmp_path, orientation, order):
    upright = noise(20, 30, 3, dtype=np.uint16)
    stored = np.ascontiguousarray(STORED[orientation](upright))
    assert np.array_equal(read(tmp_path, tiff(stored, 2, order, t274=("H", (orientation,)))).own, upright)
    as_float = (stored / 65535).astype(np.float32)
    assert np.array_equal(read(tmp_path, tiff(as_float, 2, order, t274=("H", (orientation,)))).own, upright)


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0"])
def test_a_damaged_exif_block_does_not_cost_the_picture(tmp_path, exif):
    image = Image.fromarray(noise(20, 30, 3))
    assert read(tmp_path, encode(image, "JPEG", exif=exif)).rgb.shape == (20, 30, 3)


def test_an_orientation_that_does_not_exist_is_ignored(tmp_path):
    upright = noise(20, 30, 3)
    exif = Image.Exif()
    exif[0x0112] = 77
    assert np.array_equal(read(tmp_path, encode(Image.fromarray(upright), "PNG", exif=exif)).rgb, upright)


# --- modes -----------------------------------------------------------------------------------------------------------


def test_grey_becomes_three_equal_channels(tmp_path):
    grey = noise(20, 30)
    picture = read(tmp_path, encode(Image.fromarray(grey), "PNG"))
    assert np.array_equal(picture.rgb, np.dstack([grey] * 3))
    assert picture.own.dtype == np.uint8


def test_one_bit(tmp_path):
    grey = np.where(noise(20, 30) > 127, 255, 0).astype(np.uint8)
    picture = read(tmp_path, encode(Image.fromarray(grey).convert("1"), "PNG"))
    assert np.array_equal(picture.rgb[..., 1], grey)


def test_colours_under_transparency_stay(tmp_path):
    rgba = noise(20, 30, 4)
    rgba[:10, :, 3] = 0
    for data in (encode(Image.fromarray(rgba), "PNG"), encode(Image.fromarray(rgba), "TIFF")):
        assert np.array_equal(read(tmp_path, data).rgb, rgba[..., :3])
    grey_alpha = read(tmp_path, encode(Image.fromarray(rgba[..., :2], "LA"), "PNG"))
    assert np.array_equal(grey_alpha.rgb, np.dstack([rgba[..., 0]] * 3))


@pytest.mark.parametrize("transparency", [None, 3, bytes(range(0, 160, 10))])
@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_palette_with_and_without_transparency(tmp_path, kind, transparency):
    palette = noise(16, 3)
    index = noise(20, 30) % 16
    image = Image.fromarray(index, "P")
    image.putpalette(palette.tobytes())
    options = (
        {}
        if transparency is None or (kind == "GIF" and isinstance(transparency, bytes))
        else {"transparency": transparency}
    )
    assert np.array_equal(read(tmp_path, encode(image, kind, **options)).rgb, palette[index])


def test_cmyk_jpeg_and_tiff(tmp_path):
    cmyk = np.zeros((16, 16, 4), np.uint8)
    cmyk[:, 8:, 1:3] = 255  # left: no ink; right: magenta and yellow
    for kind in ("JPEG", "TIFF"):
        rgb = read(tmp_path, encode(Image.fromarray(cmyk, "CMYK"), kind)).rgb.astype(int)
        assert np.abs(rgb[:, :6] - 255).max() <= 8
        assert np.abs(rgb[:, 10:] - [255, 0, 0]).max() <= 8


def test_progressive_jpeg_equals_baseline(tmp_path):
    image = Image.fromarray(cv2.resize(noise(8, 8, 3), (64, 64)))
    baseline = read(tmp_path, encode(image, "JPEG")).rgb
    assert np.array_equal(read(tmp_path, encode(image, "JPEG", progressive=True)).rgb, baseline)


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "TIFF"])
def test_of_several_frames_the_first(tmp_path, kind):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue", "lime")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    picture = read(tmp_path, data)
    assert (picture.rgb == [255, 0, 0]).all()
    assert picture.remarks == (f"the first of 3 {'pages' if kind == 'TIFF' else 'frames'} alone was read",)
    assert count_frames(tmp_path / "picture.bin") == 3
    for index, colour in enumerate(([255, 0, 0], [0, 0, 255], [0, 255, 0])):
        picture = read(tmp_path, data, frame=index)
        assert (picture.rgb == colour).all()
        assert picture.remarks == ()
    for index in (-1, 3):
        with pytest.raises(UsageError, match="there is none of number"):
            read(tmp_path, data, frame=index)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_pages_of_deep_tiff(tmp_path, dtype):
    pages = [noise(20, 30, 3, dtype=np.uint16, seed=seed) for seed in range(3)]
    stored = [page if dtype == np.uint16 else (page / 65535).astype(dtype) for page in pages]
    assert cv2.imwritemulti(str(tmp_path / "deep.tif"), [np.ascontiguousarray(page[..., ::-1]) for page in stored])
    assert count_frames(tmp_path / "deep.tif") == 3
    for index, page in enumerate(pages):
        assert np.array_equal(read_image(tmp_path / "deep.tif", frame=index).own, page)
    assert read_image(tmp_path / "deep.tif").remarks == ("the first of 3 pages alone was read",)


def test_thumbnails_and_masks_are_no_pages(tmp_path):
    pages = [Image.new("RGB", (16 >> index, 16 >> index), "red") for index in range(3)]
    pages[1].encoderinfo, pages[2].encoderinfo = {"tiffinfo": {254: 1}}, {"tiffinfo": {254: 4}}
    data = encode(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    assert data.count(struct.pack("<HHLL", 254, 4, 1, 1)) == 1
    picture = read(tmp_path, data)
    assert picture.rgb.shape == (16, 16, 3)
    assert picture.remarks == ()


def test_what_phones_put_behind_a_photograph_is_no_frame(tmp_path):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    data = encode(frames[0], "MPO", save_all=True, append_images=frames[1:])
    assert read(tmp_path, data).remarks == ()
    entry = data.rindex(struct.pack("<L", 0x030000))  # "the picture itself"; 16 bytes on, that of the other one
    disparity = struct.pack("<L", 0x020002)
    stereo = data[:entry] + disparity + data[entry + 4 : entry + 16] + disparity + data[entry + 20 :]
    assert read(tmp_path, stereo).remarks == ("the first of 2 frames alone was read",)
    assert (read(tmp_path, stereo, frame=1).rgb[..., 2] > 200).all()


def test_a_loop_of_pages_ends(tmp_path):
    data = bytearray(encode(Image.new("L", (4, 4)), "TIFF"))
    start = struct.unpack("<L", data[4:8])[0]
    following = start + 2 + 12 * struct.unpack("<H", data[start : start + 2])[0]
    data[following : following + 4] = struct.pack("<L", start)
    picture = read(tmp_path, bytes(data))
    assert picture.rgb.shape == (4, 4, 3)
    assert picture.remarks == ()


def test_the_content_decides_and_not_the_name(tmp_path):
    pixels = noise(4, 5, 3)
    assert np.array_equal(read(tmp_path, encode(Image.fromarray(pixels), "PNG"), "é ☂.jpg").rgb, pixels)


# --- depth -----------------------------------------------------------------------------------------------------------


def rounded(deep: NDArray[Any]) -> NDArray[np.uint8]:
    return np.rint(deep / 257).astype(np.uint8)


def test_16_bit_grey_png_and_tiff(tmp_path):
    deep = noise(20, 30, dtype=np.uint16)
    for data in (encode(Image.fromarray(deep), "PNG"), tiff(deep, 1), tiff(deep, 1, ">"), tiff(65535 - deep, 0)):
        picture = read(tmp_path, data)
        assert np.array_equal(picture.own, np.dstack([deep] * 3))
        assert np.array_equal(picture.rgb, rounded(picture.own))
    pgm = b"P5 30 20 65535\n" + deep.astype(">u2").tobytes()
    assert np.array_equal(read(tmp_path, pgm).own[..., 2], deep)


@pytest.mark.parametrize("channels", [3, 4])
def test_16_bit_colour_png_and_tiff(tmp_path, channels):
    deep = noise(20, 30, channels, dtype=np.uint16)
    bgr = deep[..., [2, 1, 0, 3][:channels]]
    straight: dict[str, Any] = {"t338": ("H", (2,))} if channels == 4 else {}
    for data in (cv2.imencode(".png", bgr)[1].tobytes(), tiff(deep, 2, **straight), tiff(deep, 2, ">", **straight)):
        picture = read(tmp_path, data)
        assert np.array_equal(picture.own, deep[..., :3])
        assert np.array_equal(picture.rgb, rounded(deep[..., :3]))


def test_16_bit_png_with_orientation(tmp_path):
    upright = noise(20, 30, 3, dtype=np.uint16)
    data = cv2.imencode(".png", np.ascontiguousarray(np.rot90(upright)[..., ::-1]))[1].tobytes()
    exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    body = b"eXIf" + exif
    chunk = struct.pack(">I", len(exif)) + body + struct.pack(">I", zlib.crc32(body))
    assert np.array_equal(read(tmp_path, data[:33] + chunk + data[33:]).own, upright)


def test_premultiplied_16_bit_tiff_is_divided_by_its_alpha(tmp_path):
    colour = np.full((4, 4, 3), 40000, np.uint16)
    stored = np.dstack([colour // 2, np.full((4, 4), 32768, np.uint16)])
    picture = read(tmp_path, tiff(stored, 2, t338=("H", (1,))))
    assert np.abs(picture.rgb.astype(int) - 40000 // 257).max() <= 2
    assert picture.own.dtype == np.uint8


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 3)])
def test_float_tiff(tmp_path, shape, dtype):
    deep = noise(*shape, dtype=np.uint16)
    picture = read(tmp_path, tiff((deep / 65535).astype(dtype), 2 if len(shape) == 3 else 1))
    assert np.array_equal(picture.own, deep if deep.ndim == 3 else np.dstack([deep] * 3))
    assert np.array_equal(picture.rgb, rounded(picture.own))


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.5, 255.0])
def test_float_tiff_without_a_defined_range_is_an_error(tmp_path, value):
    pixels = np.full((4, 4, 3), 0.5, np.float32)
    pixels[2, 2, 1] = value
    with pytest.raises(InputError, match=r"0\.\.1"):
        read(tmp_path, tiff(pixels, 2))


def test_integers_beyond_16_bits_are_an_error(tmp_path):
    with pytest.raises(InputError, match="16 bits"):
        read(tmp_path, tiff(np.full((4, 4), 70000, np.int32), 1))


def test_tiff_of_other_colour_spaces(tmp_path):
    assert (read(tmp_path, tiff(np.zeros((4, 4, 4), np.uint16), 5)).rgb == 255).all()  # CMYK without ink
    pixels = np.full((4, 4, 3), (200, 100, 50), np.uint8)
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    in_lab = ImageCms.profileToProfile(Image.fromarray(pixels), srgb, lab, outputMode="LAB")
    assert in_lab is not None
    assert np.abs(read(tmp_path, encode(in_lab, "TIFF")).rgb.astype(int) - pixels).max() <= 3


# --- profiles --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_profile_survives_reading_and_writing(tmp_path, dtype):
    pixels = noise(20, 30, 3, dtype=dtype)
    path = tmp_path / "profile.png"
    write_png(path, pixels, icc_profile=RGB_PROFILE)
    picture = read_image(path)
    assert picture.icc_profile == RGB_PROFILE
    read_back: Any = picture.rgb if dtype == np.uint8 else picture.own
    assert np.array_equal(read_back, pixels)
    with Image.open(path) as image:
        assert image.info["icc_profile"] == RGB_PROFILE


def test_the_profile_of_tiff(tmp_path):
    for pixels in (noise(4, 4, 3), noise(4, 4, 3, dtype=np.uint16), np.zeros((4, 4, 3), np.float32)):
        assert read(tmp_path, tiff(pixels, 2, t34675=("B", RGB_PROFILE))).icc_profile == RGB_PROFILE


def test_a_profile_of_another_colour_space_is_dropped(tmp_path):
    grey_profile = RGB_PROFILE[:16] + b"GRAY" + RGB_PROFILE[20:]
    data = encode(Image.fromarray(noise(4, 4)), "PNG", icc_profile=grey_profile)
    assert read(tmp_path, data).icc_profile is None


# --- files that are no pictures --------------------------------------------------------------------------------------


def test_missing_folder_empty_and_text_files(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.jpg does not exist"):
        read_image(tmp_path / "nowhere.jpg")
    with pytest.raises(InputError, match="is a folder"):
        read_image(tmp_path)
    with pytest.raises(InputError, match=r"empty\.jpg is empty"):
        read(tmp_path, b"", "empty.jpg")
    with pytest.raises(InputError, match=r"text\.jpg is not a picture"):
        read(tmp_path, b"Dear diary,\ntoday I was named .jpg.\n" * 100, "text.jpg")
    for impossible in ("a\0b.jpg", tmp_path / ("x" * 5000)):
        with pytest.raises(InputError, match=r"does not exist|cannot be read"):
            read_image(impossible)


def test_postscript_is_not_interpreted(tmp_path):
    with pytest.raises(InputError, match="is not a picture"):
        read(tmp_path, encode(Image.new("RGB", (8, 8)), "EPS"), "evil.jpg")


def test_heic_is_named_where_nothing_reads_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(InputError, match="HEIC, and pillow-heif") as caught:
        read(tmp_path, b"\0\0\0\x18ftypheic" + b"\0" * 200)
    assert "p3m-edge[heif]" in str(caught.value.hint)


def test_heic(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    pixels = np.asarray(Image.fromarray(picture(16, 24)).resize((96, 64), Image.Resampling.BICUBIC))
    profile = icc.rgb_profile(icc.P3)
    heif.from_pillow(Image.fromarray(pixels)).save(tmp_path / "a.heic", quality=95, icc_profile=profile)
    found = read_image(tmp_path / "a.heic")
    assert np.abs(found.own.astype(int) - pixels).mean() < 6
    assert found.icc_profile == profile
    assert "HEIF" not in Image.OPEN  # Pillow is the app's
    data = (tmp_path / "a.heic").read_bytes()
    for wrong in (data[:200], data[: len(data) // 2], data[:12] + b"\0" * 300):
        with pytest.raises(InputError, match="damaged"):
            read(tmp_path, wrong)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "endless.png").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.png"))
        for path in list_images(tmp_path):
            for use in (read_image, read_mask, count_frames, open_regular):
                with pytest.raises(InputError, match=rf"{path.name} cannot be read: it is a \w+, not a regular file"):
                    use(path)
    assert len(list_images(tmp_path)) == 3  # to be named


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_unreadable_permissions(tmp_path):
    path = tmp_path / "secret.png"
    write_png(path, noise(4, 4))
    path.chmod(0)
    with pytest.raises(InputError, match=r"secret\.png cannot be read"):
        read_image(path)


def samples() -> dict[str, bytes]:
    image = Image.fromarray(noise(90, 70, 3))
    deep = noise(90, 70, 3, dtype=np.uint16)
    return {
        "jpeg": encode(image, "JPEG"),
        "progressive": encode(image, "JPEG", progressive=True),
        "png": encode(image, "PNG"),
        "palette": encode(image.quantize(16), "PNG"),
        "gif": encode(image, "GIF"),
        "webp": encode(image, "WEBP"),
        "bmp": encode(image, "BMP"),
        "tiff": encode(image, "TIFF"),
        "lzw": encode(image, "TIFF", compression="tiff_lzw"),
        "png16": cv2.imencode(".png", deep)[1].tobytes(),
        "tiff16": cv2.imencode(".tiff", deep)[1].tobytes(),
        "float": cv2.imencode(".tiff", (deep / 65535).astype(np.float32))[1].tobytes(),
    }


SAMPLES = samples()


@pytest.mark.parametrize("name", SAMPLES)
def test_a_picture_cut_short_is_an_error(tmp_path, name):
    data = SAMPLES[name]
    assert read(tmp_path, data).rgb.shape == (90, 70, 3)
    for share in (0.02, 0.5, 0.9):
        with pytest.raises(InputError, match=r"picture\.bin") as caught:
            read(tmp_path, data[: int(len(data) * share)])
        assert "\n" not in str(caught.value)


@settings(max_examples=300)
@given(st.sampled_from(sorted(SAMPLES)), st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=4))))
def test_damaged_bytes_give_a_picture_or_an_input_error(tmp_path_factory, name, damage):
    data = bytearray(SAMPLES[name])
    for place, noise_bytes in damage:
        at = int(place**3 * (len(data) - 5))  # headers are at the front
        data[at : at + len(noise_bytes)] = noise_bytes
    path = tmp_path_factory.getbasetemp() / "damaged.bin"
    path.write_bytes(data)
    try:
        picture = read_image(path)
    except InputError:
        return
    assert picture.rgb.ndim == 3
    assert picture.rgb.dtype == np.uint8


def png_claiming(width: int, height: int) -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(b"\0" * 100)) + png_chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(16_001, 16_000), (65_000, 65_000)])
def test_a_decompression_bomb_is_refused_before_decoding(tmp_path, size):
    with pytest.raises(InputError, match="million pixels"):
        read(tmp_path, png_claiming(*size))


@pytest.mark.parametrize("size", [(16_320, 12_240), (16_000, 16_000), (20_000, 20_000)])
def test_phones_pictures_are_within_the_limit_and_more_may_be_allowed(tmp_path, size):
    data = png_claiming(*size)  # what is said of it is that the pixels are missing, not that it is too large
    with pytest.raises(InputError, match="truncated"):
        read(tmp_path, data, max_pixels=max(MAX_PIXELS, size[0] * size[1]))
    assert before_all == Image.MAX_IMAGE_PIXELS  # that of other users of Pillow is as it was


def decode_pngs_by(reader: type[PngImagePlugin.PngImageFile], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(Image.OPEN, "PNG", (reader, Image.OPEN["PNG"][1]))


def test_threads_decode_at_the_same_time_and_each_within_its_own_limit(tmp_path, monkeypatch):
    opened, decoding = threading.Barrier(3, timeout=60), threading.Barrier(2, timeout=60)
    decoded = []

    class Meeting(PngImagePlugin.PngImageFile):
        def _open(self) -> None:
            super()._open()
            opened.wait()

        def load(self) -> Any:
            if self.tile:
                decoding.wait()
                warnings.warn("odd", stacklevel=1)
                decoded.append(self.size)
            return super().load()

    Image.init()
    decode_pngs_by(Meeting, monkeypatch)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2)  # the app's own limit, which is not ours
    before = list(warnings.filters)
    data = encode(Image.fromarray(noise(3, 2, 3)), "PNG")
    with ThreadPoolExecutor(3) as pool:
        reading = [pool.submit(read, tmp_path, data, f"{most}.png", max_pixels=most) for most in (5, 6, 7)]
        with pytest.raises(TooLargeError, match=r"5\.png"):
            reading[0].result()
        assert all(np.array_equal(future.result().rgb, noise(3, 2, 3)) for future in reading[1:])
    assert decoded == [(2, 3)] * 2
    assert list(warnings.filters) == before
    assert Image.MAX_IMAGE_PIXELS == 2


def test_warnings_of_other_threads_are_left_alone_while_one_reads(tmp_path, monkeypatch):
    inside, goes_on = threading.Event(), threading.Event()

    class Waiting(PngImagePlugin.PngImageFile):
        def _open(self) -> None:
            inside.set()
            assert goes_on.wait(60)
            warnings.warn("odd", stacklevel=1)
            super()._open()

    Image.init()
    decode_pngs_by(Waiting, monkeypatch)
    before = list(warnings.filters)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read, tmp_path, encode(Image.fromarray(noise(3, 2, 3)), "PNG"))
        assert inside.wait(60)
        with pytest.raises(UserWarning, match="of the app"):  # an error, by the filters of these tests
            warnings.warn("of the app", stacklevel=1)
        with warnings.catch_warnings():  # restores, at its end, what there was while the thread was reading
            goes_on.set()
            assert reading.result().rgb.shape == (3, 2, 3)
    assert list(warnings.filters) == before


def test_what_is_too_large_says_how_much_memory_it_takes(tmp_path):
    with pytest.raises(InputError, match=r"more than 256 million pixels, 400: reading it takes about 4 GB") as caught:
        read(tmp_path, png_claiming(20_000, 20_000))
    assert "--max-megapixels" in str(caught.value.hint)


def test_large_pictures_below_the_limit_do_not_warn(tmp_path):
    with pytest.raises(InputError, match="truncated"):  # Pillow alone warns from 89 million on
        read(tmp_path, png_claiming(12_000, 10_000))


@pytest.mark.parametrize("name", ["png", "png16", "tiff16", "float"])
def test_the_limit_can_be_lowered(tmp_path, name):
    assert read(tmp_path, SAMPLES[name], max_pixels=6300).rgb.shape == (90, 70, 3)
    with pytest.raises(InputError, match="million pixels"):
        read(tmp_path, SAMPLES[name], max_pixels=6299)


def test_reading_from_many_threads(tmp_path):
    paths = []
    for i in range(8):
        paths.append(tmp_path / f"{i}.png")
        write_png(paths[-1], noise(50, 60, 3, seed=i))
    results: dict[int, Any] = {}

    def work(i: int) -> None:
        results[i] = read_image(paths[i % 8]).rgb

    threads = [threading.Thread(target=work, args=(i,)) for i in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(results[i], noise(50, 60, 3, seed=i % 8)) for i in range(32))


# --- folders ---------------------------------------------------------------------------------------------------------


def test_list_images(tmp_path):
    for name in ("b.PNG", "a.jpeg", "c.heic", "notes.txt", ".hidden.png", "._b.png", "noend"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.png").mkdir()
    assert [p.name for p in list_images(tmp_path)] == ["a.jpeg", "b.PNG", "c.heic"]
    assert all(suffix == suffix.lower() for suffix in IMAGE_SUFFIXES)


def test_every_suffix_of_the_formats_that_can_be_read_is_known():
    Image.init()
    read_by_pillow = ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "BMP", "DIB", "GIF", "PPM", "JPEG2000", "AVIF", "TGA")
    theirs = {suffix for suffix, kind in Image.registered_extensions().items() if kind in read_by_pillow}
    assert theirs - {".pfm"} <= IMAGE_SUFFIXES  # its values have no range
    assert {".jif", ".jfi", ".pjp", ".pjpeg"} <= IMAGE_SUFFIXES  # JPEG, too, by browsers and old systems


def test_list_images_of_something_else(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        list_images(tmp_path / "nowhere")
    (tmp_path / "file.png").write_bytes(b"x")
    with pytest.raises(InputError, match=r"file\.png"):
        list_images(tmp_path / "file.png")


# --- writing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(1, 1), (20, 30), (20, 30, 1), (20, 30, 3), (20, 30, 4)])
def test_png_round_trip(tmp_path, dtype, shape):
    array = noise(*shape, dtype=dtype)
    path = tmp_path / "out.png"
    write_png(path, array)
    written = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert written is not None
    if array.shape[-1] in (3, 4) and array.ndim == 3:
        written = written[..., [2, 1, 0, 3][: array.shape[2]]]
    assert written.dtype == dtype
    assert np.array_equal(written.reshape(shape), array)
    assert list(tmp_path.iterdir()) == [path]


def test_writing_a_view(tmp_path):
    array = noise(20, 30, 4)[::-1, ::2, :3]
    write_png(tmp_path / "view.png", array)
    assert np.array_equal(read_image(tmp_path / "view.png").rgb, array)


def test_files_are_readable_by_those_whom_the_umask_allows(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    write_png(tmp_path / "a.png", noise(4, 4))
    assert (tmp_path / "a.png").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4), np.float32),
        np.zeros((4, 4), np.int32),
        np.zeros((4, 4), bool),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((4,), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ],
    ids=str,
)
def test_arrays_that_are_no_png(tmp_path, array):
    with pytest.raises(InputError):
        write_png(tmp_path / "a.png", array)
    assert not list(tmp_path.iterdir())


def test_unwritable_places(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    places = [tmp_path / "missing" / "a.png", tmp_path / "file" / "a.png", tmp_path / "folder", "a\0b.png"]
    if sys.platform == "linux":
        places.append("/proc/a.png")
    for place in places:
        with pytest.raises(OutputError):
            write_png(place, noise(4, 4))
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "folder"]


@pytest.mark.skipif(sys.platform == "win32", reason="no file size limits there")
def test_a_full_disc_leaves_the_old_file_and_nothing_else(tmp_path):
    import resource

    path = tmp_path / "a.png"
    atomic_write(path, b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # the kernel stops the write half way
    try:
        with pytest.raises(OutputError, match=r"a\.png cannot be written"):
            write_png(path, noise(100, 100, 3))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_of_the_greatest_length(tmp_path):
    path = tmp_path / ("x" * 251 + ".png")
    atomic_write(path, b"data")
    assert path.read_bytes() == b"data"
