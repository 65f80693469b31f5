"""Mattes that are not what they seem: the check names them, reading refuses them, and an option says what they are."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from p3m_edge.data.check import check
from p3m_edge.data.compose.backgrounds import write_places
from p3m_edge.data.compose.folder import write_set
from p3m_edge.data.compose.stock import Recipe, open_stock
from p3m_edge.data.sample import MatteForm
from p3m_edge.data.sets import open_set, read
from p3m_edge.data.synth import portrait
from p3m_edge.errors import InputError, UsageError
from p3m_edge.imageio import MaskError, turn, write_png

PORTRAITS = [portrait(seed=seed, width=96, height=128) for seed in range(2)]
INVERSE = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}
ORIENTATIONS = range(2, 9)


def a_set(folder: Path, save: Callable[[Path, NDArray[Any]], None]) -> Path:
    for index, sample in enumerate(PORTRAITS):
        for name in ("image", "alpha"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        write_png(folder / f"image/{index}.png", sample.image)
        save(folder / f"alpha/{index}.png", sample.alpha)
    return folder


def as_mask(path: Path, alpha: NDArray[Any]) -> None:
    write_png(path, (alpha > 127).astype(np.uint8))


def as_shallow(path: Path, alpha: NDArray[Any]) -> None:
    write_png(path, alpha.astype(np.uint16))


def as_transparency(path: Path, alpha: NDArray[Any]) -> None:
    Image.merge("LA", [Image.new("L", alpha.shape[::-1], 255), Image.fromarray(alpha)]).save(path)


def as_cutout(path: Path, alpha: NDArray[Any]) -> None:
    write_png(path, np.dstack([np.full_like(alpha, 7), np.full_like(alpha, 90), alpha, alpha]))


@pytest.mark.parametrize(
    ("save", "source", "exact"),
    [
        (as_mask, "mask", False),
        (as_shallow, "8-bit", True),
        (as_transparency, "alpha", True),
        (as_cutout, "alpha", True),
    ],
)
def test_values_that_are_not_what_they_seem(tmp_path, save, source, exact):
    a_set(tmp_path, save)
    report = check(tmp_path)
    assert [(p.kind, p.file.name) for p in report.problems] == [("matte", "0.png"), ("matte", "1.png")]
    assert f"--alpha-from {source}" in report.problems[0].message
    assert report.splits[0].foreground is None
    with pytest.raises(InputError, match=r"alpha/0\.png"):
        read(open_set(tmp_path).items[0])
    stored = MatteForm(source)
    assert check(tmp_path, stored=stored).problems == ()
    for item, sample in zip(open_set(tmp_path, stored=stored).items, PORTRAITS, strict=True):
        expected = sample.alpha if exact else np.where(sample.alpha > 127, 255, 0)
        assert np.array_equal(read(item).alpha, expected)


def test_other_masks_are_looked_at_too(tmp_path):
    a_set(tmp_path, write_png)
    for folder in ("facemask", "trust"):
        (tmp_path / folder).mkdir()
        for index, sample in enumerate(PORTRAITS):
            as_mask(tmp_path / folder / f"{index}.png", sample.alpha)
    report = check(tmp_path)
    assert [(p.kind, p.file.parent.name) for p in report.problems] == [
        ("matte", "trust")
    ] * 2  # a face is what is not 0
    with pytest.raises(InputError, match=r"trust/0\.png"):
        read(open_set(tmp_path).items[0])


# --- pictures that are turned by their EXIF data ---------------------------------------------------------------------


def a_turned_set(folder: Path, orientation: int, *, raw: bool, size: tuple[int, int], suffix: str = "png") -> Path:
    """A set whose pictures are stored turned; their mattes are as they look, or of the raw pixels."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    for index, sample in enumerate(PORTRAITS):
        for name in ("image", "alpha", "facemask", "fg"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        height, width = size
        image, alpha = sample.image[:height, :width], sample.alpha[:height, :width]
        stored = turn(np.ascontiguousarray(image), INVERSE[orientation])
        Image.fromarray(stored).save(folder / f"image/{index}.{suffix}", exif=exif, quality=95)
        for name, array in {"alpha": alpha, "facemask": alpha, "fg": image}.items():
            array = np.ascontiguousarray(array)
            write_png(folder / name / f"{index}.png", turn(array, INVERSE[orientation]) if raw else array)
    return folder


@pytest.mark.parametrize("size", [(96, 96), (128, 96)])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_mattes_of_raw_pixels_beside_turned_pictures(tmp_path, orientation, size):
    a_turned_set(tmp_path, orientation, raw=True, size=size)
    report = check(tmp_path)
    quarter = size != (96, 96) and orientation > 4
    partners = ["alpha", "fg", "facemask"] if quarter else ["alpha", "facemask"]
    assert [(p.kind, p.file.parent.name) for p in report.problems] == [("turned", name) for name in partners] * 2
    assert ("the size is that" if quarter else "the edges are those") in report.problems[0].message
    assert f"orientation {orientation}" in report.problems[0].message
    with pytest.raises(InputError, match=r"alpha/0\.png does not fit 0\.png") as caught:
        read(open_set(tmp_path).items[0])
    assert "--alpha-turned raw" in str(caught.value.hint)
    raw = MatteForm(turned="raw")
    assert check(tmp_path, stored=raw).problems == ()
    sample = read(open_set(tmp_path, stored=raw).items[0])
    height, width = size
    assert np.array_equal(sample.image, PORTRAITS[0].image[:height, :width])
    assert np.array_equal(sample.alpha, PORTRAITS[0].alpha[:height, :width])
    assert sample.foreground is not None
    assert sample.face_mask is not None
    assert np.array_equal(sample.foreground, sample.image)
    assert np.array_equal(sample.face_mask, sample.alpha)


@pytest.mark.parametrize("size", [(96, 96), (128, 96)])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_mattes_of_what_turned_pictures_look_like(tmp_path, orientation, size):
    a_turned_set(tmp_path, orientation, raw=False, size=size, suffix="jpg")
    for stored in (MatteForm(), MatteForm(turned="upright")):
        assert check(tmp_path, stored=stored).problems == ()
        sample = read(open_set(tmp_path, stored=stored).items[1])
        assert np.array_equal(sample.alpha, PORTRAITS[1].alpha[: size[0], : size[1]])


def test_mattes_that_are_turned_themselves_need_no_question(tmp_path):
    a_turned_set(tmp_path, 3, raw=False, size=(128, 96))
    exif = Image.Exif()
    exif[0x0112] = 3
    for path in (tmp_path / "alpha").iterdir():
        Image.open(path).rotate(180).save(path, exif=exif)
    for name in ("facemask", "fg"):
        shutil.rmtree(tmp_path / name)
    forms: tuple[MatteForm, ...] = (MatteForm(), MatteForm(turned="raw"), MatteForm(turned="upright"))
    for stored in forms:
        assert check(tmp_path, stored=stored).problems == ()
        sample = read(open_set(tmp_path, stored=stored).items[0])
        assert np.array_equal(sample.alpha, PORTRAITS[0].alpha)


def test_a_matte_without_evidence_is_a_question_and_an_even_one_is_none(tmp_path):
    a_turned_set(tmp_path, 3, raw=False, size=(128, 96))
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.new("RGB", (96, 128), (9, 9, 9)).save(tmp_path / "image/0.png", exif=exif)
    write_png(tmp_path / "alpha/1.png", np.full((128, 96), 255, np.uint8))
    shutil.rmtree(tmp_path / "fg")
    shutil.rmtree(tmp_path / "facemask")
    report = check(tmp_path)
    assert [(p.kind, p.file.name) for p in report.problems] == [("turned", "0.png")]
    assert "cannot be told" in report.problems[-1].message
    with pytest.raises(InputError, match="cannot be told"):
        read(open_set(tmp_path).items[0])
    assert read(open_set(tmp_path).items[1]).alpha.min() == 255


def test_whoever_reads_mattes_is_told_and_can_say(tmp_path):
    """Places and composites leave out such portraits, with what to do; with it said, they are made of them."""
    a_set(tmp_path / "set", as_transparency)
    refused = write_places(tmp_path / "set", tmp_path / "none", 20, workers=1)
    assert (refused.parts, len(refused.skipped)) == (0, 2)
    assert "--alpha-from alpha" in refused.skipped[0]
    stored = MatteForm("alpha")
    assert write_places(tmp_path / "set", tmp_path / "places", 20, stored=stored, workers=1).skipped == ()
    folders = [(tmp_path / "set", 1.0)], [(tmp_path / "set/image", 1.0)]
    made = {}
    for form in (MatteForm(), stored):
        stock = open_stock(*folders, form)
        recipe = Recipe(
            seed=0, width=64, height=64, quality=0, colours=False, whole=0.0, empty=0.0, stored=form,
            portraits=tuple(one.source for one in stock.portraits),
            backgrounds=tuple(one.source for one in stock.backgrounds),
        )  # fmt: skip
        made[form] = write_set(tmp_path / f"out-{form.source}", stock, recipe, 2, workers=1)
    assert "--alpha-from alpha" in made[MatteForm()].skipped[0].reason
    assert (made[stored].made, made[stored].missing) == (2, 0)
    with pytest.raises(UsageError, match="other settings: stored"):
        write_set(tmp_path / "out-alpha", stock, msgspec.structs.replace(recipe, stored=MatteForm()), 2, workers=1)


def test_a_hint_about_alphas_is_not_given_for_other_files(tmp_path):
    a_set(tmp_path, write_png)
    (tmp_path / "facemask").mkdir()
    for index, sample in enumerate(PORTRAITS):
        as_transparency(tmp_path / f"facemask/{index}.png", sample.alpha)
    with pytest.raises(MaskError, match=r"facemask/0\.png") as caught:
        read(open_set(tmp_path).items[0])
    assert "--alpha-from" not in str(caught.value.hint)
    assert "grey picture" in str(caught.value.hint)
