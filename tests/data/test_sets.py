"""The published layouts and folders like them: what is found, matched, decoded and refused."""

from __future__ import annotations

import pickle
import threading
import unicodedata
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from p3m_edge.data.cache import Cache
from p3m_edge.data.sample import Sample
from p3m_edge.data.sets import open_set, read, splits, survey
from p3m_edge.errors import InputError, UsageError
from p3m_edge.imageio import write_png
from tests.portraits import portrait, write_set

ARRAYS = ("image", "alpha", "trimap", "foreground", "background", "face_mask")
EVERYTHING = {"trimap": "trimap", "foreground": "fg", "background": "bg", "face_mask": "facemask"}


def p3m_10k(root: Path, *, nested: bool) -> Path:
    """A small P3M-10k: the 2022 form keeps its test sets under validation/, the 2021 form directly under the root."""
    tests = root / "validation" if nested else root
    colours = {"foreground": "fg", "background": "bg"}
    write_set(root / "train", [portrait(seed=i) for i in range(3)], "blurred_image", "mask", **colours)
    blurred = {"trimap": "trimap", "face_mask": "facemask"}
    write_set(tests / "P3M-500-P", [portrait(seed=i) for i in (3, 4)], "blurred_image", "mask", **blurred)
    write_set(tests / "P3M-500-NP", [portrait(seed=5)], "original_image", "mask", trimap="trimap")
    (root / "notes").mkdir()
    return root


def same(left: Sample, right: Sample, *fields: str) -> bool:
    return all(np.array_equal(getattr(left, field), getattr(right, field)) for field in fields)


@pytest.mark.parametrize("nested", [False, True])
def test_p3m_10k_of_both_years(tmp_path, nested):
    root = p3m_10k(tmp_path, nested=nested)
    assert set(splits(root)) == {"train", "P3M-500-P", "P3M-500-NP"}
    train, blurred, normal = (open_set(root, split) for split in ("train", "P3M-500-P", "P3M-500-NP"))
    assert [(s.name, s.kind, s.blurred, len(s.items)) for s in (train, blurred, normal)] == [
        ("train", "P3M-10k", True, 3),
        ("P3M-500-P", "P3M-10k", True, 2),
        ("P3M-500-NP", "P3M-10k", False, 1),
    ]
    assert [item.name for item in train.items] == ["portrait0", "portrait1", "portrait2"]
    sample = read(train.items[1])
    assert sample.name == "portrait1"
    assert same(sample, portrait(seed=1), "image", "alpha", "foreground", "background")
    assert sample.trimap is None
    assert sample.face_mask is None
    assert same(read(blurred.items[0]), portrait(seed=3), "image", "alpha", "trimap", "face_mask")
    assert same(read(normal.items[0]), portrait(seed=5), "image", "alpha", "trimap")
    assert open_set(blurred.root) == blurred  # the folder of a split is a set by itself


def test_folders_of_image_and_alpha(tmp_path):
    rwp = open_set(write_set(tmp_path / "RealWorldPortrait-636", [portrait()]))
    assert (rwp.name, rwp.blurred) == ("RealWorldPortrait-636", None)
    assert same(read(rwp.items[0]), portrait(), "image", "alpha")
    full = open_set(write_set(tmp_path / "full", [portrait()], **EVERYTHING))
    assert same(read(full.items[0]), portrait(), *ARRAYS)
    anonymised = open_set(write_set(tmp_path / "mine", [portrait()], "blurred_image", face_mask="facemask"))
    assert (anonymised.kind, anonymised.blurred) == ("anonymised", True)
    assert same(read(anonymised.items[0]), portrait(), "image", "alpha", "face_mask")


def test_a_set_in_two_forms(tmp_path):
    root = write_set(tmp_path / "people", [portrait()], "blurred_image", face_mask="facemask")
    write_set(root, [replace(portrait(seed=1), name="portrait0")], "original_image")
    write_png(root / "alpha/portrait0.png", portrait().alpha)
    blurred, normal = open_set(root / "blurred_image"), open_set(root / "original_image")
    assert [(s.name, s.root, s.blurred) for s in (blurred, normal)] == [
        ("people/blurred_image", root, True),
        ("people/original_image", root, False),
    ]
    assert np.array_equal(read(blurred.items[0]).image, portrait().image)
    assert np.array_equal(read(normal.items[0]).image, portrait(seed=1).image)
    assert same(read(normal.items[0]), portrait(), "alpha", "face_mask")
    assert open_set(root).items == blurred.items  # no form was named
    with pytest.raises(InputError, match="holds no data set"):
        open_set(root / "facemask")
    published = write_set(tmp_path / "P3M-500-NP", [portrait()], "original_image", "mask")
    assert open_set(published / "original_image") == open_set(published)  # there is one form alone
    with pytest.raises(InputError, match="blurred_image"):
        open_set(published / "blurred_image")
    (published / "mask").rename(published / "masks")
    with pytest.raises(InputError, match="holds no data set"):
        open_set(published / "original_image")


