"""Lists of pictures: what is computed, what comes from elsewhere, what two lists share."""

from __future__ import annotations

import hashlib
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from p3m_edge.data import phash
from p3m_edge.data.anonymize.folder import read_boxes
from p3m_edge.data.anonymize.hide import anonymize
from p3m_edge.data.detect import Box
from p3m_edge.data.lists import Entry, Shared, described, list_sets, read_list, shared_photographs, write_list
from p3m_edge.data.sets import find_items
from p3m_edge.errors import InputError
from p3m_edge.imageio import read_image, write_png
from tests.portraits import portrait, write_set

ASTRONAUT = Path(phash.__file__).parents[1] / "assets" / "astronaut.jpg"
HEAD = slice(40, 240), slice(100, 360)
FACE = Box(80, 45, 95, 100, 1.0, "by hand")


@pytest.fixture(scope="module")
def entries(tmp_path_factory) -> list[Entry]:
    """A set of two ellipses, and a folder with a face, the same mirrored, and the same hidden."""
    root = tmp_path_factory.mktemp("sets")
    write_set(root / "ellipses", [portrait(seed=i) for i in range(2)])
    picture = read_image(ASTRONAUT).rgb[HEAD]
    hidden = anonymize(picture, [FACE])
    for folder in ("blurred_image", "facemask"):
        (root / "hidden" / folder).mkdir(parents=True)
    write_png(root / "hidden/blurred_image/person.png", hidden.image)
    write_png(root / "hidden/facemask/person.png", hidden.face_mask)
    (root / "clear").mkdir()
    write_png(root / "clear/somebody.png", np.ascontiguousarray(picture[:, ::-1]))
    folders = [root / "ellipses", root / "hidden", root / "clear"]
    return list_sets(folders, with_forms=True, workers=1)


def test_rows_say_what_is_to_be_seen(entries):
    assert [(e.kind, e.name, int(e.faces) > 0) for e in entries] == [
        ("ellipses", "portrait0", False), ("ellipses", "portrait1", False), ("hidden", "person", False),
        ("clear", "somebody", True),
    ]  # fmt: skip
    assert all(len(e.sha256) == 64 and e.forms.split()[0] == e.phash for e in entries)
    assert len({e.sha256 for e in entries}) == len(entries)


def test_the_hashes_are_of_file_and_picture(tmp_path):
    write_png(tmp_path / "p.png", portrait(seed=3).image)
    entry = list_sets([tmp_path], workers=1)[0]
    assert entry.sha256 == hashlib.sha256((tmp_path / "p.png").read_bytes()).hexdigest()
    assert entry.phash == phash.to_text(phash.phash(portrait(seed=3).image))
    assert entry.forms == ""


def test_a_list_comes_back_as_written(entries, tmp_path):
    odd = Entry("a kind", 'name, "quoted"', remark="Zoë\nsecond line", licence="CC-BY 4.0")
    write_list(tmp_path / "list.csv", [*entries, odd])
    assert read_list(tmp_path / "list.csv") == [*entries, odd]
    write_list(tmp_path / "short.csv", [odd])
    assert "forms" not in (tmp_path / "short.csv").read_text("utf-8").splitlines()[0]
    assert read_list(tmp_path / "short.csv") == [odd]


def test_an_earlier_list_describes(entries):
    known = [
        Entry("portrait", "person", "NASA", "public domain", sha256="ab" * 32, phash="0" * 16, faces="7"),
        Entry("synthetic set", "drawn", "seed 1"),
        *(Entry("other", name) for name in ("portrait0", "portrait1", "somebody")),
    ]
    found = {entry.name: entry for entry in described(entries, known)}
    assert found["drawn"] == known[1]  # kept
    person, before = found["person"], entries[2]
    assert (person.kind, person.source, person.licence, person.sha256) == (
        "portrait", "NASA", "public domain", "ab" * 32,
    )  # fmt: skip
    assert (person.phash, person.faces) == (before.phash, "0")  # looked at anew
    for rows in (known[:2], [*known, known[0]]):
        with pytest.raises(InputError, match="rows of its description"):
            described(entries, rows)


def test_names_of_lists_and_pictures_match_in_whatever_unicode_form(tmp_path):
    nfc, nfd = (unicodedata.normalize(form, "Zoë") for form in ("NFC", "NFD"))
    folder = tmp_path / "set"
    folder.mkdir()
    write_png(folder / f"{nfd}.png", portrait().image)
    assert [item.name for item in find_items(folder)] == [nfc]
    for name in (nfc, nfd):
        (tmp_path / "list.csv").write_text(f"kind,name,source\nx,{name},me\n", "utf-8")
        assert described([Entry("x", nfc)], read_list(tmp_path / "list.csv")) == [Entry("x", nfc, "me")]
        (tmp_path / "boxes.csv").write_text(f"name,x,y,width,height\n{name},1,2,3,4\n", "utf-8")
        assert list(read_boxes(tmp_path / "boxes.csv", [nfc])) == [nfc]


def test_photographs_of_both_lists_are_found(entries):
    measured = next(e for e in entries if e.name == "somebody")
    training = [Entry("x", "whole", phash=measured.phash), Entry("x", "drawn without a hash")]
    assert shared_photographs(training, [measured]) == [Shared("whole", "somebody", 0)]
    part = read_image(ASTRONAUT).rgb[HEAD][:160, 52:]  # 80 %, and "somebody" is mirrored
    cropped = Entry("x", "cropped", phash=phash.to_text(phash.phash(part)))
    for one, other in ((cropped, measured), (measured, cropped)):  # the forms of either list count
        assert len(shared_photographs([one], [other])) == 1
    assert shared_photographs([e for e in entries if e.kind == "ellipses"], [measured]) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "lacks one of the columns kind, name"),
        ("name,x\na,1\n", "lacks one of the columns kind, name"),
        ("kind,name,colour\na,b,c\n", "has other columns than kind, name, source"),
        ("kind,source\na,b\n", "lacks one of the columns kind, name"),
    ],
    ids=["empty", "x", "more", "less"],
)
def test_what_is_no_list(tmp_path, text, fault):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(InputError, match=fault):
        read_list(tmp_path / "list.csv")
    with pytest.raises(InputError, match="cannot be read"):
        read_list(tmp_path / "absent.csv")


def test_damaged_hashes_and_masks(tmp_path):
    bad = Entry("x", "a", phash="xyz")
    with pytest.raises(InputError, match="perceptual hash"):
        shared_photographs([bad], [])
    for folder, side in (("image", 20), ("facemask", 30)):
        (tmp_path / folder).mkdir(exist_ok=True)
        write_png(tmp_path / folder / "p.png", np.zeros((side, side), np.uint8))
    with pytest.raises(InputError, match=r"is 30 x 30 pixels, its picture p\.png 20 x 20"):
        list_sets([tmp_path], workers=1)
