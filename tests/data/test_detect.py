import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from p3m_edge.data import detect
from p3m_edge.data.anonymize.hide import anonymize
from p3m_edge.data.detect import Box, View
from p3m_edge.errors import InputError
from p3m_edge.imageio import read_image
from tests.data import yunet_like

ASTRONAUT = Path(detect.__file__).parents[1] / "assets" / "astronaut.jpg"
FACE = (184, 97, 271, 184)  # x0, y0, x1, y1, brow to chin, by hand
MIDDLE = (225, 127)  # between hairline and chin
EYES_AND_MOUTH = ((208, 112), (247, 112), (228, 160))


@pytest.fixture(scope="module")
def astronaut():
    return read_image(ASTRONAUT).rgb


@pytest.fixture(scope="module")
def cascade():
    return detect.cascade()


def contains(box: Box, point: tuple[float, float]) -> bool:
    return box.x < point[0] < box.x + box.width and box.y < point[1] < box.y + box.height


def test_cascade_finds_the_frontal_face(astronaut, cascade):
    first = cascade.detect(astronaut)[0]
    assert first.sure
    assert first.detector == cascade.name
    assert all(contains(first, point) for point in EYES_AND_MOUTH)
    assert 0.8 < first.width / (FACE[2] - FACE[0]) < 1.4
    assert first.y + first.height == pytest.approx(FACE[3], abs=12)  # the chin


@pytest.mark.parametrize(
    "view",
    [View(320, mirrored=True), View(400, angle=15), View(320, angle=-6), View(480, True, 10), View(800)],
    ids=str,
)
def test_every_view_maps_its_boxes_back(astronaut, view):
    first = detect.cascade((view,), keep=1).detect(astronaut[40:240, 100:360])
    near = [b for b in first if np.hypot(b.centre[0] - MIDDLE[0] + 100, b.centre[1] - MIDDLE[1] + 40) < 12]
    assert near, first
    assert all(65 < b.width < 110 for b in near)


def test_boxes_are_in_pixels_of_the_whole_picture(astronaut, cascade):
    head = astronaut[20:276, 100:356]
    large = cv2.resize(head, None, fx=6, fy=4, interpolation=cv2.INTER_CUBIC)[:, ::2]  # a third wider, four times
    box = cascade.detect(np.ascontiguousarray(large))[0]
    assert box.centre == pytest.approx(((MIDDLE[0] - 100) * 3, (MIDDLE[1] - 20) * 4), abs=40)


def test_the_cascade_is_blind_to_a_face_lying_on_its_side(astronaut, cascade):
    """The limit that the documentation names; should a detector learn it, the text must follow."""
    turned = np.rot90(astronaut[20:276, 100:356]).copy()
    middle = (MIDDLE[1] - 20, 256 - (MIDDLE[0] - 100))
    assert not any(box.sure and contains(box, middle) for box in cascade.detect(turned))


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (3000, 2), (23, 23), (24, 24), (64, 48)])
def test_pictures_without_a_face_give_no_box(size, cascade):
    assert cascade.detect(np.full((*size, 3), 127, np.uint8)) == ()


def test_the_other_cascade_looks_differently():
    first, again = detect.cascade(), detect.open_detector(detect.CASCADE, again=True)
    assert first.name != again.name
    assert not set(detect.VIEWS) & set(detect.OTHER_VIEWS)


def test_merge_joins_what_means_one_face():
    one = Box(100, 100, 50, 60, 0.5, "a", sure=False)
    same, other = Box(104, 98, 56, 66, 0.9, "b"), Box(180, 100, 50, 60, 0.7, "a")
    tiny = Box(118, 122, 12, 14, 0.3, "a", sure=False)  # within the first, but no face of that size
    merged = detect.merge([one, same, other, tiny])
    assert len(merged) == 3
    x, y, width, height = (getattr(merged[0], name) for name in ("x", "y", "width", "height"))
    assert (x, y) == pytest.approx((100.8, 98.4))  # nearly all of both
    assert (x + width, y + height) == pytest.approx((158, 163.2))
    assert (merged[0].score, merged[0].detector, merged[0].sure) == (0.9, "a + b", True)
    assert merged[1:] == (other, tiny)
    assert detect.merge([]) == ()


def test_yunet_boxes_are_mapped_back(tmp_path):
    model = yunet_like.write(tmp_path / "model.onnx")
    picture = np.zeros((256, 512, 3), np.uint8)
    picture[64:128, 320:384] = 255
    for view in (View(256), View(256, mirrored=True), View(512)):
        boxes = detect.yunet(model, (view,)).detect(picture)
        assert boxes
        assert boxes[0].score == pytest.approx(1, abs=0.02)
        scale = 512 / view.side
        centres = np.array([box.centre for box in boxes])
        reach = 32 * scale / 2  # a cell names its corner
        assert (centres >= (320 - reach, 64 - reach)).all(), centres
        assert (centres <= (384 + reach, 128 + reach)).all(), centres


def test_yunet_keeps_what_is_confident_and_says_what_is_sure(tmp_path):
    model = yunet_like.write(tmp_path / "model.onnx")
    for brightness, kept, sure in ((255, True, True), (150, True, False), (90, False, False)):
        picture = np.zeros((256, 256, 3), np.uint8)
        picture[64:128, 64:128] = brightness
        boxes = detect.yunet(model, (View(256),)).detect(picture)
        assert bool(boxes) == kept
        assert all(box.sure == sure for box in boxes)


def test_yunet_files_that_cannot_be_used(tmp_path):
    whole = yunet_like.write(tmp_path / "model.onnx").read_bytes()
    for name, content in {"cut.onnx": whole[: len(whole) // 2], "text.onnx": b"no model", "empty.onnx": b""}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=name):
            detect.yunet(tmp_path / name)
    with pytest.raises(InputError, match=r"none\.onnx does not exist"):
        detect.yunet(tmp_path / "none.onnx")
    with pytest.raises(InputError, match="does not exist or is no file"):
        detect.yunet(tmp_path)


@pytest.mark.full
def test_recall_on_the_shared_faces(shared, cascade):
    """Four faces of four are found for certain, and hidden from brow to chin."""
    with (shared / "data/faces/faces.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 4
    for row in rows:
        picture = read_image(shared / "data/faces" / row["file"]).rgb
        x0, y0, x1, y1 = (int(row[key]) for key in ("x0", "y0", "x1", "y1"))
        centre = ((x0 + x1) // 2, (y0 + y1) // 2)
        boxes = [box for box in cascade.detect(picture) if box.sure and contains(box, centre)]
        assert boxes, row["id"]
        hidden = anonymize(picture, boxes[:1]).face_mask != 0
        face = np.zeros(hidden.shape, np.uint8)
        cv2.ellipse(face, centre, ((x1 - x0) // 2, (y1 - y0) // 2), 0, 0, 360, 1, -1)
        assert hidden[face != 0].mean() > 0.995, row["id"]
