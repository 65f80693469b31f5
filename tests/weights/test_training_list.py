"""What the shipped weights were trained on: people whose faces are hidden, and nothing that is measured with."""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

import p3m_edge
from p3m_edge.data import phash
from p3m_edge.data.anonymize.hide import anonymize
from p3m_edge.data.detect import Box
from p3m_edge.data.lists import Entry, read_list, shared_photographs
from p3m_edge.data.sets import find_items, open_set, read
from p3m_edge.imageio import read_image
from p3m_edge.manifest import sha256

PACKAGE = Path(p3m_edge.__file__).parent
WEIGHTS, ASTRONAUT = PACKAGE / "weights", PACKAGE / "assets" / "astronaut.jpg"
TRAINING = read_list(WEIGHTS / "training-list.csv")
MEASURING = read_list(WEIGHTS / "measuring-list.csv")
PEOPLE = [entry for entry in TRAINING if entry.kind in ("people", "people-weak")]
KINDS = {"people", "people-weak", "scenes", "clothes", "sources"}
MEASURED = {"people-held", "ppt", "portraits", "unread", "bundled"}
FREE = ("CC0", "CC BY", "CC-BY", "MIT", "Apache", "public domain", "Public domain", "Unsplash", "US ", "OSL")


def rows(name: str) -> list[dict[str, str]]:
    with (WEIGHTS / name).open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def boxes() -> dict[str, list[Box]]:
    found: dict[str, list[Box]] = {}
    for row in rows("faces.csv"):
        x, y, width, height, score = (float(row[key]) for key in ("x", "y", "width", "height", "score"))
        found.setdefault(row["name"], []).append(Box(x, y, width, height, score, "CenterFace"))
    return found


def test_the_lists_say_what_everything_is():
    assert {entry.kind for entry in TRAINING} == KINDS
    assert {entry.kind for entry in MEASURING} == MEASURED
    for entries in (TRAINING, MEASURING):
        assert len({(entry.kind, entry.name) for entry in entries}) == len(entries)
        for entry in entries:
            assert entry.source, entry
            assert entry.licence.startswith(FREE), entry
            assert len(entry.sha256) == 64, entry
            phash.from_text(entry.phash)


def test_the_card_has_the_lists_numbers():
    card = (WEIGHTS / "README.md").read_text("utf-8")
    told = {kind: int(count) for kind, count in re.findall(r"^\| `([\w-]+)`[^|]*\| (\d+) \|", card, re.M)}
    assert told == {**Counter(entry.kind for entry in TRAINING)}


def test_a_second_finder_looked_at_all_people_after_their_faces_were_hidden():
    """What it still marks was looked at by a person; the remark says what it is."""
    assert [entry.name for entry in PEOPLE if entry.faces == ""] == []
    assert [entry.name for entry in PEOPLE if entry.faces != "0" and "looked at: no face" not in entry.remark] == []


def test_every_matte_is_told_by_its_hash():
    assert [entry.name for entry in PEOPLE if not re.search(r"sha256 [0-9a-f]{64}", entry.remark)] == []


def test_nothing_that_is_measured_with_was_trained_on():
    """Pairs of like hashes were looked at and are other photographs; the list of them has no pair too many."""
    looked_at = {(row["here"], row["there"]) for row in rows("looked-at.csv")}
    assert {(pair.here, pair.there) for pair in shared_photographs(TRAINING, MEASURING)} == looked_at
    assert {entry.sha256 for entry in TRAINING}.isdisjoint(entry.sha256 for entry in MEASURING)


def test_the_training_list_is_right(shared):
    """Against the sets, with the faces hidden again that the second finder saw."""
    listed = {(entry.kind, entry.name): entry for entry in TRAINING}
    hidden = boxes()
    made = 0
    for kind in ("people", "people-weak", "sources"):
        items = {item.name: item for item in find_items(shared / "data" / kind)}
        assert items.keys() == {name for listed_kind, name in listed if listed_kind == kind}
        for name, item in items.items():
            entry = listed[kind, name]
            assert item.alpha is None or sha256(item.alpha) in entry.remark
            if name not in hidden:
                assert sha256(item.image) == entry.sha256, name
            elif made < 5:
                made += 1
                sample = read(next(found for found in open_set(shared / "data" / kind).items if found.name == name))
                picture = anonymize(sample.image, hidden[name], sample.alpha).image
                assert phash.distance(phash.phash(picture), [phash.from_text(entry.phash)]) <= 2  # rounding elsewhere
    assert made == 5


def measured_pictures(shared: Path) -> dict[tuple[str, str], Path]:
    """What must not be trained on, by its kind and name in the list."""
    found = {("bundled", "astronaut"): ASTRONAUT}
    for path in (shared / "data/portraits").glob("*/image.jpg"):
        found["portraits", path.parent.name] = path
    for kind in ("people-held", "ppt"):
        found |= {(kind, item.name): item.image for item in find_items(shared / "data" / kind)}
    return found


def test_the_measuring_list_is_complete_and_right(shared):
    pictures = measured_pictures(shared)
    listed = {(entry.kind, entry.name): entry for entry in MEASURING if entry.kind != "unread"}
    assert listed.keys() == pictures.keys()
    for number, (key, path) in enumerate(pictures.items()):
        assert sha256(path) == listed[key].sha256
        if number % 8 == 0:
            hashes = [phash.from_text(text) for text in listed[key].forms.split()]
            found = phash.forms(read_image(path).rgb)
            assert max(phash.distance(value, hashes) for value in found) <= 2, key  # rounding elsewhere


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
def test_every_form_of_a_measured_portrait_would_be_found(form, shared):
    for (kind, name), path in measured_pictures(shared).items():
        if kind in ("portraits", "bundled"):
            picture = form_of(read_image(path).rgb, form)
            trained = Entry("people", "trained", phash=phash.to_text(phash.phash(picture)))
            assert name in [pair.there for pair in shared_photographs([trained], MEASURING)]
