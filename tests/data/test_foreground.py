"""Foreground colours: what is estimated, and a cache that is never the reason for a failure."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p3m_edge.data.foreground import cached, estimate
from p3m_edge.data.sets import open_set
from p3m_edge.errors import InputError
from p3m_edge.imageio import read_image, write_png
from tests.portraits import portrait, write_set

pytest.importorskip("pymatting")


def test_the_colours_compose_the_picture_and_are_those_of_the_two():
    alpha = portrait(90, 120).alpha
    share = alpha[..., None] / 255
    red, blue = np.array([200, 60, 40]), np.array([30, 90, 180])
    image = np.rint(share * red + (1 - share) * blue).astype(np.uint8)
    foreground, background = estimate(image, alpha)
    assert foreground.dtype == background.dtype == np.uint8
    assert np.abs(share * foreground + (1 - share) * background - image).max() <= 1
    assert np.abs(foreground - red)[alpha > 60].max() < 8  # where the picture itself is up to 130 steps away
    assert np.abs(background - blue)[alpha < 195].max() < 8


@pytest.mark.parametrize("value", [0, 255])
def test_alphas_of_one_value(value):
    sample = portrait(20, 30)
    parts = estimate(sample.image, np.full((20, 30), value, np.uint8))
    assert np.abs(parts[0 if value else 1].astype(int) - sample.image).max() <= 1


def test_one_pixel():
    parts = estimate(np.full((1, 1, 3), 50, np.uint8), np.full((1, 1), 255, np.uint8))
    assert np.abs(parts[0].astype(int) - 50).max() <= 1


def test_arrays_of_another_form():
    sample = portrait(20, 30)
    pairs: list[tuple[Any, Any]] = [
        (sample.image[:10], sample.alpha),
        (sample.image[..., :2], sample.alpha),
        (sample.image[:0], sample.alpha[:0]),
        (sample.image, sample.alpha / 255),
    ]
    for image, alpha in pairs:
        with pytest.raises(InputError, match="estimated from uint8"):
            estimate(image, alpha)


def entry_of(folder: Path) -> Path:
    (entry,) = folder.iterdir()
    return entry


def test_an_entry_is_made_once_and_used_again(tmp_path):
    item = open_set(write_set(tmp_path / "set", [portrait()])).items[0]
    folder = tmp_path / "new" / "cache"
    first = cached(item, folder)
    assert first.foreground is not None
    assert first.background is not None
    for part, expected in zip((first.foreground, first.background), estimate(first.image, first.alpha), strict=True):
        assert np.array_equal(part, expected)
    # What is read again is the entry, and not another estimation.
    entry = entry_of(folder)
    write_png(entry, 255 - read_image(entry).rgb)
    second = cached(item, folder)
    assert second.foreground is not None
    assert second.background is not None
    assert np.array_equal(second.foreground, 255 - first.foreground)
    assert np.array_equal(second.background, 255 - first.background)


def test_an_entry_belongs_to_the_content_and_not_to_the_name(tmp_path):
    renamed = replace(portrait(), name="other")
    other_alpha, other_image = portrait(), portrait()
    other_alpha.alpha[0, 0] ^= 1
    other_image.image[0, 0] ^= 1
    folder = tmp_path / "cache"
    for number, sample in enumerate((portrait(), renamed, other_alpha, other_image)):
        cached(open_set(write_set(tmp_path / f"set{number}", [sample])).items[0], folder)
    assert len(list(folder.iterdir())) == 3


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "size"])
def test_a_damaged_entry_is_made_anew(tmp_path, damage):
    item = open_set(write_set(tmp_path / "set", [portrait()])).items[0]
    folder = tmp_path / "cache"
    first = cached(item, folder)
    entry = entry_of(folder)
    whole = entry.read_bytes()
    if damage == "size":
        write_png(entry, read_image(entry).rgb[:-1])
    else:
        entry.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "text": b"not a picture"}[damage])
    second = cached(item, folder)
    assert second.foreground is not None
    assert first.foreground is not None
    assert np.array_equal(second.foreground, first.foreground)
    assert entry.read_bytes() == whole


def test_a_set_with_colours_keeps_its_own(tmp_path):
    write_set(tmp_path / "set", [portrait()], foreground="fg", background="bg")
    sample = cached(open_set(tmp_path / "set").items[0], tmp_path / "cache")
    assert sample.foreground is not None
    assert np.array_equal(sample.foreground, read_image(tmp_path / "set" / "fg" / "portrait0.png").rgb)
    assert not (tmp_path / "cache").exists()


def test_a_cache_that_cannot_be_written_costs_time_and_not_the_run(tmp_path):
    item = open_set(write_set(tmp_path / "set", [portrait()])).items[0]
    (tmp_path / "file").write_text("x")
    with pytest.warns(UserWarning, match="foregrounds are not kept"):
        sample = cached(item, tmp_path / "file")
    assert sample.foreground is not None


def test_without_pymatting_the_extra_is_named(tmp_path):
    (tmp_path / "pymatting.py").write_text("raise ImportError('broken')")
    code = (
        "import numpy as np\n"
        "from p3m_edge.data.foreground import estimate\n"
        "from p3m_edge.errors import MissingError\n"
        "try:\n"
        "    estimate(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8))\n"
        "except MissingError as error:\n"
        "    print(error, error.hint)\n"
    )
    path = os.pathsep.join([str(tmp_path), str(Path.cwd())])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert "'pymatting' cannot be imported (broken)" in done.stdout
    assert "p3m-edge[data]" in done.stdout
