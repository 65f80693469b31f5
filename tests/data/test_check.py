"""The check of a set: every kind of problem is found where it is, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from p3m_edge.data.check import CheckReport, check
from p3m_edge.errors import InputError
from p3m_edge.imageio import write_png
from tests.portraits import portrait, write_set


def a_set(folder: Path, count: int = 3, first: int = 0) -> Path:
    samples = [portrait(seed=first + i) for i in range(count)]
    return write_set(folder, samples, trimap="trimap", face_mask="facemask")


def problems(report: CheckReport) -> list[tuple[str, str, str]]:
    """Kind, split, and the file's folder and name."""
    return [(p.kind, p.split, "/".join(p.file.parts[-2:])) for p in report.problems]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_clean_set_is_counted(tmp_path, workers):
    a_set(tmp_path / "mine")
    big = replace(portrait(100, 90, seed=7), name="big")
    write_set(tmp_path / "mine", [big], trimap="trimap", face_mask="facemask")
    report = check(tmp_path / "mine", workers=workers)
    assert report.problems == ()
    assert report.pictures == 4
    (split,) = report.splits
    assert (split.name, split.kind, split.blurred, split.pictures) == ("mine", "folder", None, 4)
    assert (str(split.smallest), str(split.largest)) == ("80x60", "90x100")
    samples = [portrait(seed=i) for i in range(3)] + [big]
    expected = {
        "foreground": [s.alpha.mean() / 255 for s in samples],
        "soft": [np.mean((s.alpha > 0) & (s.alpha < 255)) for s in samples],
        "unknown": [np.mean(s.trimap == 128) for s in samples if s.trimap is not None],
        "face": [np.mean(s.face_mask == 255) for s in samples if s.face_mask is not None],
    }
    for field, values in expected.items():
        spread = getattr(split, field)
        assert spread.pictures == 4
        assert [spread.smallest, spread.mean, spread.largest] == pytest.approx(
            [min(values), sum(values) / 4, max(values)]
        )


def test_missing_partners_strays_and_namesakes(tmp_path):
    a_set(tmp_path)
    (tmp_path / "alpha" / "portrait0.png").unlink()
    (tmp_path / "trimap" / "portrait1.png").unlink()
    (tmp_path / "image" / "portrait2.png").rename(tmp_path / "image" / "renamed.png")
    (tmp_path / "facemask" / "portrait0.jpg").write_bytes(b"x")
    name = tmp_path.name
    assert sorted(problems(check(tmp_path))) == sorted(
        [
            ("missing", name, "image/portrait0.png"),  # alpha
            ("missing", name, "image/portrait1.png"),  # trimap
            *[("missing", name, "image/renamed.png")] * 3,
            *[("stray", name, f"{folder}/portrait2.png") for folder in ("alpha", "trimap", "facemask")],
            # Of the two files called portrait0, the first by name is used, and that one is no picture.
            ("namesake", name, "facemask/portrait0.png"),
            ("unreadable", name, "facemask/portrait0.jpg"),
        ]
    )


def test_a_missing_folder_of_alphas_is_one_problem(tmp_path):
    a_set(tmp_path / "good")
    write_set(tmp_path / "train", [portrait(seed=i) for i in range(5, 8)], "blurred_image", "mask")
    (tmp_path / "train" / "mask").rename(tmp_path / "train" / "masks")
    assert problems(check(tmp_path)) == [("missing", "train", "train/mask")]


