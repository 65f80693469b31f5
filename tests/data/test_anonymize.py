from pathlib import Path

import cv2
import numpy as np
import pytest

from p3m_edge.data import detect
from p3m_edge.data.anonymize.hide import CELLS, anonymize, on_subject, remaining
from p3m_edge.data.detect import Box, View
from p3m_edge.errors import InputError
from p3m_edge.imageio import read_image
from tests.data import yunet_like

ASTRONAUT = Path(detect.__file__).parents[1] / "assets" / "astronaut.jpg"


def box(x: float, y: float, width: float, height: float, **more) -> Box:
    return Box(x, y, width, height, 1.0, "test", **more)


def noise(height: int, width: int, seed: int = 0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_only_the_masked_pixels_change():
    image = noise(120, 100)
    before = image.copy()
    done = anonymize(image, [box(30, 30, 40, 50)])
    assert np.array_equal(image, before)
    changed = (done.image != image).any(axis=2)
    assert set(np.unique(done.face_mask)) == {0, 255}
    assert not changed[done.face_mask == 0].any()
    assert changed[done.face_mask == 255].mean() > 0.95


def test_the_ellipse_covers_the_face_and_more():
    done = anonymize(noise(200, 200), [box(60, 50, 80, 100)])
    hidden = done.face_mask != 0
    face = np.zeros(hidden.shape, np.uint8)
    cv2.ellipse(face, (100, 100), (40, 50), 0, 0, 360, 1, -1)
    assert hidden[face != 0].all()
    assert done.hidden == (1.0,)
    assert hidden[100, 52]  # temples and ears
    assert hidden[40, 100]  # the forehead's upper part
    assert hidden[159, 100]  # below the chin
    assert 1.4 < hidden.sum() / face.sum() < 2


@pytest.mark.parametrize("width", [30, 90, 400])
def test_a_face_of_any_size_leaves_12_numbers_a_channel(width):
    """The results of many pictures span a space of 12 dimensions, but for what rounding to 8 bits adds."""
    height, trials = round(1.3 * width), 40
    face = box(20, 20, width, height)
    results = []
    for seed in range(trials):
        coarse = np.random.default_rng(seed).integers(90, 166, (8, 8, 3)).astype(np.uint8)
        picture = cv2.resize(coarse, (width + 40, height + 40), interpolation=cv2.INTER_LINEAR)
        done = anonymize(np.asarray(picture, np.uint8), [face])
        results.append(done.image[done.face_mask != 0][:, 0].astype(np.float64))
    values = np.linalg.svd(np.array(results), compute_uv=False)
    numbers = CELLS[0] * CELLS[1]
    rounding = 0.35 * (np.sqrt(len(results[0])) + np.sqrt(trials))
    assert values[numbers - 1] > rounding  # the measure sees what is there
    assert values[numbers] < rounding


def test_fine_structure_leaves_no_trace():
    plain = np.full((200, 200, 3), 120, np.uint8)
    stripes = plain.copy()
    stripes[::2] += 60
    stripes[1::2] -= 60
    face = box(50, 40, 100, 120)
    done = anonymize(stripes, [face])
    inside = done.face_mask != 0
    difference = done.image.astype(int) - anonymize(plain, [face]).image
    assert np.abs(difference[inside]).max() <= 4


def test_clear_pixels_around_the_face_do_not_enter_it():
    face = box(30, 30, 40, 50)
    one, other = noise(120, 100, 1), noise(120, 100, 2)
    inside = anonymize(one, [face]).face_mask != 0
    other[inside] = one[inside]
    assert np.array_equal(anonymize(one, [face]).image[inside], anonymize(other, [face]).image[inside])


def half_matte(height: int, width: int, contour: int):
    """Foreground to the left of a soft contour 6 pixels wide."""
    ramp = np.clip((contour + 3 - np.arange(width)) / 6, 0, 1)
    return np.tile(np.rint(ramp * 255).astype(np.uint8), (height, 1))


def test_the_contour_stays_as_it_is_where_a_matte_is_given():
    image, alpha = noise(300, 300), half_matte(300, 300, 190)
    face = box(100, 80, 100, 130)
    done = anonymize(image, [face], alpha)
    soft = (alpha > 10) & (alpha < 245)
    outside_core = np.abs(np.arange(300) + 0.5 - 150) > 42  # columns that the core does not reach
    assert not (done.face_mask[soft & outside_core] != 0).any()
    assert not (done.face_mask[(alpha == 0) & outside_core] != 0).any()  # the background is not smeared
    assert (anonymize(image, [face]).face_mask[soft & outside_core] != 0).any()  # it would be without the matte
    assert done.face_mask[145, 110]
    assert done.hidden[0] > 0.85


@pytest.mark.parametrize("value", [0, 128, 255])
def test_eyes_nose_and_mouth_are_hidden_whatever_the_matte_says(value):
    done = anonymize(noise(300, 300), [box(100, 80, 100, 130)], np.full((300, 300), value, np.uint8))
    core = np.zeros((300, 300), np.uint8)
    cv2.ellipse(core, (150, 145), (38, 50), 0, 0, 360, 1, -1)
    assert (done.face_mask[core != 0] == 255).all()
    assert (done.hidden[0] > 0.9) == (value != 128)  # a face within the unknown band is not hidden as a whole


def test_somebody_in_the_background_is_hidden_too_and_is_not_the_subject():
    alpha = half_matte(300, 300, 120)
    face = box(150, 80, 100, 130)
    done = anonymize(noise(300, 300), [face], alpha)
    assert done.hidden[0] > 0.97
    assert not on_subject(face, alpha)
    assert on_subject(box(10, 80, 80, 110), alpha)


@pytest.mark.parametrize(
    "face", [(-40, -40, 90, 90), (80, 90, 60, 60), (-500, -500, 2000, 2000), (40, 40, 1, 1), (40, 40, 3, 0.2)], ids=str
)
def test_faces_beyond_the_edge_and_of_extreme_sizes(face):
    done = anonymize(noise(100, 100), [box(*face)])
    assert (done.face_mask != 0).any()
    assert done.image.shape == (100, 100, 3)


def test_a_box_outside_changes_nothing():
    image = noise(50, 50)
    done = anonymize(image, [box(200, 200, 30, 30)])
    assert np.array_equal(done.image, image)
    assert done.hidden == (0.0,)


def test_pictures_and_mattes_that_do_not_fit():
    with pytest.raises(InputError, match=r"not uint8 \[10, 11\]"):
        anonymize(noise(10, 10), [], np.zeros((10, 11), np.uint8))
    with pytest.raises(InputError, match="not float64"):
        anonymize(noise(10, 10), [], np.zeros((10, 10)))  # type: ignore[arg-type]  # that is what is tested
    with pytest.raises(InputError, match=r"uint8 \[H, W, 3\]"):
        anonymize(np.zeros((10, 10), np.uint8), [])


def test_nothing_is_found_again():
    picture = read_image(ASTRONAUT).rgb[:300, 80:380].copy()
    again = detect.open_detector(detect.CASCADE, again=True)
    faces = detect.cascade().detect(picture)
    assert any(abs(left.centre[0] - 145) < 15 for left in remaining(again, picture))
    done = anonymize(picture, faces)
    assert remaining(again, done.image, done.face_mask) == ()
    assert remaining(again, done.image) == ()


def test_in_a_hidden_area_only_a_clear_face_counts(tmp_path):
    """The stand-in takes bright squares for faces; its confidence is the brightness."""
    detector = detect.yunet(yunet_like.write(tmp_path / "model.onnx"), (View(256),))
    mask = np.zeros((256, 256), np.uint8)
    mask[32:160, 32:160] = 255
    for brightness, hidden, clear in ((210, False, True), (245, True, True), (100, False, False)):
        picture = np.zeros((256, 256, 3), np.uint8)
        picture[64:128, 64:128] = brightness
        assert bool(remaining(detector, picture, mask)) == hidden
        assert bool(remaining(detector, picture, np.zeros_like(mask))) == clear
        assert bool(remaining(detector, picture)) == clear
