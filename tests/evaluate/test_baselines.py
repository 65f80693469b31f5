"""The baselines: what they give, and that finding nobody is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from p3m_edge import __version__
from p3m_edge.data import detect
from p3m_edge.data.detect import Box
from p3m_edge.data.sets import open_set, read
from p3m_edge.data.synth import portrait
from p3m_edge.evaluate.baselines import LONGER_SIDE, trimap_from_face
from p3m_edge.evaluate.methods import Options, open_method
from p3m_edge.evaluate.results import Evaluation
from p3m_edge.evaluate.runner import Trimaps, run
from p3m_edge.evaluate.tables import protocols
from p3m_edge.imageio import read_image
from p3m_edge.metrics import BACKGROUND, FOREGROUND, UNKNOWN
from tests.evaluate.material import make_set
from tests.measuring_set import link, measured
from tests.portraits import write_set

ASTRONAUT = Path(detect.__file__).parents[1] / "assets" / "astronaut.jpg"


def matte(name: str, rgb: np.ndarray) -> np.ndarray:
    method = open_method(name, Options())
    assert not method.info.trimap_based
    return method.prepare("any")[1](rgb, np.zeros(rgb.shape[:2], np.uint8))


def means(name: str, folder: Path) -> tuple[dict[str, Any], str]:
    dataset = open_set(folder)
    result = run(open_method(name, Options()), dataset, Trimaps(dataset, "alpha"), ("float",))
    assert not result.failures
    return result.means["float"], next(protocols(Evaluation(__version__, (result,))))


@pytest.mark.parametrize("name", ["background", "facebox"])
def test_nobody_is_all_background(tmp_path, name):
    folder = make_set(tmp_path / "discs")
    found, words = means(name, folder)
    whole = np.mean([read(item).alpha.sum() / 255 for item in open_set(folder).items]) / 1000
    assert found["SAD"].value == pytest.approx(whole, rel=1e-5)
    assert words.endswith("all background in 3 of 3 pictures")


def test_the_trimap_of_an_upright_person():
    face = Box(80, 60, 40, 50, 1.0, "by hand")
    trimap = trimap_from_face(face, 400, 200)
    assert set(np.unique(trimap)) == {BACKGROUND, UNKNOWN, FOREGROUND}
    for x, y in ((100, 85), (100, 115), (100, 180), (85, 170)):  # the middle of the face, neck, chest
        assert trimap[y, x] == FOREGROUND
    for x, y in ((100, 30), (62, 85), (40, 200), (100, 390)):  # hair, arm, legs
        assert trimap[y, x] == UNKNOWN
    for x, y in ((100, 5), (10, 85), (2, 399), (199, 200)):
        assert trimap[y, x] == BACKGROUND
    assert np.array_equal(trimap, trimap[:, ::-1])


@pytest.mark.parametrize("face", [Box(-50, -50, 200, 200, 1, ""), Box(95, 300, 9, 9, 1, ""), Box(0, 0, 1, 1, 1, "")])
def test_there_is_always_some_background(face):
    assert (trimap_from_face(face, 100, 100) == BACKGROUND).any()


def test_an_astronaut_is_cut_out():
    rgb = cv2.resize(read_image(ASTRONAUT).rgb, None, fx=1.5, fy=1.5)  # longer than what is worked on
    assert max(rgb.shape) > LONGER_SIDE
    alpha = matte("facebox", rgb)
    assert alpha.shape == rgb.shape[:2]
    assert alpha[120:260, 300:380].mean() > 0.95  # the face
    assert alpha[450:600, 250:400].mean() > 0.9  # the suit
    assert alpha[:300, :80].max() == 0


@pytest.mark.full
def test_drawn_portraits_are_matted_better_than_not_at_all(tmp_path):
    folder = write_set(tmp_path / "drawn", [portrait(seed, 320, 320, frontal=True) for seed in (3, 5)])
    nothing, _ = means("background", folder)
    found, words = means("facebox", folder)
    assert found["SAD"].value < 0.7 * nothing["SAD"].value, words


def test_a_real_portrait_with_a_clear_face(shared, tmp_path):
    """The only one with a matte, a coarse one; it is larger than what is worked on."""
    folder = link(shared, ["unsplash_1552374196"], tmp_path / "set")
    nothing, _ = means("background", folder)
    found, _ = means("facebox", folder)
    assert found["MAD"].value < nothing["MAD"].value / 2


def test_the_measuring_portraits_are_a_set(shared, tmp_path):
    names = measured(shared)
    folder = link(shared, names, tmp_path / "measuring")
    assert len(open_set(folder).items) == len(names) == 9
    found, words = means("background", folder)
    assert found["MAD"].value > 0.3
    assert "9 of 9" in words
