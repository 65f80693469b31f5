"""``p3m-edge run`` on pictures that are more than opaque sRGB: transparency, colour profiles, several pages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from p3m_edge import imageio
from p3m_edge.cli import main
from p3m_edge.imageio import read_image, write_png
from p3m_edge.pictures.results import KINDS, Recipe
from p3m_edge.runtimes import Matting
from tests import icc
from tests.portraits import portrait

ALL = ("--alpha", "--cutout", "--blur", "--background", "#20a040")


def run(capsys, *arguments) -> tuple[int, dict[str, Any], str]:
    code = main(["run", *map(str, arguments), "--json"])
    shown = capsys.readouterr()
    return code, json.loads(shown.out), shown.err


def stored(path: Path) -> NDArray[Any]:
    with Image.open(path) as image:
        return np.asarray(image)


def unchanged(path: Path) -> NDArray[Any]:
    """As OpenCV reads it: BGR, at full depth."""
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    return pixels


# --- transparency ----------------------------------------------------------------------------------------------------

SECRET = (250, 3, 240)


def erased(tmp_path: Path, dtype: Any = np.uint8) -> tuple[Path, NDArray[Any], NDArray[Any]]:
    """A picture of which the right half was erased, softly: what was there is still in the file's colours."""
    one = int(np.iinfo(dtype).max) // 255
    colours = portrait(80, 120).image.astype(dtype) * dtype(one)
    given = np.clip((60 - np.arange(120)) * 16, 0, 255).astype(dtype) * dtype(one)
    alpha = np.tile(given, (80, 1))
    colours[alpha == 0] = np.array(SECRET) * one
    write_png(tmp_path / "erased.png", np.dstack([colours, alpha]))
    return tmp_path / "erased.png", colours, alpha


