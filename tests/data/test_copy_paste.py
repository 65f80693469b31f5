"""P3M-ICP: what is pasted is the warped source, where both masks are, and nothing else changes."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from scipy.ndimage import center_of_mass, map_coordinates

from p3m_edge.data.copy_paste import ImagePaste, centre, paste, preview, warp
from p3m_edge.data.faces import Face
from p3m_edge.data.sample import Sample, generator
from p3m_edge.errors import InputError, UsageError

VARIANTS = ["vanilla", "augmented", "resize-to-fill"]


class Faces:
    licence = "drawn here"

    def __init__(self, *faces: Face) -> None:
        self.faces = faces

    def __len__(self) -> int:
        return len(self.faces)

    def read(self, index: int) -> Face:
        return self.faces[index]


def ellipse(height: int, width: int, x: float, y: float, rx: float, ry: float) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return np.where(((columns - x) / rx) ** 2 + ((rows - y) / ry) ** 2 <= 1, np.uint8(255), np.uint8(0))


def smooth(height: int, width: int, seed: int, channels: int = 3) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (height // 8 + 2, width // 8 + 2, channels), np.uint8)
    return np.asarray(cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC))


def face(height=180, width=140, x=95.0, y=60.0, rx=30.0, ry=44.0, seed=1) -> Face:
    """A face off the centre of its picture, with a pointed corner, so that it is not symmetric."""
    mask = ellipse(height, width, x, y, rx, ry)
    mask[int(y) : int(y + ry), int(x) : int(x + rx * 0.8)] = 255
    return Face(smooth(height, width, seed), mask, f"face {seed}")


def sample(height=150, width=210, x=60.0, y=80.0, rx=22.0, ry=27.0, seed=2) -> Sample:
    """Its alpha, trimap and colours have something at every pixel of the face, to tell when it is written to."""
    mask = ellipse(height, width, x, y, rx, ry)
    mask[int(y - ry) : int(y), int(x - rx * 0.7) : int(x)] = 255
    alpha, trimap = smooth(height, width, seed + 1, 1), smooth(height, width, seed + 2, 1)
    return Sample(
        "target",
        smooth(height, width, seed),
        alpha.reshape(height, width),
        trimap=trimap.reshape(height, width),
        foreground=smooth(height, width, seed + 3),
        background=smooth(height, width, seed + 4),
        face_mask=mask,
    )


def bilinear(picture: np.ndarray, matrix: np.ndarray, height: int, width: int, order: int = 1) -> np.ndarray:
    """An independent warp: for each pixel of the target the place in the source that the map took there."""
    inverse = np.linalg.inv(matrix[:, :2])
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    points = np.stack([columns.ravel() - matrix[0, 2], rows.ravel() - matrix[1, 2]])
    x, y = inverse @ points
    planes = [map_coordinates(plane.astype(float), [y, x], order=order, mode="nearest") for plane in picture.T]
    return np.stack([plane.reshape(height, width) for plane in planes], axis=-1)


def covered(mask: np.ndarray, matrix: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the warped mask surely is, and where it may be: what differs is within a pixel of its edge."""
    inverse = np.linalg.inv(matrix[:, :2])
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    x, y = inverse @ np.stack([columns.ravel() - matrix[0, 2], rows.ravel() - matrix[1, 2]])
    kernel = np.ones((3, 3), np.uint8)
    planes = []
    for plane in (cv2.erode(mask, kernel, borderValue=0), cv2.dilate(mask, kernel)):
        value = map_coordinates(plane.astype(float), [y, x], order=0, mode="constant", cval=0.0)
        planes.append(value.reshape(height, width) != 0)
    return planes[0], planes[1]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("fit", [True, False])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_inside_is_the_warped_source_and_outside_is_untouched(variant, fit, seed):
    target, source = sample(), face()
    assert target.face_mask is not None
    assert target.foreground is not None
    before = {name: value.copy() for name, value in vars(target).items() if isinstance(value, np.ndarray)}
    step = ImagePaste(Faces(source), probability=1.0, variant=variant, fit=fit)
    after = step(target, generator(seed, 0, 0))
    drawn = step.draw(target, generator(seed, 0, 0))
    assert drawn is not None
    # Never the sample's own arrays, never the ground truth.
    for name, value in before.items():
        np.testing.assert_array_equal(getattr(target, name), value)
    for name in ("alpha", "trimap", "background", "face_mask"):
        np.testing.assert_array_equal(getattr(after, name), before[name])
    warped = warp(source.image, drawn.matrix, *target.alpha.shape)
    inside = (target.face_mask != 0) & (warp(source.mask, drawn.matrix, *target.alpha.shape) != 0)
    assert 300 < inside.sum() <= (target.face_mask != 0).sum()
    assert after.foreground is not None
    for new, old in ((after.image, target.image), (after.foreground, target.foreground)):
        np.testing.assert_array_equal(new[~inside], old[~inside])
        np.testing.assert_array_equal(new[inside], warped[inside])
    np.testing.assert_array_equal(after.image[inside], after.foreground[inside])
    # The warp itself, against an independent one.
    surely, maybe = covered(source.mask, drawn.matrix, *target.alpha.shape)
    allowed = target.face_mask != 0
    assert not (inside & ~(maybe & allowed)).any()
    assert not ((surely & allowed) & ~inside).any()
    growth = np.linalg.norm(drawn.matrix[:, :2], axis=0)
    if growth.min() > 0.5:  # below, it is averaged first
        wanted = bilinear(source.image.transpose(1, 0, 2), drawn.matrix, *target.alpha.shape)
        assert np.abs(after.image[inside] - wanted[inside]).max() <= 6