def test_files_match_by_their_names_without_suffix_in_any_format(tmp_path):
    folder = write_set(tmp_path / "set", [portrait(seed=i) for i in range(2)])
    for path in (folder / "image").iterdir():
        pixels = cv2.imread(str(path))
        assert pixels is not None
        path.unlink()
        assert cv2.imwrite(str(path.with_suffix(".webp")), pixels, [cv2.IMWRITE_WEBP_QUALITY, 101])
    (folder / "image" / "notes.txt").write_text("x")
    (folder / "alpha" / "._portrait0.png").write_bytes(b"x")
    items = open_set(folder).items
    assert [item.image.name for item in items] == ["portrait0.webp", "portrait1.webp"]
    assert same(read(items[1]), portrait(seed=1), "image", "alpha")


def test_names_match_in_whatever_unicode_form_they_are(tmp_path):
    folder = write_set(tmp_path, [replace(portrait(), name=name) for name in ("José", "Zoë")], **EVERYTHING)
    for path in [*(folder / "alpha").iterdir(), *(folder / "bg").iterdir(), folder / "image/Zoë.png"]:
        path.rename(path.with_name(unicodedata.normalize("NFD", path.name)))
    items = open_set(folder).items
    assert [item.name for item in items] == ["José", "Zoë"]
    assert all(same(read(item), portrait(), *ARRAYS) for item in items)
    write_png(folder / "alpha/José.png", portrait().alpha)
    assert [path.name for path in survey(folder).namesakes] in (
        ["José.png"],
        [unicodedata.normalize("NFD", "José.png")],
    )


def test_pictures_as_browsers_save_them_belong_to_a_set(tmp_path):
    folder = write_set(tmp_path, [portrait(seed=i) for i in range(3)])
    for index, suffix in enumerate((".jfif", ".JPE", ".tif")):
        path = folder / f"image/portrait{index}.png"
        Image.open(path).save(path.with_suffix(suffix), format="TIFF" if suffix == ".tif" else "JPEG")
        path.unlink()
    assert [item.image.suffix for item in open_set(folder).items] == [".jfif", ".JPE", ".tif"]


def test_a_single_split_needs_no_name_several_do(tmp_path):
    write_set(tmp_path / "train", [portrait()], "blurred_image", "mask")
    assert open_set(tmp_path).name == "train"
    write_set(tmp_path / "more", [portrait()])
    with pytest.raises(UsageError, match="several splits") as error:
        open_set(tmp_path)
    assert "more" in str(error.value.hint)
    assert "train" in str(error.value.hint)


def test_a_mistyped_split_is_answered_with_the_closest_one(tmp_path):
    root = p3m_10k(tmp_path, nested=True)
    with pytest.raises(UsageError, match="'P3M-500P'") as error:
        open_set(root, "P3M-500P")
    assert error.value.hint == "did you mean 'P3M-500-P'?"
    with pytest.raises(UsageError, match="it is one set"):
        open_set(root / "train", "train")


def test_nothing_there(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        open_set(tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds no data set") as error:
        open_set(tmp_path)
    assert "image/ and alpha/" in str(error.value.hint)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="file"):
        open_set(tmp_path / "file")
    for name in ("image", "alpha"):
        (tmp_path / name).mkdir()
    with pytest.raises(InputError, match="holds no pictures"):
        open_set(tmp_path)


def test_pictures_without_alpha_are_counted_and_the_first_is_named(tmp_path):
    folder = write_set(tmp_path, [portrait(seed=i) for i in range(4)])
    for name in ("portrait1", "portrait3"):
        (folder / "alpha" / f"{name}.png").unlink()
    with pytest.raises(InputError, match=r"2 of the 4 pictures have no alpha in .*alpha, the first is portrait1\.png"):
        open_set(folder)
    for path in (folder / "alpha").iterdir():
        path.unlink()
    (folder / "alpha").rmdir()
    with pytest.raises(InputError, match="4 of the 4 pictures have no alpha"):
        open_set(folder)


def test_two_files_for_one_name(tmp_path):
    folder = write_set(tmp_path, [portrait()])
    (folder / "alpha" / "portrait0.tif").write_bytes(b"x")
    with pytest.raises(InputError, match=r"portrait0\.tif shares its name"):
        open_set(folder)


@pytest.mark.parametrize("field", ARRAYS[1:])
def test_another_size_names_the_file_and_both_sizes(tmp_path, field):
    write_set(tmp_path, [portrait(60, 80)], **EVERYTHING)
    item = open_set(tmp_path).items[0]
    write_png(getattr(item, field), getattr(portrait(80, 60), field))
    with pytest.raises(InputError, match=rf"{getattr(item, field)} is 60 x 80 pixels.*portrait0\.png 80 x 60"):
        read(item)


@pytest.mark.parametrize("field", ARRAYS)
def test_a_file_cut_short_is_named(tmp_path, field):
    write_set(tmp_path, [portrait()], **EVERYTHING)
    item = open_set(tmp_path).items[0]
    path = getattr(item, field)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match=f"{path} is damaged"):
        read(item)


