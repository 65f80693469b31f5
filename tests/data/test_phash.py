"""Perceptual hashes: what they survive, what they tell apart."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from p3m_edge.data import phash
from p3m_edge.data.anonymize.hide import anonymize
from p3m_edge.data.detect import Box
from p3m_edge.data.synth import portrait
from p3m_edge.errors import InputError
from p3m_edge.imageio import read_image

ASTRONAUT = Path(phash.__file__).parents[1] / "assets" / "astronaut.jpg"


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    return read_image(ASTRONAUT).rgb


def far(one: np.ndarray, other: np.ndarray) -> int:
    return phash.distance(phash.phash(one), [phash.phash(other)])


def test_waves_above_their_median_are_ones():
    """A picture of one wave, against the transform written out."""
    n = np.arange(32) + 0.5
    wave = np.cos(np.pi * 3 * n / 32)[:, None] * np.cos(np.pi * 2 * n / 32)
    bits = f"{phash.phash(np.rint(128 + 100 * wave).astype(np.uint8)):064b}"
    assert bits[0] == "1"  # the mean
    assert bits[3 * 8 + 2] == "1"
    assert bits.count("1") <= 32
    assert f"{phash.phash(np.rint(128 - 100 * wave).astype(np.uint8)):064b}"[3 * 8 + 2] == "0"


def test_what_a_hash_survives(astronaut):
    _, jpeg = cv2.imencode(".jpg", astronaut, [cv2.IMWRITE_JPEG_QUALITY, 10])
    same = {
        "smaller": cv2.resize(astronaut, (97, 64), interpolation=cv2.INTER_AREA),
        "larger": cv2.resize(astronaut, (900, 900)),
        "grey": cv2.cvtColor(astronaut, cv2.COLOR_RGB2GRAY),
        "darker": (astronaut * 0.6).astype(np.uint8),
        "JPEG": np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), np.uint8),
        "no face": anonymize(astronaut, [Box(180, 85, 95, 100, 1.0, "by hand")]).image,
    }
    assert {name: far(astronaut, picture) for name, picture in same.items() if far(astronaut, picture) > 4} == {}


@pytest.mark.parametrize("share", [1.0, 0.9, 0.8])
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("corner", [(0, 0), (1, 0), (1, 1)])
def test_forms_contain_mirrored_and_cropped_ones(astronaut, share, mirrored, corner):
    side = round(512 * share)
    top, left = ((512 - side) * at for at in corner)
    part = astronaut[top : top + side, left : left + side]
    part = np.ascontiguousarray(part[:, ::-1]) if mirrored else part
    small = np.asarray(cv2.resize(part, (200, 200), interpolation=cv2.INTER_AREA), np.uint8)
    assert phash.distance(phash.phash(small), phash.forms(astronaut)) <= 4
    if share == 0.8 or mirrored:
        assert far(astronaut, part) > phash.SAME  # hence the forms


def test_pictures_of_other_things_are_far(astronaut):
    forms = phash.forms(astronaut)
    assert forms[0] == phash.phash(astronaut)
    assert len(set(forms)) == len(forms) > 50
    drawn = [phash.phash(portrait(seed, 128, 128).image) for seed in range(20)]
    assert min(phash.distance(value, forms) for value in drawn) > phash.SAME


def test_any_size_has_forms():
    for shape in ((1, 1), (1, 300), (300, 2, 3)):
        assert len(phash.forms(np.zeros(shape, np.uint8))) >= 1


def test_text_and_back():
    for value in (0, 1, 2**64 - 1, 0x0123456789ABCDEF):
        assert phash.from_text(phash.to_text(value)) == value
    for text in ("", "0", "g" * 16, "-000000000000001", "0" * 17):
        with pytest.raises(InputError, match="not a perceptual hash"):
            phash.from_text(text)
    assert phash.distance(0, []) == 64
    assert phash.distance(0b1011, [0, 0b1000]) == 2
