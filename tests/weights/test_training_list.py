"""What the shipped weights were trained on: no face in the portraits, nothing that is measured with."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import p3m_edge
from p3m_edge.data import phash
from p3m_edge.data.anonymize.folder import Job, Output, Settings, read_boxes
from p3m_edge.data.anonymize.run import anonymize_all
from p3m_edge.data.detect import Box
from p3m_edge.data.lists import Entry, list_sets, read_list, shared_photographs
from p3m_edge.data.sets import find_items
from p3m_edge.imageio import read_image
from p3m_edge.manifest import sha256
from tests.measuring_set import link, measured

PACKAGE = Path(p3m_edge.__file__).parent
WEIGHTS, ASTRONAUT = PACKAGE / "weights", PACKAGE / "assets" / "astronaut.jpg"
TRAINING = read_list(WEIGHTS / "training-list.csv")
MEASURING = read_list(WEIGHTS / "measuring-list.csv")
ORDINARY = read_list(WEIGHTS / "ordinary-list.csv")
PORTRAITS = [entry for entry in TRAINING if entry.kind == "portrait"]
FROM_P3M = [entry for entry in PORTRAITS if entry.name.startswith("p3m_")]  # those that shared/ has
KINDS = {"portrait", "face source", "background", "synthetic set"}
FIRST_PHOTO = "p3m_514ca06a"  # gt_fig_500p_0 is a part of it


def rebuilt(source: Path, boxes: tuple[Box, ...], out: Path) -> Entry:
    """Anonymise the only picture of a set, and list what comes out."""
    output = Output(out)
    items = find_items(source)
    output.prepare(source, alphas=items[0].alpha is not None)
    record = anonymize_all([Job(items[0], boxes)], output, Settings())[0]
    assert record.status == "done", record.reason
    return list_sets([out], workers=1)[0]


def measured_pictures(shared: Path) -> dict[str, Path]:
    """What must not be trained on, by its name in the list."""
    found = {name: shared / "data/portraits" / name / "image.jpg" for name in (*measured(shared), FIRST_PHOTO)}
    return found | {"astronaut": ASTRONAUT, "face_astronaut": shared / "data/faces/astronaut.jpg"}


@pytest.mark.parametrize("entry", FROM_P3M, ids=lambda entry: entry.name)
def test_no_face_is_left_in_a_training_portrait(entry, shared, tmp_path):
    """Made again from the original and the boxes that were placed by hand."""
    original = shared / "data/portraits" / entry.name / "image.jpg"
    if not original.is_file():
        pytest.skip(f"{original} is not here: the portrait cannot be made again")
    assert sha256(original) == entry.sha256
    boxes = read_boxes(WEIGHTS / "boxes.csv", [portrait.name for portrait in FROM_P3M])
    found = rebuilt(link(shared, [entry.name], tmp_path / "in"), boxes[entry.name], tmp_path / "out")
    assert found.faces == "0"
    assert phash.distance(phash.from_text(found.phash), [phash.from_text(entry.phash)]) <= 2  # rounding elsewhere


def test_a_face_that_is_left_is_found(tmp_path):
    (tmp_path / "in/image").mkdir(parents=True)
    (tmp_path / "in/image/astronaut.jpg").write_bytes(ASTRONAUT.read_bytes())
    assert rebuilt(tmp_path / "in", (), tmp_path / "out").faces not in ("", "0")


def test_the_list_says_what_everything_is():
    assert PORTRAITS
    assert {entry.kind for entry in TRAINING} <= KINDS
    assert len({(entry.kind, entry.name) for entry in TRAINING}) == len(TRAINING)
    for entry in TRAINING:
        assert entry.source, entry
        assert entry.licence, entry
        if entry.kind != "synthetic set":
            assert len(entry.sha256) == 64, entry
            phash.from_text(entry.phash)


def test_no_portrait_has_a_face_and_no_background_one_that_nobody_looked_at():
    """The cascade's false alarms on leaves and clouds are common; a person has the last word, in the remark."""
    assert [entry.name for entry in PORTRAITS if entry.faces != "0"] == []
    backgrounds = [entry for entry in TRAINING if entry.kind == "background" and entry.faces != "0"]
    assert [entry.name for entry in backgrounds if "looked at: no face" not in entry.remark] == []


def test_every_other_portrait_is_in_the_public_domain_and_was_looked_at():
    """They are not here to be made again: the list says how it was, and has nobody's name."""
    others = [entry for entry in PORTRAITS if entry not in FROM_P3M]
    assert others
    for entry in others:
        assert entry.licence == "CC0-1.0"
        assert entry.name.split("_")[1] == entry.sha256[:8]
        assert entry.source.endswith("the file with this SHA-256")
        assert "face hidden" in entry.remark
        assert "looked at" in entry.remark


def test_nothing_that_is_measured_with_was_trained_on():
    assert shared_photographs(TRAINING, MEASURING) == []


def test_the_ordinary_portraits_were_left_out_of_the_training():
    assert len(ORDINARY) == 39
    assert shared_photographs(TRAINING, ORDINARY) == []
    for entry in ORDINARY:
        assert entry.licence == "CC0-1.0"
        assert entry.name.split("_")[1] == entry.sha256[:8]


def test_no_part_of_a_training_portrait_is_measured_with(shared):
    """The list has training pictures as a whole; here their parts are compared, and what the originals show."""
    folders = [shared / "data/portraits" / entry.name for entry in FROM_P3M]
    parts = [
        Entry("part", folder.name, phash=phash.to_text(hashes[0]), forms=" ".join(map(phash.to_text, hashes)))
        for folder in folders
        if (hashes := phash.forms(read_image(folder / "image.jpg").rgb))
    ]
    assert shared_photographs(parts, MEASURING) == []


def test_one_photograph_in_two_sets_is_found():
    """The same function finds the one pair that is known, and no other among the pictures to measure with."""
    pairs = {(pair.here, pair.there) for pair in shared_photographs(MEASURING, MEASURING) if pair.here < pair.there}
    assert pairs == {("gt_fig_500p_0", FIRST_PHOTO), ("astronaut", "face_astronaut")}
    assert shared_photographs(MEASURING, PORTRAITS) == []


def test_the_measuring_list_is_complete_and_right(shared):
    pictures = measured_pictures(shared)
    listed = {entry.name: entry for entry in MEASURING}
    assert listed.keys() == pictures.keys()
    for name, path in pictures.items():
        assert sha256(path) == listed[name].sha256
        hashes = [phash.from_text(text) for text in listed[name].forms.split()]
        found = phash.forms(read_image(path).rgb)
        assert max(phash.distance(value, hashes) for value in found) <= 2, name  # rounding elsewhere


def form_of(rgb: np.ndarray, form: str) -> np.ndarray:
    if form == "smaller":
        return np.asarray(cv2.resize(rgb, (128, 128), interpolation=cv2.INTER_AREA))
    if form == "mirrored":
        return np.ascontiguousarray(rgb[:, ::-1])
    if form == "grey":
        return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))
    top, left = (round(side / 10) for side in rgb.shape[:2])
    return rgb[top : rgb.shape[0] - top, left : rgb.shape[1] - left]


@pytest.mark.parametrize("form", ["smaller", "mirrored", "cropped", "grey"])
def test_every_form_of_a_measured_picture_would_be_found(form, shared):
    for name, path in measured_pictures(shared).items():
        picture = form_of(read_image(path).rgb, form)
        trained = Entry("portrait", "trained", phash=phash.to_text(phash.phash(picture)))
        assert name in [pair.there for pair in shared_photographs([trained], MEASURING)]
