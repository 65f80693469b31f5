"""``p3m-edge data synth``: the set, JSON, errors."""

import json
from functools import partial

import numpy as np
import pytest

from p3m_edge.imageio import read_image


@pytest.fixture
def call(command_line):
    return partial(command_line, "data", "synth", "--workers", 1)


def test_a_set_is_the_same_on_any_number_of_cores(tmp_path, command_line, call):
    for workers in (1, 2):
        done = call(tmp_path / str(workers), "-n", 4, "--size", "96x64", "--workers", workers, "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["drawn"] == 4
    for file in (tmp_path / "1").rglob("*.png"):
        assert file.read_bytes() == (tmp_path / "2" / file.relative_to(tmp_path / "1")).read_bytes()
    folder = tmp_path / "1"
    name = "00000003.png"
    image, fg, bg = (read_image(folder / kind / name).rgb.astype(float) for kind in ("image", "fg", "bg"))
    alpha = read_image(folder / "alpha" / name).rgb / 255
    assert image.shape == (64, 96, 3)
    assert np.abs(alpha * fg + (1 - alpha) * bg - image).mean() < 12  # noise and compression remain
    checked = command_line("data", "check", folder)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_hidden_faces_and_no_colours(tmp_path, call):
    assert call(tmp_path / "out", "-n", 2, "--size", "128x128", "--blur-faces", "--no-colours").returncode == 0
    folders = {path.name for path in (tmp_path / "out").iterdir()}
    assert folders == {"synth.json", "blurred_image", "alpha", "trimap", "facemask"}


def test_a_sheet_to_look_at(tmp_path, call):
    for name in ("sheet.png", "sheet.jpg"):
        done = call("--sheet", tmp_path / name, "-n", 2, "--size", "64x64", "--pairs", "--seed", 1)
        assert done.returncode == 0, done.stderr
    lossless, lossy = (read_image(tmp_path / name).rgb.astype(int) for name in ("sheet.png", "sheet.jpg"))
    assert lossless.shape[1] == 4 * 114 + 4
    assert np.abs(lossless - lossy).mean() < 5


def test_measurements_as_json(call):
    done = call("--measure", "-n", 2, "--size", "256x256", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["pictures"] == document["figures"]["composition"]["met"] == 2
    assert 0 < document["figures"]["composition"]["largest"] <= 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "OUT is missing"),
        (("out", "--size", "20x20"), "32 to 4096 each"),
        (("out", "--seed", "-1"), "--seed"),
        (("out", "--measure"), "writes no set"),
        (("--sheet", "a.gif"), "not named .png or .jpg"),
        (("--sheet", "a.png", "-n", "1000"), "at most"),
    ],
)
def test_impossible_requests(arguments, words, tmp_path, call):
    done = call(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert not list(tmp_path.iterdir())


def test_another_recipe_is_refused_and_a_damaged_record_named(tmp_path, call):
    assert call(tmp_path, "-n", 1, "--size", "64x64").returncode == 0
    other = call(tmp_path, "-n", 1, "--size", "64x64", "--seed", 1)
    assert other.returncode == 2
    assert "other settings: seed" in other.stderr
    (tmp_path / "synth.json").write_text("{")
    damaged = call(tmp_path, "-n", 1, "--size", "64x64")
    assert damaged.returncode == 1
    assert "damaged" in damaged.stderr


def test_a_file_in_the_way(tmp_path, call):
    (tmp_path / "out").write_text("mine")
    done = call(tmp_path / "out", "-n", 1)
    assert done.returncode == 1
    assert "cannot be used" in done.stderr
    assert (tmp_path / "out").read_text() == "mine"
