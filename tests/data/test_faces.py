"""Source faces: CelebAMask-HQ's layout as it is, any folder, and files that are not as they should be."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from p3m_edge.data.faces import CELEBA_LICENCE, Face, fitted, open_faces, synthetic_faces
from p3m_edge.errors import InputError, UsageError
from p3m_edge.imageio import write_png


def write_jpg(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), array[..., ::-1])


def write_mask(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(path, np.repeat(array[..., None], 3, axis=2))  # CelebAMask-HQ's masks have three channels


def box(side: int, top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros((side, side), np.uint8)
    mask[top:bottom, left:right] = 255
    return mask


@pytest.fixture
def celeba(tmp_path: Path) -> Path:
    """Pictures 0, 2 and 2001 with masks of half their size; 1 has hair and an ear alone; 3 has no picture."""
    for number in (0, 1, 2, 2001):
        write_jpg(tmp_path / "CelebA-HQ-img" / f"{number}.jpg", np.full((64, 64, 3), 10 + number % 97, np.uint8))
    masks = tmp_path / "CelebAMask-HQ-mask-anno"
    write_mask(masks / "0" / "00000_skin.png", box(32, 8, 8, 20, 24))
    write_mask(masks / "0" / "00000_eye_g.png", box(32, 4, 10, 9, 22))
    write_mask(masks / "0" / "00000_hair.png", box(32, 0, 0, 8, 32))
    write_mask(masks / "0" / "00000_l_ear.png", box(32, 10, 24, 14, 28))
    write_mask(masks / "0" / "00001_hair.png", box(32, 0, 0, 8, 32))
    write_mask(masks / "0" / "00001_r_ear.png", box(32, 0, 0, 8, 32))
    write_mask(masks / "0" / "00002_nose.png", box(32, 12, 12, 16, 16))
    write_mask(masks / "0" / "00003_skin.png", box(32, 12, 12, 16, 16))
    write_mask(masks / "1" / "02001_u_lip.png", box(32, 20, 10, 22, 20))
    return tmp_path


def test_celebamask_hq_as_it_is(celeba):
    faces = open_faces(celeba)
    assert [entry[0].name for entry in faces.entries] == ["0.jpg", "2.jpg", "2001.jpg"]
    assert faces.licence == CELEBA_LICENCE
    face = faces.read(0)
    assert face.image.shape == (64, 64, 3)
    wanted = np.maximum(box(64, 16, 16, 40, 48), box(64, 8, 20, 18, 44))  # skin and glasses, not hair or ear
    np.testing.assert_array_equal(face.mask, wanted)
    np.testing.assert_array_equal(faces.read(2).mask, box(64, 40, 20, 44, 40))
    assert faces.read(2).image[0, 0, 0] == pytest.approx(10 + 2001 % 97, abs=2)


@pytest.mark.parametrize("images", ["image", "original_image", "blurred_image"])
def test_any_folder(tmp_path, images):
    for name in ("b", "a", "lonely"):
        write_jpg(tmp_path / images / f"{name}.jpg", np.full((20, 30, 3), 80, np.uint8))
    grey = np.zeros((20, 30), np.uint8)
    grey[4:9, 5:12], grey[0, 0] = 200, 100  # below one half, as JPEG leaves it behind
    write_mask(tmp_path / "facemask" / "a.png", grey)
    write_mask(tmp_path / "facemask" / "b.png", grey)
    (tmp_path / "LICENCE.txt").write_text("\n  CC0,   from  nobody\nmore\n", encoding="utf-8")
    faces = open_faces(tmp_path)
    assert [entry[0].name for entry in faces.entries] == ["a.jpg", "b.jpg"]
    assert faces.licence == "CC0, from nobody"
    np.testing.assert_array_equal(faces.read(0).mask, np.where(grey == 200, 255, 0))


def test_the_real_pictures_are_read(shared, tmp_path):
    write = np.zeros((512, 512), np.uint8)
    write[97:184, 184:271] = 255  # its box in faces.csv
    write_mask(tmp_path / "facemask" / "astronaut.png", write)
    (tmp_path / "image").mkdir()
    (tmp_path / "image" / "astronaut.jpg").write_bytes((shared / "data/faces/astronaut.jpg").read_bytes())
    face = open_faces(tmp_path).read(0)
    assert face.image.shape == (512, 512, 3)
    assert int((face.mask != 0).sum()) == 87 * 87


@pytest.mark.parametrize("layout", ["missing", "empty", "no masks", "other names"])
def test_folders_without_faces(tmp_path, layout):
    root = tmp_path / "faces"
    if layout != "missing":
        root.mkdir()
    if layout in ("no masks", "other names"):
        write_jpg(root / "image" / "a.jpg", np.zeros((8, 8, 3), np.uint8))
    if layout == "other names":
        write_mask(root / "facemask" / "b.png", np.full((8, 8), 255, np.uint8))
    with pytest.raises(InputError, match="faces"):
        open_faces(root)


def test_damage_is_named(tmp_path):
    write_jpg(tmp_path / "image" / "a.jpg", np.full((64, 64, 3), 90, np.uint8))
    write_jpg(tmp_path / "image" / "b.jpg", np.full((64, 64, 3), 90, np.uint8))
    write_mask(tmp_path / "facemask" / "a.png", np.zeros((64, 64), np.uint8))
    write_mask(tmp_path / "facemask" / "b.png", np.full((64, 64), 255, np.uint8))
    faces = open_faces(tmp_path)
    with pytest.raises(InputError, match=r"a\.jpg has an empty mask"):
        faces.read(0)
    path = tmp_path / "image" / "b.jpg"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"b\.jpg"):
        faces.read(1)


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        (np.zeros((8, 8, 3), np.uint8), np.ones((8, 9), np.uint8)),
        (np.zeros((8, 8), np.uint8), np.ones((8, 8), np.uint8)),
        (np.zeros((8, 8, 3), np.float32), np.ones((8, 8), np.uint8)),
        (np.zeros((8, 8, 3), np.uint8), np.ones((8, 8), np.bool_)),
    ],
)
def test_other_arrays_are_refused(image, mask):
    with pytest.raises(InputError, match="somebody"):
        Face(image, mask, "somebody")


def test_fitted_keeps_the_aspect_and_the_mask_on_the_face():
    image = np.full((100, 50, 3), 20, np.uint8)
    mask = np.zeros((100, 50), np.uint8)
    image[20:60, 10:40], mask[20:60, 10:40] = 220, 255
    face = fitted(Face(image, mask, "a"), 64, 96)
    assert face.image.shape == (64, 96, 3)
    rows, columns = np.nonzero(face.mask)
    assert abs((rows.max() - rows.min() + 1) - 0.64 * 40) <= 1
    assert abs((columns.max() - columns.min() + 1) - 0.64 * 30) <= 1
    assert (face.image[face.mask != 0] > 120).mean() > 0.95
    assert (face.image[face.mask == 0] < 130).all()


def test_synthetic_faces():
    faces = synthetic_faces(3, 4, side=96)
    read = [faces.read(index) for index in range(len(faces))]
    assert len(read) == 4
    assert all(face.image.shape == (96, 96, 3) and 0.05 < (face.mask != 0).mean() < 0.3 for face in read)
    assert not np.array_equal(read[0].image, read[1].image)
    np.testing.assert_array_equal(read[2].image, synthetic_faces(3, 9, side=96).read(2).image)
    assert not np.array_equal(read[2].image, synthetic_faces(4, 4, side=96).read(2).image)
    assert "generated" in faces.licence
    with pytest.raises(IndexError):
        faces.read(4)


@pytest.mark.parametrize("arguments", [(-1, 3, 96), (0, 0, 96), (0, 3, 8), (0, 3, 10_000)])
def test_impossible_synthetic_faces(arguments):
    with pytest.raises(UsageError):
        synthetic_faces(*arguments)