def test_whole_pixels_are_copied_exactly():
    """The same mask, moved: what is pasted is the source's own pixels."""
    source, target = face(), sample()
    mask = np.zeros_like(target.alpha)
    rows, columns = np.nonzero(source.mask)
    mask[rows + 11, columns + 37] = 255
    target = replace(target, face_mask=mask)
    after = ImagePaste(Faces(source), probability=1.0, variant="vanilla", fit=False)(target, generator(0, 0, 0))
    assert after.foreground is not None
    np.testing.assert_array_equal(after.image[rows + 11, columns + 37], source.image[rows, columns])
    np.testing.assert_array_equal(after.foreground[rows + 11, columns + 37], source.image[rows, columns])
    np.testing.assert_array_equal(after.image[mask == 0], target.image[mask == 0])


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("place", [(40.0, 40.0, 18.0, 25.0), (160.0, 100.0, 30.0, 36.0), (25.0, 110.0, 9.0, 11.0)])
@pytest.mark.parametrize(("side", "radius"), [(180, 20.0), (700, 190.0)])
def test_centres_agree(variant, place, side, radius):
    """Faces of different size, off the centre of their pictures, in pictures of different size."""
    target = sample(150, 210, *place)
    assert target.face_mask is not None
    source = face(side, side + 40, 0.6 * side, 0.4 * side, radius, 1.3 * radius)
    step = ImagePaste(Faces(source), probability=1.0, variant=variant)
    for seed in range(4):
        drawn = step.draw(target, generator(seed, 0, 0))
        assert drawn is not None
        middle = drawn.matrix + np.array([[0, 0, 400], [0, 0, 400]])  # nothing of it cut off by the picture's edge
        placed = warp(source.mask, middle, 1000, 1000) != 0
        wanted = np.array(center_of_mass(target.face_mask != 0)) + 400
        assert np.abs(np.array(center_of_mass(placed)) - wanted).max() < 1


def test_shrinking_averages_and_stays_in_place():
    """A fine pattern becomes its mean, and a blob stays where the map takes it."""
    stripes = np.zeros((300, 300, 3), np.uint8)
    stripes[:, ::2] = 200
    matrix = np.array([[0.2, 0, 7.0], [0, 0.2, 3.0]])
    small = warp(stripes, matrix, 60, 70)[5:55, 10:60]
    assert np.abs(small.astype(int) - 100).max() <= 25
    blob = np.repeat(ellipse(300, 300, 123.0, 201.0, 30.0, 30.0)[..., None], 3, axis=2)
    placed = warp(blob, matrix, 60, 70)[..., 0].astype(float)
    placed[placed < 20] = 0
    y, x = center_of_mass(placed)
    assert (x, y) == (pytest.approx(0.2 * 123 + 7, abs=0.06), pytest.approx(0.2 * 201 + 3, abs=0.06))


def test_constants_are_used():
    source, target = face(), sample()
    base = ImagePaste(Faces(source), probability=1.0)

    def linears(**options) -> list[np.ndarray]:
        step = replace(base, **options)
        drawn = [step.draw(target, generator(seed, 0, 0)) for seed in range(200)]
        return [one.matrix[:, :2] for one in drawn if one is not None]

    fit = float(np.sqrt(np.linalg.det(linears(variant="vanilla")[0])))
    assert fit == pytest.approx(np.sqrt((45 / 61) * (55 / 89)), abs=0.03)
    # Only one kind of augmentation at a time shows its range.
    flips = linears(scale=(1.0, 1.0), rotation=0.0, flip=0.5)
    assert 70 < sum(np.linalg.det(m) < 0 for m in flips) < 130
    assert all(np.linalg.det(m) > 0 for m in linears(flip=0.0))
    mirrored = linears(scale=(1.0, 1.0), rotation=0.0, flip=1.0)[0]
    np.testing.assert_allclose(mirrored, fit * np.diag([-1.0, 1.0]), atol=1e-9)
    turns = [np.rad2deg(np.arctan2(m[1, 0], m[0, 0])) for m in linears(flip=0.0, scale=(1.0, 1.0))]
    assert -30 <= min(turns) < -27
    assert 27 < max(turns) <= 30
    scales = np.array([np.diag(m) / fit for m in linears(flip=0.0, rotation=0.0)])
    assert scales.min() >= 0.8
    assert scales.max() <= 1.2
    assert np.all(np.ptp(scales, axis=0) > 0.35)
    assert np.abs(scales[:, 0] - scales[:, 1]).max() > 0.2  # each axis by itself
    # Scale before rotation: the columns stay at right angles.
    sheared = [abs(m[:, 0] @ m[:, 1]) / np.linalg.det(m) for m in linears(flip=0.0)]
    assert max(sheared) < 1e-9