def test_what_cannot_be_read(tmp_path):
    a_set(tmp_path, 5)
    cut = [tmp_path / "image" / "portrait0.png", tmp_path / "alpha" / "portrait1.png"]
    for path in cut:
        path.write_bytes(path.read_bytes()[:-30])
    photo = (tmp_path / "image" / "portrait4.png").with_suffix(".jpg")
    Image.fromarray(portrait(seed=4).image).save(photo, quality=90)
    photo.write_bytes(photo.read_bytes()[:-200])
    photo.with_suffix(".png").unlink()
    (tmp_path / "facemask" / "portrait2.png").write_bytes(b"")
    write_png(tmp_path / "alpha" / "portrait3.png", portrait(seed=3).image)
    report = check(tmp_path)
    assert problems(report) == [
        ("unreadable", tmp_path.name, "image/portrait0.png"),
        ("unreadable", tmp_path.name, "alpha/portrait1.png"),
        ("unreadable", tmp_path.name, "facemask/portrait2.png"),
        ("unreadable", tmp_path.name, "alpha/portrait3.png"),
        ("unreadable", tmp_path.name, "image/portrait4.jpg"),
    ]
    assert "colour picture" in report.problems[3].message
    foreground, face = report.splits[0].foreground, report.splits[0].face
    assert foreground is not None
    assert face is not None
    assert (foreground.pictures, face.pictures) == (3, 4)


def test_unequal_sizes(tmp_path):
    a_set(tmp_path)
    write_png(tmp_path / "alpha" / "portrait1.png", portrait(60, 81).alpha)
    write_png(tmp_path / "facemask" / "portrait2.png", portrait(61, 80).alpha)
    report = check(tmp_path)
    assert problems(report) == [
        ("size", tmp_path.name, "alpha/portrait1.png"),
        ("size", tmp_path.name, "facemask/portrait2.png"),
    ]
    assert report.problems[0].message == "is 81 x 60 pixels, its picture portrait1.png 80 x 60"


def test_black_alphas_and_bad_trimaps(tmp_path):
    a_set(tmp_path, 6)
    sample = portrait()
    assert sample.trimap is not None
    write_png(tmp_path / "alpha" / "portrait0.png", np.zeros_like(sample.alpha))
    write_png(tmp_path / "trimap" / "portrait1.png", np.where(portrait(seed=1).alpha > 127, 255, 0).astype(np.uint8))
    write_png(tmp_path / "trimap" / "portrait2.png", np.minimum(sample.trimap, 254))
    write_png(tmp_path / "trimap" / "portrait3.png", np.where(sample.trimap == 255, 0, sample.trimap))
    slightly = sample.trimap.copy()
    slightly[0, 0] = 255  # one pixel in 4800: below what counts
    write_png(tmp_path / "trimap" / "portrait4.png", slightly)
    report = check(tmp_path)
    assert problems(report) == [
        ("black alpha", tmp_path.name, "alpha/portrait0.png"),
        ("trimap", tmp_path.name, "trimap/portrait0.png"),
        ("trimap", tmp_path.name, "trimap/portrait1.png"),
        ("trimap", tmp_path.name, "trimap/portrait2.png"),
        ("trimap", tmp_path.name, "trimap/portrait3.png"),
    ]
    messages = [problem.message for problem in report.problems]
    assert "contradicts the alpha" in messages[1]
    assert "no unknown region" in messages[2]
    assert "neither 0, 128 nor 255" in messages[3]
    assert "contradicts" in messages[4]


def test_the_same_picture_twice_also_across_splits(tmp_path):
    a_set(tmp_path / "train")
    other = [replace(portrait(seed=1), name="again"), replace(portrait(seed=8), name="portrait0")]
    write_set(tmp_path / "validation" / "test", other, trimap="trimap")
    report = check(tmp_path)
    assert problems(report) == [("double", "test", "image/again.png")]
    assert report.problems[0].message == "the same pixels as portrait1.png in train"
    assert [split.name for split in report.splits] == ["train", "test"]


def test_one_pixel_pictures(tmp_path):
    write_set(tmp_path, [replace(portrait(1, 1), name="dot", alpha=np.full((1, 1), 9, np.uint8))])
    report = check(tmp_path)
    assert report.problems == ()
    assert str(report.splits[0].smallest) == "1x1"


def test_nothing_to_check(tmp_path):
    with pytest.raises(InputError, match="holds no data set"):
        check(tmp_path)
    with pytest.raises(InputError, match="nowhere"):
        check(tmp_path / "nowhere")