def looks_like_the_secret(pixels: NDArray[Any]) -> NDArray[np.bool_]:
    one = int(np.iinfo(pixels.dtype).max) // 255
    return np.asarray(np.abs(pixels[..., :3].astype(int) - np.array(SECRET) * one).max(axis=-1) < 60 * one)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_what_was_erased_stays_erased(artefact, tmp_path, capsys, dtype):
    source, _, given = erased(tmp_path, dtype)
    code, _, _ = run(capsys, artefact, source, "--out", tmp_path / "out", *ALL)
    assert code == 0
    picture = read_image(source)
    assert picture.alpha is not None
    with Matting(artefact) as matting:
        alpha = matting(imageio.flatten(picture.rgb, picture.alpha))
    top = np.iinfo(dtype).max
    expected = np.rint(alpha * (given / np.float32(top)) * top)
    made = {kind: unchanged(tmp_path / f"out/erased.{kind}.png") for kind in KINDS}
    for kind in KINDS:
        assert made[kind].dtype == dtype
    assert np.abs(made["alpha"].astype(float) - expected).max() <= 1
    assert expected.max() > 0.1 * top
    assert np.array_equal(made["cutout"][..., 3], made["alpha"])
    assert np.array_equal(made["blur"][..., 3], given)
    gone = given == 0
    green = np.array([64, 160, 32]) * (top // 255)
    assert (made["composite"][gone] == green).all()
    for kind in ("cutout", "composite", "blur"):
        assert not looks_like_the_secret(made[kind][..., 2::-1]).any()


def test_hidden_colours_do_not_even_reach_the_network(artefact, tmp_path, capsys):
    source, colours, alpha = erased(tmp_path)
    colours[alpha == 0] = np.random.default_rng(0).integers(0, 256, (int((alpha == 0).sum()), 3))
    write_png(tmp_path / "other.png", np.dstack([colours, alpha]))
    for name in (source, tmp_path / "other.png"):
        assert run(capsys, artefact, name, "--out", tmp_path / "out", *ALL)[0] == 0
    for kind in KINDS:
        assert np.array_equal(stored(tmp_path / f"out/erased.{kind}.png"), stored(tmp_path / f"out/other.{kind}.png"))


def test_what_is_opaque_is_as_without_an_alpha_channel():
    sample = portrait(60, 80)
    opaque = imageio.Picture(sample.image, Path("a.png"), sample.image)
    given = np.full((60, 80), 255, np.uint8)
    given[:, 60:] = 128
    partly = imageio.Picture(sample.image, Path("a.png"), sample.image, alpha=given)
    recipe = Recipe(KINDS, (9, 200, 30), force=False)
    alpha = sample.alpha.astype(np.float32) / np.float32(255)
    whole, part = (dict(recipe.render(picture, alpha, KINDS)) for picture in (opaque, partly))
    for kind in KINDS:
        left, right = (made[kind][:, :60].reshape(60, 60, -1)[..., :3] for made in (part, whole))
        assert np.array_equal(left, right)
    assert np.array_equal(part["cutout"][..., :3], whole["cutout"][..., :3])  # straight colours
    assert np.abs(part["cutout"][:, 60:, 3] - sample.alpha[:, 60:] * (128 / 255)).max() <= 0.5


@pytest.mark.parametrize("form", ["palette", "key", "grey", "gif"])
def test_other_kinds_of_transparency(artefact, tmp_path, capsys, form):
    index = np.zeros((40, 60), np.uint8)
    index[:, 30:] = 1
    suffix = "gif" if form == "gif" else "png"
    options: dict[str, Any] = {}
    if form in ("palette", "gif"):
        image = Image.fromarray(index, "P")
        image.putpalette([40, 90, 120, *SECRET])
        options = {"transparency": 1}
    elif form == "key":
        image = Image.fromarray(np.array([(40, 90, 120), SECRET], np.uint8)[index])
        options = {"transparency": SECRET}
    else:
        image = Image.merge("LA", [Image.fromarray(index * 200 + 30), Image.fromarray((1 - index) * 255)])
    image.save(tmp_path / f"a.{suffix}", **options)
    code, _, _ = run(capsys, artefact, tmp_path / f"a.{suffix}", "--out", tmp_path / "out", *ALL)
    assert code == 0
    assert not stored(tmp_path / "out/a.cutout.png")[:, 30:, 3].any()
    assert not stored(tmp_path / "out/a.blur.png")[:, 30:, 3].any()
    assert (stored(tmp_path / "out/a.composite.png")[:, 30:] == (32, 160, 64)).all()


def test_formats_that_have_room_for_transparency_and_leave_it_empty(artefact, tmp_path, capsys):
    pixels = portrait(40, 60).image
    Image.fromarray(np.dstack([pixels, np.zeros((40, 60), np.uint8)])).save(tmp_path / "a.tga")
    assert read_image(tmp_path / "a.tga").alpha is None
    assert np.array_equal(read_image(tmp_path / "a.tga").rgb, pixels)


def test_a_background_that_is_transparent_in_places_is_on_white_and_that_is_said(artefact, photo, tmp_path, capsys):
    source, _, _ = erased(tmp_path)
    picture = photo(tmp_path / "a.png", 80, 120)
    code, _, told = run(capsys, artefact, picture, "--out", tmp_path / "out", "--background", source)
    assert code == 0
    assert "is transparent in places; it is shown on white" in told
    plain = portrait(80, 120).image
    recipe = Recipe(("composite",), read_image(source), force=False)
    picture = imageio.Picture(plain, Path("a.png"), plain)
    ((_, made),) = recipe.render(picture, np.zeros((80, 120), np.float32), ("composite",))
    assert (made[:, 60:] == 255).all()


# --- colours ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("matrix", [icc.P3, icc.ADOBE], ids=["P3", "Adobe RGB"])
def test_the_network_sees_srgb_and_results_carry_the_profile_they_are_in(artefact, tmp_path, capsys, matrix, dtype):
    profile, top = icc.rgb_profile(matrix), int(np.iinfo(dtype).max)
    pixels = portrait(80, 120).image.astype(dtype) * dtype(top // 255)
    write_png(tmp_path / "wide.png", pixels, icc_profile=profile)
    code, _, _ = run(capsys, artefact, tmp_path / "wide.png", "--out", tmp_path / "out", *ALL)
    assert code == 0
    narrow = np.rint(icc.to_srgb(pixels / top, matrix) * 255).astype(np.uint8)
    with Matting(artefact) as matting:
        expected, wrong = matting(narrow), matting((pixels // (top // 255)).astype(np.uint8))
    made = read_image(tmp_path / "out/wide.alpha.png").own[..., 0] / top
    assert np.abs(made - expected).mean() < 0.1 * np.abs(made - wrong).mean()
    for kind in ("cutout", "composite", "blur"):
        with Image.open(tmp_path / f"out/wide.{kind}.png") as image:
            assert image.info["icc_profile"] == profile
    with Image.open(tmp_path / "out/wide.alpha.png") as image:
        assert "icc_profile" not in image.info
    alpha = read_image(tmp_path / "out/wide.alpha.png").own[..., 0]
    assert np.array_equal(read_image(tmp_path / "out/wide.cutout.png").own[alpha == top], pixels[alpha == top])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("matrix", [icc.P3, icc.ADOBE, None], ids=["P3", "Adobe RGB", "none"])
def test_a_colour_that_the_user_names_means_srgb_in_the_result(tmp_path, matrix, dtype):
    profile = None if matrix is None else icc.rgb_profile(matrix)
    pixels = portrait(20, 30).image.astype(dtype) * dtype(np.iinfo(dtype).max // 255)
    picture = imageio.Picture(portrait(20, 30).image, Path("a.png"), pixels, profile)
    nothing = np.zeros((20, 30), np.float32)
    for colour in ((255, 0, 0), (32, 160, 64), (0, 255, 0), (250, 250, 250)):
        ((_, made),) = Recipe(("composite",), colour, force=False).render(picture, nothing, ("composite",))
        write_png(tmp_path / "made.png", made, icc_profile=profile)
        seen = read_image(tmp_path / "made.png").rgb
        assert np.abs(seen.astype(int) - colour).max() <= 4
        if profile is None:
            assert (made == np.array(colour) * (int(np.iinfo(dtype).max) // 255)).all()


def test_a_background_picture_keeps_its_colours_whatever_space_they_are_in(tmp_path):
    coarse = portrait(20, 30, seed=3).image // 2 + 60
    write_png(tmp_path / "beach.png", coarse, icc_profile=icc.rgb_profile(icc.ADOBE))
    beach = read_image(tmp_path / "beach.png")
    nothing = np.zeros((20, 30), np.float32)
    for matrix in (icc.P3, icc.ADOBE, None):
        profile = None if matrix is None else icc.rgb_profile(matrix)
        picture = imageio.Picture(coarse, Path("a.png"), coarse, profile)
        ((_, made),) = Recipe(("composite",), beach, force=False).render(picture, nothing, ("composite",))
        write_png(tmp_path / "made.png", made, icc_profile=profile)
        assert np.abs(read_image(tmp_path / "made.png").rgb.astype(int) - beach.rgb).max() <= 6
        if matrix is icc.ADOBE:
            assert np.array_equal(made, beach.own)


def test_grey_with_a_profile_gives_results_in_srgb(artefact, tmp_path, capsys):
    grey = portrait(40, 60).image[..., 0]
    Image.fromarray(grey).save(tmp_path / "grey.png", icc_profile=icc.grey_profile(1.0))
    code, _, _ = run(capsys, artefact, tmp_path / "grey.png", "--out", tmp_path / "out", "--blur")
    assert code == 0
    with Image.open(tmp_path / "out/grey.blur.png") as image:
        assert image.mode == "RGB"
        assert image.info["icc_profile"] == read_image(tmp_path / "grey.png").icc_profile


def test_a_damaged_profile_is_said(artefact, tmp_path, capsys):
    Image.fromarray(portrait(40, 60).image).save(tmp_path / "a.png", icc_profile=icc.rgb_profile(icc.P3)[:200])
    code, report, told = run(capsys, artefact, tmp_path / "a.png", "--out", tmp_path / "out")
    assert code == 0
    assert "a.png: its colour profile is damaged and was not used" in told
    assert report["pictures"][0]["remarks"] == ["its colour profile is damaged and was not used"]


# --- pages and frames ------------------------------------------------------------------------------------------------


def several(path: Path, count: int = 3, **options: Any) -> list[NDArray[np.uint8]]:
    pages = [portrait(40, 60, seed).image for seed in range(count)]
    first, *others = (Image.fromarray(page) for page in pages)
    first.save(path, save_all=True, append_images=others, **options)
    return pages


@pytest.mark.parametrize(
    ("name", "what"), [("scan.tif", "pages"), ("a.gif", "frames"), ("a.webp", "frames"), ("a.png", "frames")]
)
def test_further_pages_are_said_and_matted_by_option(artefact, tmp_path, capsys, name, what):
    several(tmp_path / name, **({"lossless": True} if name == "a.webp" else {}))
    stem = Path(name).stem
    code, report, told = run(capsys, artefact, tmp_path / name, "--out", tmp_path / "first")
    assert code == 0
    assert f"{name}: the first of 3 {what} alone was read" in told
    assert "--pages all" in told
    assert report["pictures"][0]["remarks"] == [f"the first of 3 {what} alone was read"]
    assert len(list((tmp_path / "first").iterdir())) == 2
    code, report, told = run(capsys, artefact, tmp_path / name, "--out", tmp_path / "all", "--pages", "all")
    assert code == 0
    assert "the first" not in told
    assert [item["page"] for item in report["pictures"]] == [1, 2, 3]
    with Matting(artefact) as matting, Image.open(tmp_path / name) as image:
        for index in range(3):
            image.seek(index)
            alpha = matting(np.asarray(image.convert("RGB")))
            made = stored(tmp_path / f"all/{stem}-{index + 1}.alpha.png")
            assert np.array_equal(made, np.rint(alpha * 255).astype(np.uint8))


def test_many_remarks_are_cut(artefact, tmp_path, capsys):
    for index in range(7):
        several(tmp_path / f"{index}.gif", 2)
    code, report, told = run(capsys, artefact, tmp_path, "--out", tmp_path / "out", "--alpha")
    assert code == 0
    assert told.count("the first of 2 frames") == 5
    assert "there are 2 more remarks" in told
    assert sum(len(item["remarks"]) for item in report["pictures"]) == 7


def test_a_damaged_page_does_not_cost_the_others(artefact, tmp_path, capsys):
    several(tmp_path / "a.gif")
    data = (tmp_path / "a.gif").read_bytes()
    (tmp_path / "a.gif").write_bytes(data[: len(data) - 300])
    code, report, _ = run(capsys, artefact, tmp_path / "a.gif", "--out", tmp_path / "out", "--pages", "all", "--alpha")
    assert code == 1
    assert [(item["page"], item["status"]) for item in report["pictures"]] == [(1, "done"), (2, "done"), (3, "failed")]
    assert run(capsys, artefact, tmp_path / "a.gif", "--out", tmp_path / "first")[0] == 0


# --- files that are none, and large ones -----------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_in_a_folder_is_named_and_the_rest_is_matted(artefact, photo, tmp_path):
    photo(tmp_path / "in/a.png")
    os.mkfifo(tmp_path / "in/b.png")
    command = [sys.executable, "-m", "p3m_edge", "run", artefact, tmp_path / "in", "--out", tmp_path / "out", "--json"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=300)
    assert done.returncode == 1
    outcomes = json.loads(done.stdout)["pictures"]
    assert [(item["status"], item["reason"]) for item in outcomes] == [
        ("done", None),
        ("failed", "cannot be read: it is a pipe, not a regular file"),
    ]


def test_more_or_fewer_pixels_may_be_allowed(artefact, tmp_path, capsys):
    write_png(tmp_path / "large.png", np.zeros((1000, 1100), np.uint8))
    code, report, _ = run(capsys, artefact, tmp_path / "large.png", "--out", tmp_path / "out", "--max-megapixels", "1")
    assert code == 1
    assert "more than 1 million pixels, 1.1: reading it takes about 0.011 GB" in report["error"]["message"]
    code, _, _ = run(capsys, artefact, tmp_path / "large.png", "--out", tmp_path / "out", "--max-megapixels", "2")
    assert code == 0


def test_a_photograph_without_its_last_marker_is_matted_and_that_is_said(artefact, photo, tmp_path, capsys):
    source = photo(tmp_path / "a.jpg")
    source.write_bytes(source.read_bytes()[:-2])
    code, _, told = run(capsys, artefact, source, "--out", tmp_path / "out")
    assert code == 0
    assert "a.jpg: its end marker is missing; all pixels are there" in told