def test_resize_to_fill_fills_the_box():
    source, target = face(), sample()
    assert target.face_mask is not None
    drawn = ImagePaste(Faces(source), probability=1.0, variant="resize-to-fill").draw(target, generator(0, 0, 0))
    assert drawn is not None
    placed = warp(source.mask, drawn.matrix, *target.alpha.shape) != 0
    for axis in (0, 1):
        found, wanted = (np.ptp(np.nonzero(m)[axis]) + 1 for m in (placed, target.face_mask))
        assert abs(int(found) - int(wanted)) <= 1


@pytest.mark.parametrize("mask", [None, "empty"])
def test_without_a_face_the_sample_passes(mask):
    target = replace(sample(), face_mask=None if mask is None else np.zeros((150, 210), np.uint8))
    assert ImagePaste(Faces(face()), probability=1.0)(target, generator(0, 0, 0)) is target


def test_probability_and_choice_of_source():
    target, faces = sample(), Faces(face(seed=1), face(seed=2), face(seed=3))
    never = ImagePaste(faces, probability=0.0)
    assert all(never(target, generator(0, 0, i)) is target for i in range(50))
    half = [ImagePaste(faces).draw(target, generator(0, 0, i)) for i in range(300)]
    found = [drawn.face.name for drawn in half if drawn is not None]
    assert 120 < len(found) < 180
    assert min(found.count(f"face {seed}") for seed in (1, 2, 3)) > 30
    again = ImagePaste(faces).draw(target, generator(0, 0, 5))
    assert (again is None) == (half[5] is None)


def test_no_foreground_and_colour():
    target = replace(sample(), foreground=None)
    step = ImagePaste(Faces(face()), probability=1.0, variant="vanilla", colour=0.5)
    after = step(target, generator(1, 0, 0))
    assert after.foreground is None
    plain = replace(step, colour=0.0)(target, generator(1, 0, 0))
    changed = (after.image != plain.image).any(axis=2)
    assert changed.any()
    assert not (changed & (target.face_mask == 0)).any()


@pytest.mark.parametrize(
    "options",
    [
        {"probability": 1.5},
        {"probability": float("nan")},
        {"flip": -0.1},
        {"scale": (1.2, 0.8)},
        {"scale": (0.0, 1.0)},
        {"rotation": 270.0},
        {"colour": 2.0},
        {"variant": "augmentd"},
    ],
)
def test_impossible_constants(options):
    with pytest.raises(UsageError):
        ImagePaste(Faces(face()), **options)


def test_an_empty_source_is_refused():
    with pytest.raises(UsageError, match="empty"):
        ImagePaste(Faces())


def test_preview_shows_what_training_does():
    target, without = sample(), replace(sample(seed=9), face_mask=None)
    step = ImagePaste(Faces(face()), probability=0.0)
    picture = preview([target, without], step, seed=4, side=210)
    assert picture.shape[1] == 5 * 214 + 4
    drawn = replace(step, probability=1.0).draw(target, generator(4, 0, 0))
    assert drawn is not None
    cell = picture[4 + 30 : 4 + 30 + 150, 4 + 2 * 214 : 4 + 2 * 214 + 210]  # 210x150, centred in its square
    np.testing.assert_array_equal(cell, paste(target, drawn).image)
    np.testing.assert_array_equal(picture[4 + 30 : 4 + 30 + 150, 4 : 4 + 210], target.image)
    with pytest.raises(InputError):
        preview([], step)


def test_centre_is_in_pixels():
    mask = np.zeros((20, 30), np.uint8)
    mask[4:7, 10:20] = 1
    np.testing.assert_allclose(centre(mask), [14.5, 5.0])


def test_nothing_comes_from_beyond_the_source():
    """A face that fills its picture ends where the picture ends."""
    source = Face(smooth(40, 30, 1), np.full((40, 30), 255, np.uint8), "close-up")
    target = replace(sample(), face_mask=np.full((150, 210), 255, np.uint8))
    step = ImagePaste(Faces(source), probability=1.0, variant="vanilla", fit=False)
    drawn = step.draw(target, generator(0, 0, 0))
    assert drawn is not None
    assert int((warp(source.mask, drawn.matrix, 150, 210) != 0).sum()) == 40 * 30
    changed = (step(target, generator(0, 0, 0)).image != target.image).any(axis=2)
    assert 0.95 * 40 * 30 < changed.sum() <= 40 * 30
