"""Picture files that lack something, or hold more than is needed: used where all pixels are there, refused else."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from p3m_edge.errors import InputError
from p3m_edge.imageio import count_frames, read_image, write_png
from tests.picture_files import encode, noise, png_chunk

RGB_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def read(tmp_path: Path, data: bytes) -> Any:
    path = tmp_path / "picture.bin"
    path.write_bytes(data)
    return read_image(path)


def test_jpegs_without_their_last_marker_are_used_and_that_is_said(tmp_path):
    smooth = Image.fromarray(cv2.resize(noise(12, 10, 3), (203, 157), interpolation=cv2.INTER_CUBIC))
    for options in ({}, {"progressive": True}, {"restart_marker_rows": 1}, {"subsampling": 0, "quality": 95}):
        for image in (smooth, smooth.convert("L")):
            data = encode(image, "JPEG", **options)
            whole = read(tmp_path, data)
            for cut in (data[:-2], data[:-1]):
                picture = read(tmp_path, cut)
                assert np.array_equal(picture.rgb, whole.rgb)
                assert picture.remarks == ("its end marker is missing; all pixels are there",)
            assert whole.remarks == ()
            for missing in (4, 8, 20, 200, len(data) // 2):
                with pytest.raises(InputError, match="truncated"):
                    read(tmp_path, data[:-missing])


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_a_jpeg_that_was_filled_up_with_zeros(tmp_path, options):
    """As programs leave it that make room for a file before they fetch it."""
    data = encode(Image.fromarray(noise(64, 48, 3)), "JPEG", **options)
    whole = read(tmp_path, data)
    assert np.array_equal(read(tmp_path, data[:-2] + bytes(5000)).rgb, whole.rgb)
    assert read(tmp_path, data + bytes(5000)).remarks == ()
    for missing in (5, 50, 500):
        with pytest.raises(InputError, match=r"truncated|some of its pixels are missing"):
            read(tmp_path, data[:-missing] + bytes(5000))


def test_a_progressive_jpeg_that_ends_between_two_scans_is_cut_short(tmp_path):
    data = encode(Image.fromarray(noise(64, 48, 3)), "JPEG", progressive=True)
    starts = [place for place in range(len(data)) if data[place : place + 2] == b"\xff\xda"]
    tables = data.rindex(b"\xff\xc4", 0, starts[-1])  # those of the last scan stand before it
    for end in (starts[-1], tables):
        with pytest.raises(InputError, match="truncated"):
            read(tmp_path, data[:end])


def test_a_jpeg_without_its_last_marker_keeps_what_it_says_about_itself(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(Image.fromarray(noise(40, 60, 3)), "JPEG", exif=exif, icc_profile=RGB_PROFILE)
    picture = read(tmp_path, data[:-2])
    assert picture.rgb.shape == (60, 40, 3)
    assert picture.icc_profile == RGB_PROFILE


def test_a_jpeg_without_its_last_marker_is_not_held_to_the_apps_limit(tmp_path, monkeypatch):
    """Its pixels are looked at twice, and ``Image.open`` has a limit of its own, which belongs to the app."""
    data = encode(Image.fromarray(noise(40, 60, 3)), "JPEG")
    whole = read(tmp_path, data)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert np.array_equal(read(tmp_path, data[:-2]).rgb, whole.rgb)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
def test_a_jpeg_whose_end_marker_comes_too_early_is_damaged(tmp_path, options):
    """Decoders fill what is not there with medium grey, and complain to nobody."""
    for image in (Image.fromarray(noise(64, 48, 3)), Image.fromarray(noise(64, 48))):
        data = encode(image, "JPEG", **options)
        start = data.index(b"\xff\xda")
        stop = data.index(b"\xff\xc4", start) if options.get("progressive") else len(data)  # of the first scan
        for share in (0.4, 0.8):
            end = start + 14 + int((stop - start - 14) * share)
            with pytest.raises(InputError, match="some of its pixels are missing"):
                read(tmp_path, data[:end] + b"\xff\xd9")
    grey = encode(Image.new("RGB", (64, 48), (128, 128, 128)), "JPEG", **options)
    assert (read(tmp_path, grey).rgb == 128).all()


def png_of_rows(pixels: NDArray[Any], height: int, interlace: int = 0) -> bytes:
    """A PNG file that claims a height and holds all rows of the pixels, in one whole stream."""
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    header = struct.pack(
        ">IIBBBBB", pixels.shape[1], height, pixels.itemsize * 8, {1: 0, 3: 2, 4: 6}[channels], 0, 0, interlace
    )
    rows = b"".join(b"\0" + row.astype(pixels.dtype.newbyteorder(">")).tobytes() for row in pixels)
    stream = zlib.compress(rows)
    half = len(stream) // 2
    body = png_chunk(b"IDAT", stream[:half]) + png_chunk(b"IDAT", stream[half:])
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + body + png_chunk(b"IEND", b"")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(32, 20), (32, 20, 3), (32, 20, 4)])
def test_a_png_with_a_whole_stream_and_too_few_rows_is_damaged(tmp_path, shape, dtype):
    pixels = noise(*shape, dtype=dtype)
    assert read(tmp_path, png_of_rows(pixels, 32)).rgb.shape == (32, 20, 3)
    for rows in (31, 10, 1, 0):
        with pytest.raises(InputError, match="damaged"):
            read(tmp_path, png_of_rows(pixels[:rows], 32))
    black = np.zeros(shape, dtype)
    assert not read(tmp_path, png_of_rows(black, 32)).rgb.any()
    with pytest.raises(InputError, match="some of its pixels are missing"):
        read(tmp_path, png_of_rows(black[:31], 32))


def test_an_interlaced_png_with_too_few_rows_is_damaged(tmp_path):
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    for height, width in ((32, 20), (31, 5), (1, 1)):
        pixels = noise(height, width)
        parts = [pixels[top::down, left::across] for left, top, across, down in passes]
        rows = [b"\0" + row.tobytes() for part in parts if part.size for row in part]
        header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 1)

        def file(rows: list[bytes], header: bytes = header) -> bytes:
            body = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(b"".join(rows)))
            return b"\x89PNG\r\n\x1a\n" + body + png_chunk(b"IEND", b"")

        assert np.array_equal(read(tmp_path, file(rows)).rgb[..., 0], pixels)
        for missing in range(1, min(4, len(rows)) + 1):
            with pytest.raises(InputError, match="damaged"):
                read(tmp_path, file(rows[:-missing]))


@pytest.mark.parametrize("kind", ["tEXt", "zTXt", "iTXt", "zipped iTXt", "many"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_png_with_long_texts_is_read(tmp_path, kind, dtype):
    pixels = noise(30, 20, 3, dtype=dtype)
    write_png(tmp_path / "plain.png", pixels, icc_profile=RGB_PROFILE)
    data = (tmp_path / "plain.png").read_bytes()
    long = b'{"node": 1}, ' * 400_000
    chunks = {
        "tEXt": png_chunk(b"tEXt", b"workflow\0" + long * 14),
        "zTXt": png_chunk(b"zTXt", b"workflow\0\0" + zlib.compress(long)),
        "iTXt": png_chunk(b"iTXt", b"workflow\0\0\0\0\0" + long * 14),
        "zipped iTXt": png_chunk(b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(long)),
        "many": png_chunk(b"zTXt", b"workflow\0\0" + zlib.compress(long[:1_000_000])) * 80,
    }
    for place in (33, len(data) - 12):  # after the header, before the end
        picture = read(tmp_path, data[:place] + chunks[kind] + data[place:])
        assert np.array_equal(picture.own, pixels)
        assert picture.icc_profile == RGB_PROFILE
        assert count_frames(tmp_path / "picture.bin") == 1


XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("length", [0, 1 << 19])
def test_texts_that_say_how_a_picture_is_turned_count(tmp_path, zipped, length):
    upright = noise(20, 30, 3)
    data = encode(Image.fromarray(np.ascontiguousarray(np.rot90(upright))), "PNG")
    text = XMP.encode() + b" " * length
    head = b"XML:com.adobe.xmp\0" + (b"\1\0\0\0" if zipped else b"\0\0\0\0")
    chunk = png_chunk(b"iTXt", head + (zlib.compress(text) if zipped else text))
    picture = read(tmp_path, data[:33] + chunk + data[33:])
    assert picture.orientation == 6
    assert np.array_equal(picture.rgb, upright)


def test_a_profile_of_several_megabytes_in_a_png_is_used(tmp_path):
    image = Image.fromarray(noise(20, 30, 3))
    profile = RGB_PROFILE + noise(3_000_000).tobytes()  # as those with tables are
    profile = struct.pack(">I", len(profile)) + profile[4:]
    assert read(tmp_path, encode(image, "PNG", icc_profile=profile)).icc_profile == profile
