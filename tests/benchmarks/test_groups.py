"""MAD by skin tone, size and light: how pictures are grouped, what is marked, what cannot be measured."""

from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from p3m_edge.benchmarks import groups
from p3m_edge.data import sets
from p3m_edge.data.sample import Sample
from tests.artefacts import make_artefact
from tests.benchmarks.helpers.scripts import Run, runs

TONE, SIZE, LIGHT = groups.TRAITS
# sRGB colours, and the group that their angle is in
SKINS = {"light": (240, 200, 170), "medium": (150, 105, 80), "dark": (80, 52, 40)}


def picture(skin: tuple[int, int, int], background: int = 128) -> Sample:
    """A person who is the left half, with two faces of one colour in a mask, the smaller one blue."""
    image = np.full((60, 80, 3), background, np.uint8)
    alpha, mask = np.zeros((60, 80), np.uint8), np.zeros((60, 80), np.uint8)
    alpha[:, :40] = 255
    mask[10:30, 10:30] = 255
    mask[40:45, 10:15] = 255
    image[mask != 0] = (0, 0, 255)
    image[10:30, 10:30] = skin
    return Sample("made up", image, alpha, face_mask=mask)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name, skin in SKINS.items():
        sample = picture(skin)
        assert sample.face_mask is not None
        files = {
            "blurred_image": cv2.cvtColor(sample.image, cv2.COLOR_RGB2BGR), "alpha": sample.alpha,
            "facemask": sample.face_mask,
        }  # fmt: skip
        for folder, array in files.items():
            path = tmp_path / "data" / "people-held" / folder / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(path), array)
    return tmp_path / "data"


def test_the_angle_is_the_published_one() -> None:
    lab = np.array([[60, 10, 10 * math.sqrt(3)]] * 3 + [[0, 0, 90]], np.float32)  # the median, not the mean
    assert groups.typology_angle(lab) == pytest.approx(30)
    assert groups.typology_angle(np.array([[40, 10, 10]], np.float32)) == pytest.approx(-45)
    assert groups.typology_angle(np.array([[50, 0, 90]], np.float32)) == pytest.approx(0)


@pytest.mark.parametrize("lab", [(70, 0, 0), (20, 3, 3), (40, 10, -8), (40, 20, 0)])
def test_what_has_no_colour_of_skin_has_no_angle(lab: tuple[int, int, int]) -> None:
    assert groups.typology_angle(np.array([lab], np.float32)) is None


@pytest.mark.parametrize("tone", SKINS)
def test_the_largest_face_says_the_tone(tone: str) -> None:
    known = groups.traits(picture(SKINS[tone]))
    assert groups.group_of(TONE, known[TONE]) == tone
    assert known[SIZE] == pytest.approx(0.5)
    assert groups.group_of(SIZE, known[SIZE]) == "middle"


@pytest.mark.parametrize(("level", "group"), [(20, "dark"), (119, "middle"), (250, "bright")])
def test_light_is_the_lightness_of_the_whole_picture(level: int, group: str) -> None:
    known = groups.traits(picture(SKINS["medium"], level))
    assert groups.group_of(LIGHT, known[LIGHT]) == group
    if level == 119:  # half the lightness
        assert known[LIGHT] == pytest.approx(50, abs=0.5)


def test_a_picture_without_a_face_has_no_tone() -> None:
    sample = picture(SKINS["light"])
    for mask in (None, np.zeros_like(sample.alpha)):
        known = groups.traits(Sample("bare", sample.image, sample.alpha, face_mask=mask))
        assert groups.group_of(TONE, known[TONE]) == groups.NOT_KNOWN
        assert known[SIZE] == pytest.approx(0.5)


def test_limits_belong_to_the_group_above() -> None:
    assert [groups.group_of(TONE, angle) for angle in (-30.1, -30, 27.9, 28)] == ["dark", "medium", "medium", "light"]


def test_groups_are_means_with_marks() -> None:
    mads = {"a": 0.01, "b": 0.01, "c": 0.04, "d": 0.02}  # the mean is 0.02
    angles = {"a": 40.0, "b": 0.0, "c": -50.0, "d": None}
    known = {name: {TONE: angles[name], SIZE: 0.5, LIGHT: 50.0} for name in mads}
    found = {(group.by, group.group): group for group in groups.groups(mads, known)}
    assert {name for by, name in found if by == TONE} == {"light", "medium", "dark", groups.NOT_KNOWN}
    assert found["all", ""].mad == pytest.approx(0.02)
    assert found[TONE, "dark"].ratio == pytest.approx(2)
    assert [group.group for group in found.values() if group.worse] == ["dark"]
    assert found[SIZE, "middle"].pictures == 4
    assert (SIZE, "small") not in found


def test_a_perfect_network_serves_nobody_worse() -> None:
    found = list(groups.groups({"a": 0.0, "b": 0.0}, {name: {TONE: None, SIZE: 0.5, LIGHT: 50.0} for name in "ab"}))
    assert not any(group.worse for group in found)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return lambda *words: runs(groups.main, capsys, *words)


def test_the_command_line_measures_an_artefact(run: Run, data: Path, tmp_path: Path) -> None:
    artefact = make_artefact(tmp_path / "onnx")
    done = run(artefact, "--data", data, "--json", "--sheet", tmp_path / "sheet.png")
    assert done.code == 0, done.err
    document = json.loads(done.out)
    assert {group["group"] for group in document["groups"] if group["by"] == TONE} == set(SKINS)
    mads = [picture["MAD"] for picture in document["pictures"].values()]
    assert document["groups"][0]["mad"] == pytest.approx(np.mean(mads))
    assert cv2.imread(str(tmp_path / "sheet.png")) is not None
    table = run(artefact, "--data", data)
    assert table.code == 0
    assert "dark: below -30" in table.out
    assert len(SKINS) == len(mads)


def test_what_cannot_be_measured_is_one_line(run: Run, data: Path, tmp_path: Path) -> None:
    (tmp_path / "empty" / "people-held" / "blurred_image").mkdir(parents=True)
    for folder in (tmp_path / "nowhere", tmp_path, tmp_path / "empty"):
        done = run(data, "--data", folder)
        assert (done.code, len(done.err.strip().splitlines())) == (1, 1), done.err
    done = run(tmp_path / "no-artefact", "--data", data)
    assert (done.code, len(done.err.strip().splitlines())) == (5, 1), done.err


def test_the_pictures_of_people_held_are_in_all_groups(shared: Path) -> None:
    if not (shared / "data" / "people-held").is_dir():
        pytest.skip("../shared/data/people-held is not here")
    names = []
    for item in sets.open_set(shared / "data" / "people-held").items:
        sample = sets.read(item)
        name = groups.group_of(TONE, groups.traits(sample)[TONE])
        if int(np.ptp(sample.image, axis=2).max()) <= 2:
            assert name == groups.NOT_KNOWN, item.name  # a grey picture
        names.append(name)
    counts = {name: names.count(name) for name in (*SKINS, groups.NOT_KNOWN)}
    assert min(counts[name] for name in SKINS) >= 15, counts
    assert counts[groups.NOT_KNOWN] <= 10, counts