def test_an_alpha_that_is_a_picture_is_refused(tmp_path):
    write_set(tmp_path, [portrait()])
    item = open_set(tmp_path).items[0]
    assert item.alpha is not None
    write_png(item.alpha, portrait().image)
    with pytest.raises(InputError, match=rf"{item.alpha} is a colour picture"):
        read(item)


def test_alphas_that_are_odd_but_clear(tmp_path):
    write_set(tmp_path, [portrait(seed=i) for i in range(3)])
    deep, grey, black = open_set(tmp_path).items
    assert deep.alpha is not None
    assert grey.alpha is not None
    assert black.alpha is not None
    write_png(deep.alpha, portrait().alpha.astype(np.uint16) * 257)
    write_png(grey.alpha, np.dstack([portrait().alpha] * 3))
    write_png(black.alpha, np.zeros_like(portrait().alpha))
    assert np.array_equal(read(deep).alpha, portrait().alpha)
    assert np.array_equal(read(grey).alpha, portrait().alpha)
    assert not read(black).alpha.any()


def test_one_pixel(tmp_path):
    pixel = np.full((1, 1, 3), 7, np.uint8)
    write_set(tmp_path, [Sample("dot", pixel, pixel[..., 0], pixel[..., 0])], trimap="trimap")
    sample = read(open_set(tmp_path).items[0])
    assert (sample.image.shape, sample.alpha.item()) == ((1, 1, 3), 7)


def test_an_item_without_alpha_cannot_be_read(tmp_path):
    write_set(tmp_path, [portrait()])
    with pytest.raises(InputError, match="has no alpha"):
        read(replace(open_set(tmp_path).items[0], alpha=None))


# --- cache -----------------------------------------------------------------------------------------------------------


def cached_bytes(sample: Sample) -> int:
    return sample.image.nbytes + sample.alpha.nbytes


def test_the_cache_gives_what_is_on_disc_and_keeps_it(tmp_path):
    write_set(tmp_path, [portrait(seed=i) for i in range(2)])
    items = open_set(tmp_path).items
    cache = Cache(10**9)
    first = cache.read(items[0])
    assert same(first, portrait(), "image", "alpha")
    for path in (tmp_path / "image").iterdir():
        path.unlink()
    assert cache.read(items[0]) is first
    with pytest.raises(InputError, match="portrait1"):
        cache.read(items[1])
    with pytest.raises(ValueError, match="read-only"):
        first.alpha[0, 0] = 1


def test_the_cache_drops_what_was_not_used_for_longest(tmp_path):
    write_set(tmp_path, [portrait(seed=i) for i in range(3)])
    items = open_set(tmp_path).items
    one = cached_bytes(read(items[0]))
    cache = Cache(2 * one + one // 2)
    first, second = cache.read(items[0]), cache.read(items[1])
    assert cache.read(items[0]) is first  # the second is now the older one
    cache.read(items[2])
    assert (len(cache), cache.bytes) == (2, 2 * one)
    assert cache.read(items[0]) is first
    assert cache.read(items[1]) is not second


def test_what_does_not_fit_is_not_kept(tmp_path):
    write_set(tmp_path, [portrait()])
    item = open_set(tmp_path).items[0]
    for size in (0, cached_bytes(read(item)) - 1):
        cache = Cache(size)
        assert cache.read(item) is not cache.read(item)
        assert cache.bytes == 0
    with pytest.raises(UsageError, match="-1 bytes"):
        Cache(-1)


def test_a_cache_that_travels_to_another_process_starts_empty(tmp_path):
    write_set(tmp_path, [portrait()])
    cache = Cache(10**6)
    cache.read(open_set(tmp_path).items[0])
    copy = pickle.loads(pickle.dumps(cache))
    assert (len(cache), len(copy), copy.max_bytes) == (1, 0, 10**6)


def test_the_cache_from_many_threads(tmp_path):
    write_set(tmp_path, [portrait(seed=i) for i in range(4)])
    items = open_set(tmp_path).items
    one = cached_bytes(read(items[0]))
    cache = Cache(2 * one)
    wrong: list[int] = []

    def work(start: int) -> None:
        for step in range(20):
            i = (start + step) % 4
            if not same(cache.read(items[i]), portrait(seed=i), "image", "alpha"):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert (len(cache), cache.bytes) == (2, 2 * one)
