"""``p3m-edge data places``: the strips, JSON, bad files, errors."""

import json
from functools import partial

import numpy as np
import pytest

from p3m_edge.data.compose.backgrounds import behind, strips
from p3m_edge.imageio import read_image
from tests.portraits import portrait, write_set

PORTRAITS = [portrait(96, 128, seed=i) for i in range(3)]


@pytest.fixture
def call(command_line, here):
    return partial(command_line, "data", "places", "--workers", 1, cwd=here)


@pytest.fixture
def here(tmp_path):
    write_set(tmp_path / "in", PORTRAITS)
    return tmp_path


def test_what_is_beside_the_people(here, call):
    done = call("in", "out", "--least", 20, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    wanted = {f"{p.name}_{side}.png": p.image[at] for p in PORTRAITS for side, at in strips(p.alpha, 20).items()}
    assert document == {"out": "out", "parts": len(wanted), "without": [], "skipped": []}
    assert {path.name for path in (here / "out").iterdir()} == set(wanted)
    for name, picture in wanted.items():
        assert np.array_equal(read_image(here / "out" / name).rgb, picture)


def test_where_nothing_is_beside_them_it_says_so(here, call):
    done = call("in", "out")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "out: 0 pictures; nothing of use beside the person in 3 portraits\n"
    assert done.stderr == ""


def test_people_are_filled_in_from_what_surrounds_them(here, call):
    done = call("in", "out", "--filled", "--least", 96, "--json")
    assert done.returncode == 0, done.stderr
    found = {one.name: behind(one.image, one.alpha) for one in PORTRAITS}
    wanted = {f"{name}_behind.png": picture for name, picture in found.items() if picture is not None}
    assert wanted
    narrow = call("in", "none", "--filled", "--least", 97, "--json")
    assert json.loads(narrow.stdout)["parts"] == 0
    assert json.loads(done.stdout)["parts"] == len(wanted)
    assert {path.name for path in (here / "out").iterdir()} == set(wanted)
    for name, picture in wanted.items():
        assert np.array_equal(read_image(here / "out" / name).rgb, picture)


def test_nothing_of_a_person_is_left_behind_them():
    y, x = np.mgrid[:200, :300]
    scene = np.stack([x * 255 // 300, y * 255 // 200, 255 - x * 255 // 300], axis=-1).astype(np.uint8)
    alpha = np.zeros((200, 300), np.uint8)
    alpha[60:, 100:200] = 255
    picture = scene.copy()
    picture[alpha > 0] = (255, 0, 0)
    filled = behind(picture, alpha)
    assert filled is not None
    there, person, wall = (one[alpha > 0].astype(int) for one in (filled, picture, scene))
    assert np.abs(there - wall).mean() < 20
    assert np.abs(there - person).max(axis=-1).min() > 60  # the colour of the clothes is nowhere
    assert np.array_equal(filled[:40], picture[:40])


def test_plain_walls_and_people_who_fill_the_picture_give_no_background():
    alpha = np.zeros((200, 300), np.uint8)
    alpha[60:, 100:200] = 255
    assert behind(np.full((200, 300, 3), 128, np.uint8), alpha) is None
    assert behind(PORTRAITS[0].image, np.full(PORTRAITS[0].alpha.shape, 255, np.uint8)) is None


def test_bad_files_do_not_stop_the_others(here, call):
    image = here / "in" / "image" / "portrait0.png"
    image.write_bytes(image.read_bytes()[:200])
    (here / "in" / "alpha" / "portrait1.png").write_text("no picture")
    done = call("in", "out", "--least", 20, "--json")
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert document["error"]["message"] == "2 portraits could not be used"
    assert "portrait0.png" in document["skipped"][0]
    assert "portrait1.png" in document["skipped"][1]
    assert document["parts"] == len(list((here / "out").iterdir())) == len(strips(PORTRAITS[2].alpha, 20))
    again = call("in", "out", "--least", 20)
    assert again.returncode == 1
    assert "left out: " in again.stdout
    assert again.stderr.startswith("error: 2 portraits could not be used")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "IN"),
        (("in",), 2, "OUT"),
        (("in", "out", "--least", "0"), 2, "whole number"),
        (("in", "out", "--workers", "some"), 2, "whole number"),
        (("in", "in/places"), 2, "lie in each other"),
        (("nowhere", "out"), 1, "nowhere"),
        (("in/alpha", "out"), 1, "in/alpha"),
        (("P3M-500-P", "out"), 2, "a test set"),
        (("unpaired", "out"), 1, "have no alpha"),
        (("in", "file"), 1, "file cannot be used"),
        (("in", "file/out"), 1, "file/out cannot be used"),
    ],
)
def test_bad_requests(here, arguments, code, message, call):
    write_set(here / "P3M-500-P", PORTRAITS[:1], image="blurred_image", alpha="mask")
    (write_set(here / "unpaired", PORTRAITS) / "alpha" / "portrait1.png").unlink()
    (here / "file").write_text("")
    done = call(*arguments)
    assert done.returncode == code
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert done.stdout == ""
    assert not (here / "out").exists()
