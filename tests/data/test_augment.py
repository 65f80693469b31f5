"""Augmentation: what stays together, what is drawn, and what must not change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from p3m_edge.data.augment import (
    NOISE,
    cast,
    chain,
    colour_jitter,
    dark,
    gaussian_blur,
    greyscale,
    jpeg,
    noise,
    on_backgrounds,
    published,
    turned,
)
from p3m_edge.data.compose.vary import other_clothes
from p3m_edge.data.pixels import blend
from p3m_edge.data.sample import Sample, Transform, generator
from p3m_edge.data.trimap import make_trimap
from p3m_edge.errors import InputError, UsageError
from tests.portraits import portrait

ARRAYS = ("image", "alpha", "trimap", "foreground", "background", "face_mask")
ALWAYS: dict[str, Any] = {"probability": 1.0}


def rng(seed: int = 0) -> np.random.Generator:
    return generator(0, 0, seed)


def equation_error(sample: Sample) -> float:
    """The greatest difference between I and aF + (1-a)B, in 8-bit steps."""
    assert sample.foreground is not None
    assert sample.background is not None
    share = sample.alpha[..., None] / 255
    composed = share * sample.foreground + (1 - share) * sample.background
    return float(np.abs(composed - sample.image).max())


def colours(*shape: int, seed: int = 9) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def located(height: int, width: int) -> Sample:
    """A sample whose colours tell the row and column they came from; the unknown region is known."""
    rows, columns = np.mgrid[:height, :width]
    image = np.dstack([rows % 256, columns % 256, rows // 256 * 16 + columns // 256]).astype(np.uint8)
    alpha = np.zeros((height, width), np.uint8)
    alpha[height // 4 : height // 2, width // 4 : width // 2] = 255
    return Sample("located", image, alpha)


def origin(image: NDArray[np.uint8]) -> tuple[int, int, bool]:
    """Row and column of the upper left corner of a crop of :func:`located`, and whether it is mirrored."""
    mirrored = bool(image[0, 0, 1] == (int(image[0, 1, 1]) + 1) % 256)
    red, green, blue = (int(v) for v in image[0, -1 if mirrored else 0])
    return red + 256 * (blue // 16), green + 256 * (blue % 16), mirrored


# --- published -------------------------------------------------------------------------------------------------------


def test_everything_comes_out_at_the_size_of_the_network():
    sample = published((64, 96), 48)(portrait(120, 160), rng())
    for name in ARRAYS:
        assert getattr(sample, name).shape[:2] == (48, 48)
        assert getattr(sample, name).dtype == np.uint8
        assert getattr(sample, name).flags.c_contiguous


def test_a_crop_is_a_part_of_the_picture_and_all_arrays_have_the_same_part():
    flips = 0
    for seed in range(40):
        whole = located(80, 120)
        whole = replace(whole, foreground=whole.image, background=255 - whole.image, face_mask=whole.alpha)
        sample = published((32,), 32)(whole, rng(seed))
        top, left, mirrored = origin(sample.image)
        flips += mirrored
        step = -1 if mirrored else 1
        for name in ("image", "alpha", "foreground", "background", "face_mask"):
            part = getattr(whole, name)[top : top + 32, left : left + 32][:, ::step]
            assert np.array_equal(getattr(sample, name), part)
        kernels = (make_trimap(whole.alpha, kernel)[top : top + 32, left : left + 32] for kernel in range(15, 31))
        assert sample.trimap is not None
        drawn = sample.trimap[:, ::step]
        assert any(np.array_equal(drawn, trimap) for trimap in kernels)
    assert 8 <= flips <= 32


def test_the_corner_is_an_unknown_pixel_or_any_and_both_fit():
    whole = located(300, 400)
    corners = [origin(published((100,), 100, around_unknown=1)(whole, rng(i)).image)[:2] for i in range(60)]
    unknown = make_trimap(whole.alpha, 30) == 128  # the widest that may have been drawn
    assert all(unknown[corner] for corner in corners)
    assert len(set(corners)) > 30
    anywhere = [origin(published((100,), 100, around_unknown=0)(whole, rng(i)).image)[:2] for i in range(200)]
    tops, lefts = zip(*anywhere, strict=True)
    assert min(tops) < 20
    assert min(lefts) < 30
    assert 180 < max(tops) <= 200
    assert 270 < max(lefts) <= 300
    assert sum(bool(unknown[corner]) for corner in anywhere) < 100


def test_half_of_the_corners_are_unknown_pixels():
    whole = located(1000, 1000)
    unknown = make_trimap(whole.alpha, 30) == 128
    drawn = [origin(published((64,), 64)(whole, rng(i)).image)[:2] for i in range(100)]
    assert 35 <= sum(bool(unknown[corner]) for corner in drawn) <= 70


def test_the_last_row_and_column_can_be_reached_and_a_crop_of_the_whole_picture_works():
    whole = located(33, 33)
    corners = {origin(published((32,), 32, around_unknown=0)(whole, rng(i)).image)[:2] for i in range(40)}
    assert corners == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert origin(published((33,), 33)(whole, rng()).image)[:2] == (0, 0)


def test_unknown_pixels_from_which_no_crop_fits_are_not_drawn():
    whole = located(60, 60)
    alpha = np.zeros((60, 60), np.uint8)
    alpha[-2:, -2:] = 255  # the unknown region is in the last corner
    sample = published((40,), 40, around_unknown=1)(replace(whole, alpha=alpha), rng())
    top, left, _ = origin(sample.image)
    assert 0 <= top <= 20
    assert 0 <= left <= 20


@pytest.mark.parametrize(
    ("height", "width", "sides"), [(200, 300, {64, 96, 128}), (112, 300, {64, 96}), (70, 90, {64}), (50, 90, {50})]
)
def test_the_crops_side_follows_the_rule_for_small_pictures(height, width, sides):
    """The slope of a ramp tells how much of the width the crop has."""
    ramp = np.tile(np.linspace(0, 255, width).astype(np.float32), (height, 1))
    picture = np.repeat(np.rint(ramp).astype(np.uint8)[..., None], 3, axis=2)
    drawn = set()
    for seed in range(40):
        whole = Sample("ramp", picture, np.zeros((height, width), np.uint8))
        sample = published((64, 96, 128), 64)(whole, rng(seed))
        slope = abs(int(sample.image[0, -1, 0]) - int(sample.image[0, 0, 0])) / 255 * (width - 1)
        drawn.add(min({height, 64, 96, 128}, key=lambda side: abs(side - slope)))
    assert drawn == sides


def test_one_pixel_and_one_row():
    for shape in ((1, 1), (1, 40), (40, 1)):
        alpha = np.full(shape, 100, np.uint8)
        sample = published((64,), 32)(Sample("dot", np.full((*shape, 3), 9, np.uint8), alpha), rng())
        assert (sample.image == 9).all()
        assert (sample.alpha == 100).all()
        assert sample.trimap is not None
        assert (sample.trimap == 128).all()


def test_all_is_resized_bilinearly_and_the_face_mask_stays_binary():
    whole = replace(portrait(96, 96), name="x")
    sample = published((96,), 40, flip=0)(whole, rng(3))
    for name in ("image", "alpha", "foreground", "background"):
        expected = cv2.resize(getattr(whole, name), (40, 40), interpolation=cv2.INTER_LINEAR)
        assert np.array_equal(getattr(sample, name), expected)
    trimaps = [
        cv2.resize(make_trimap(whole.alpha, kernel), (40, 40), interpolation=cv2.INTER_LINEAR)
        for kernel in range(15, 31)
    ]
    assert sample.trimap is not None
    drawn = sample.trimap
    assert any(np.array_equal(drawn, trimap) for trimap in trimaps)
    assert set(np.unique(drawn)) > {0, 128}
    assert sample.face_mask is not None
    assert set(np.unique(sample.face_mask)) == {0, 255}
    assert whole.face_mask is not None
    assert abs((sample.face_mask != 0).mean() - (whole.face_mask != 0).mean()) < 0.01


@pytest.mark.parametrize("alpha", [0, 255])
def test_an_empty_unknown_region_does_not_matter(alpha):
    whole = replace(portrait(80, 80), alpha=np.full((80, 80), alpha, np.uint8))
    sample = published((40,), 32, around_unknown=1)(whole, rng())
    assert (sample.trimap == alpha).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: published(()),
        lambda: published((0, 512)),
        lambda: published(output=0),
        lambda: published(flip=1.5),
        lambda: published(around_unknown=-0.1),
        lambda: on_backgrounds([colours(4, 4)], probability=2),
        lambda: colour_jitter(hue=-1),
        lambda: greyscale(probability=-0.1),
        lambda: gaussian_blur(probability=2),
        lambda: jpeg(probability=-1),
        lambda: dark(probability=2),
        lambda: cast(probability=2),
        lambda: turned(probability=-1),
        lambda: noise(probability=2),
    ],
)
def test_impossible_options(make):
    with pytest.raises(UsageError):
        make()


# --- all of them -----------------------------------------------------------------------------------------------------


def every() -> dict[str, Transform]:
    return {
        "published": published((32, 64), 32),
        "on_backgrounds": on_backgrounds([colours(90, 70), colours(10, 20)], **ALWAYS),
        "colour_jitter": colour_jitter(**ALWAYS),
        "gaussian_blur": gaussian_blur(**ALWAYS),
        "jpeg": jpeg(**ALWAYS),
        "cast": cast(**ALWAYS),
        "turned": turned(**ALWAYS),
    }


@pytest.mark.parametrize("name", every())
def test_it_writes_into_no_array_and_repeats_itself(name):
    transform = every()[name]
    whole = portrait(80, 90)
    for field in ARRAYS:
        getattr(whole, field).setflags(write=False)
    first, again, other = (transform(whole, rng(seed)) for seed in (1, 1, 2))
    for field in ARRAYS:
        assert np.array_equal(getattr(first, field), getattr(again, field))
        assert np.array_equal(getattr(whole, field), getattr(portrait(80, 90), field))
    assert not np.array_equal(first.image, other.image)
    assert not np.array_equal(first.image, whole.image)


@pytest.mark.parametrize("name", [name for name in every() if name not in {"published", "turned"}])
def test_what_is_not_about_geometry_leaves_the_ground_truth(name):
    whole = portrait(80, 90)
    sample = every()[name](whole, rng())
    for field in ("alpha", "trimap", "face_mask"):
        assert np.array_equal(getattr(sample, field), getattr(whole, field))


@pytest.mark.parametrize("name", ["gaussian_blur", "jpeg"])
def test_what_breaks_the_equation_drops_the_colours(name):
    sample = every()[name](portrait(80, 90), rng())
    assert sample.foreground is None
    assert sample.background is None


def test_a_probability_of_zero_changes_nothing():
    whole = portrait()
    never: dict[str, Any] = {"probability": 0.0}
    makers = (colour_jitter, greyscale, gaussian_blur, jpeg, cast, turned)
    steps = (on_backgrounds([colours(9, 9)], **never), *(make(**never) for make in makers))
    assert chain(*steps)(whole, rng()) is whole


def test_a_chain_keeps_order_and_one_generator():
    def add(sample: Sample, rng: np.random.Generator) -> Sample:
        return replace(sample, name=f"{sample.name} {rng.integers(1000)}")

    def mark(sample: Sample, _rng: np.random.Generator) -> Sample:
        return replace(sample, name=f"{sample.name} mark")

    expected = rng()
    name = f"portrait0 {expected.integers(1000)} mark {expected.integers(1000)}"
    assert chain(add, mark, add)(portrait(), rng()).name == name
    assert chain()(whole := portrait(), rng()) is whole


def test_crops_keep_the_equation():
    """Cutting and flipping exactly; the portrait itself is rounded to half a step."""
    assert equation_error(portrait(120, 160)) <= 0.5
    for seed in range(10):
        assert equation_error(published((64,), 64)(portrait(120, 160), rng(seed))) <= 0.5


# --- other backgrounds -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(60, 80), (20, 500), (500, 20), (7, 9), (1, 1)])
def test_another_background_of_any_size(shape):
    whole = portrait()
    behind = colours(*shape)
    sample = on_backgrounds([behind], **ALWAYS)(whole, rng())
    assert equation_error(sample) <= 0.5
    assert np.array_equal(sample.image[whole.alpha == 255], whole.image[whole.alpha == 255])
    assert sample.background is not None
    assert sample.background.shape == whole.image.shape
    assert np.array_equal(sample.image[whole.alpha == 0], sample.background[whole.alpha == 0])
    if shape == (60, 80):
        assert np.array_equal(sample.background, behind)


def test_the_background_keeps_its_aspect_and_is_cropped_at_random():
    ramp = np.repeat(np.arange(240, dtype=np.uint8)[None, :, None], 3, axis=2).repeat(60, axis=0)
    lefts = set()
    for seed in range(30):
        behind = on_backgrounds([ramp], **ALWAYS)(portrait(60, 80), rng(seed)).background
        assert behind is not None
        assert np.array_equal(np.diff(behind[0, :, 0].astype(int)), np.ones(79))  # not scaled
        lefts.add(int(behind[0, 0, 0]))
    assert len(lefts) > 15
    assert min(lefts) < 30
    assert 130 < max(lefts) <= 160


def test_there_must_be_a_background():
    with pytest.raises(InputError, match="there are no backgrounds"):
        on_backgrounds([])


def test_a_foreground_that_is_not_there_is_estimated_for_another_background():
    sample = on_backgrounds([colours(9, 9)], **ALWAYS)(replace(portrait(), foreground=None), rng())
    assert equation_error(sample) <= 0.5
    known = portrait().foreground
    assert known is not None
    assert sample.foreground is not None
    certain = sample.alpha == 255
    assert np.abs(sample.foreground[certain].astype(int) - known[certain]).max() <= 2


def test_a_crop_that_does_not_fit_gives_the_largest_that_does():
    """Pictures in 3:4 must not be seen in small parts alone."""
    sides = [int(np.ptp(published((20, 40, 60, 90), 64)(located(120, 70), rng(i)).image[..., 0])) for i in range(60)]
    assert sum(side > 50 for side in sides) > 20


# --- clothes ---------------------------------------------------------------------------------------------------------


def test_other_clothes_change_the_person_alone_and_not_the_head():
    textures = [np.random.default_rng(7).integers(0, 255, (50, 70, 3), np.uint8)]
    alpha, face = np.zeros((160, 160), np.uint8), np.zeros((160, 160), np.uint8)
    alpha[20:, 40:120] = 255
    alpha[20:, 37:40] = 128  # an edge
    face[30:60, 65:95] = 255
    person, behind = np.full((160, 160, 3), 90, np.uint8), np.full((160, 160, 3), 200, np.uint8)
    image = blend(person, behind, alpha)
    sample = Sample("one", image, alpha, None, person, behind, face)
    changed = 0
    for seed in range(12):
        found = other_clothes(textures, probability=1)(sample, rng(seed))
        assert found.alpha is alpha
        different = (found.image != image).any(axis=-1)
        assert not different[alpha == 0].any()
        assert not different[30:60, 65:95].any()
        assert equation_error(found) <= 2.5
        changed += different[100:, 50:110].mean() > 0.2
    assert changed >= 8
    assert other_clothes(textures, probability=1)(replace(sample, face_mask=None), rng()).image is image
    assert other_clothes(textures, probability=0)(sample, rng()).image is image


# --- less light, noise ------------------------------------------------------------------------------------------------


def test_less_light_keeps_the_equation():
    for seed in range(20):
        sample = dark(**ALWAYS)(portrait(), rng(seed))
        assert equation_error(sample) <= 1.8
        assert sample.image.mean() < 0.8 * portrait().image.mean()


def test_light_of_another_colour_keeps_the_equation_and_about_the_luma():
    for seed in range(20):
        sample = cast(**ALWAYS)(portrait(), rng(seed))
        assert equation_error(sample) <= 2.5
        lumas = [image @ np.array([0.299, 0.587, 0.114]) for image in (sample.image, portrait().image)]
        assert abs(lumas[0].mean() - lumas[1].mean()) < 12


def test_a_turned_picture_is_a_part_of_it_and_nothing_from_beyond():
    rows, columns = np.mgrid[:90, :60]
    image = np.stack([rows * 2, columns * 2, np.zeros((90, 60))], axis=-1).astype(np.uint8)
    mask = np.where(columns < 30, np.uint8(255), np.uint8(0))
    whole = Sample("one", image, mask, face_mask=mask, trust=mask)
    shapes = set()
    for seed in range(40):
        sample = turned(**ALWAYS)(whole, rng(seed))
        assert {array.shape[:2] for array in sample.arrays.values()} == {sample.alpha.shape}
        down, along = np.mgrid[: sample.alpha.shape[0], : sample.alpha.shape[1]]
        places = np.column_stack([down.ravel(), along.ravel(), np.ones(down.size)])
        found = sample.image[..., :2].reshape(-1, 2) / 2
        left = found - places @ np.linalg.lstsq(places, found, rcond=None)[0]
        assert np.abs(left).max() < 1.5  # one turn of the whole: nothing is repeated at the borders
        assert sample.face_mask is not None
        assert sample.trust is not None
        assert set(np.unique(sample.face_mask)) <= {0, 255}
        assert np.array_equal(sample.face_mask, sample.trust)
        sure = np.abs(sample.image[..., 1].astype(int) - 59) > 3  # away from the edge, which is 30 columns to the right
        assert np.array_equal((sample.alpha > 127)[sure], (sample.image[..., 1] < 59)[sure])
        assert min(sample.alpha.shape) >= 30
        shapes.add(sample.alpha.shape[0] > sample.alpha.shape[1])
    assert shapes == {True, False}


def test_noise_is_of_any_strength_in_its_range_and_leaves_the_matte_alone():
    grey = Sample("grey", np.full((200, 200, 3), 128, np.uint8), np.zeros((200, 200), np.uint8))
    strengths = []
    for seed in range(20):
        sample = noise(**ALWAYS)(grey, rng(seed))
        assert sample.foreground is None
        assert sample.alpha is grey.alpha
        strengths.append(sample.image.std())
    assert NOISE[0] * 0.95 < min(strengths) < 5
    assert 11 < max(strengths) < NOISE[1] * 1.05


# --- colours ---------------------------------------------------------------------------------------------------------


def test_colour_jitter_keeps_the_equation():
    for seed in range(20):
        sample = colour_jitter(**ALWAYS)(portrait(), rng(seed))
        assert equation_error(sample) <= 1.8  # half a step of the portrait's own, enlarged, and twice half a step


def test_colour_jitter_keeps_the_equation_where_colours_are_cut_off():
    white, black = np.full((40, 40, 3), 250, np.uint8), np.full((40, 40, 3), 130, np.uint8)
    half = np.full((40, 40), 128, np.uint8)
    whole = Sample(
        "half", np.rint(white * (128 / 255) + black * (127 / 255)).astype(np.uint8), half, None, white, black
    )
    results = [colour_jitter(brightness=0.4, contrast=0, **ALWAYS)(whole, rng(seed)) for seed in range(20)]
    assert max(equation_error(sample) for sample in results) <= 1.8
    assert any(sample.foreground is not None and (sample.foreground == 255).all() for sample in results)


def test_colour_jitter_changes_what_it_says():
    grey = np.full((4, 4, 3), 100, np.uint8)
    sample = Sample("grey", grey, grey[..., 0])
    vivid = colour_jitter(brightness=0, contrast=0, saturation=0.9, hue=90, **ALWAYS)(sample, rng())
    assert np.array_equal(vivid.image, grey)  # grey has neither saturation nor hue
    brighter = [
        int(colour_jitter(brightness=0.2, contrast=0, saturation=0, hue=0, **ALWAYS)(sample, rng(i)).image[0, 0, 0])
        for i in range(50)
    ]
    assert 49 <= min(brighter) < 70
    assert 130 < max(brighter) <= 151
    middle = Sample("middle", np.full((4, 4, 3), 127, np.uint8), grey[..., 0])
    contrasted = colour_jitter(brightness=0, contrast=0.5, saturation=0, hue=0, **ALWAYS)(middle, rng())
    assert np.abs(contrasted.image.astype(int) - 127).max() <= 1


def test_hue_turns_about_the_grey_axis_and_saturation_keeps_the_luma():
    pixel = np.array([160, 100, 90], np.uint8)
    sample = Sample("one", np.tile(pixel, (2, 2, 1)), np.zeros((2, 2), np.uint8))
    off_grey = pixel - pixel.mean()
    angles = []
    for seed in range(60):
        turned = colour_jitter(brightness=0, contrast=0, saturation=0, hue=30, **ALWAYS)(sample, rng(seed)).image[0, 0]
        now = turned - turned.mean()
        assert abs(turned.mean() - pixel.mean()) < 1
        assert abs(np.linalg.norm(now) - np.linalg.norm(off_grey)) < 1.5
        cosine = now @ off_grey / np.linalg.norm(now) / np.linalg.norm(off_grey)
        angles.append(float(np.degrees(np.arccos(min(cosine, 1)))))
        faded = colour_jitter(brightness=0, contrast=0, saturation=0.5, hue=0, **ALWAYS)(sample, rng(seed)).image[0, 0]
        assert abs(float(faded @ [0.299, 0.587, 0.114]) - float(pixel @ [0.299, 0.587, 0.114])) < 1
    assert 25 < max(angles) < 32


def test_a_black_and_white_picture_keeps_its_light_and_the_equation():
    whole = portrait(80, 90)
    grey = greyscale(**ALWAYS)(whole, rng())
    luma = whole.image @ np.array([0.299, 0.587, 0.114])
    for channel in range(3):
        assert np.abs(grey.image[..., channel] - luma).max() < 1
    assert grey.foreground is not None
    assert grey.background is not None
    share = whole.alpha[..., None] / 255
    composed = share * grey.foreground + (1 - share) * grey.background
    assert np.abs(composed - grey.image).max() < 2


def test_blur_and_jpeg_do_what_they_say():
    whole = Sample("noise", colours(64, 64), np.zeros((64, 64), np.uint8))
    blurred = [gaussian_blur(**ALWAYS)(whole, rng(seed)).image for seed in range(20)]
    spreads = [image.std() / whole.image.std() for image in blurred]
    assert min(spreads) < 0.4
    assert 0.5 < max(spreads) < 1
    assert all(np.abs(image.mean(axis=(0, 1)) - whole.image.mean(axis=(0, 1))).max() < 4 for image in blurred)
    packed = [jpeg(**ALWAYS)(portrait(), rng(seed)).image for seed in range(20)]
    errors = [np.abs(image.astype(int) - portrait().image).mean() for image in packed]
    assert 0 < min(errors) < 0.6 * max(errors)
