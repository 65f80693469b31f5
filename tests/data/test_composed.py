"""Finished composites: no cut shows, the face mask follows the face, and training takes pictures without anybody."""

import csv
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p3m_edge.data.compose.composite import composite
from p3m_edge.data.sample import Sample
from p3m_edge.data.sets import open_set, read
from p3m_edge.imageio import write_png
from tests.portraits import portrait, write_set

SIDE = 100


def painted(alpha: np.ndarray, face: np.ndarray) -> Sample:
    """A red person with a green face before grey."""
    foreground = np.where(face[..., None], np.array([40, 190, 50]), np.array([190, 40, 50])).astype(np.uint8)
    background = np.full_like(foreground, 90)
    share = alpha[..., None] / 255
    image = np.rint(share * foreground + (1 - share) * background).astype(np.uint8)
    mask = np.where(face, 255, 0).astype(np.uint8)
    return Sample("painted", image, alpha, foreground=foreground, background=background, face_mask=mask)


@settings(max_examples=60)
@given(
    middle=st.integers(42, 58), size=st.tuples(st.integers(32, 120), st.integers(32, 120)),
    shade=st.integers(0, 255), seed=st.integers(0, 10**6),
)  # fmt: skip
def test_a_person_cut_off_below_goes_on_to_the_frame(middle, size, shade, seed):
    rows, columns = np.mgrid[:SIDE, :SIDE]
    # A triangle that widens by more than a rotation can undo, down to the border: below it, there is only more of it.
    # Its edges are soft: steps of whole pixels would hang over after a rotation.
    inside = 3 + (rows - 20) * 0.47 - np.abs(columns - middle)
    alpha = np.rint(np.clip(inside + 0.5, 0, 1) * 255).astype(np.uint8)
    alpha[:20] = 0
    behind = np.full((size[1], size[0], 3), shade, np.uint8)
    made = composite(painted(alpha, np.zeros_like(alpha, bool)), behind, np.random.default_rng(seed))
    person = made.alpha > 127
    assert person.any()
    assert made.alpha[-1].any()
    assert (person[1:] >= person[:-1]).all()


def test_the_face_mask_goes_where_the_face_goes():
    rows, columns = np.mgrid[:SIDE, :SIDE]
    alpha = np.where(((columns - 45) / 25) ** 2 + ((rows - 50) / 40) ** 2 < 1, 255, 0).astype(np.uint8)
    face = ((columns - 38) / 9) ** 2 + ((rows - 32) / 12) ** 2 < 1  # off the middle, so that mirroring shows
    centres = []
    for seed in range(20):
        made = composite(painted(alpha, face), np.full((120, 160, 3), 128, np.uint8), np.random.default_rng(seed))
        assert made.face_mask is not None
        assert made.foreground is not None
        green = (made.alpha > 127) & (made.foreground[..., 1] > made.foreground[..., 0])
        hidden = made.face_mask > 0
        assert (green & hidden).sum() > 0.85 * (green | hidden).sum(), seed
        centres.append(np.nonzero(hidden)[1].mean())
    assert np.ptp(centres) > 30


def test_training_takes_pictures_without_anybody(tmp_path, command_line):
    pytest.importorskip("torch")
    people = write_set(tmp_path / "people", [portrait()], foreground="fg", background="bg")
    (tmp_path / "places").mkdir()
    write_png(tmp_path / "places" / "0.png", portrait(90, 70, seed=1).image)
    made = command_line(
        "data", "compose", tmp_path / "set", "--portraits", people, "--backgrounds", tmp_path / "places",
        "-n", 3, "--size", "64x64", "--empty", 1,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert not any(read(item).alpha.any() for item in open_set(tmp_path / "set").items)
    changes = ("data.size=32", "data.crops=[48]", "run.batch=2", "run.epochs=1", "optim.warmup_steps=0")
    sets = [part for change in changes for part in ("--set", change)]
    done = command_line("train", "--preset", "smoke", *sets, "--data", tmp_path / "set", "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    rows = list(csv.DictReader((tmp_path / "run" / "log.csv").read_text().splitlines()))
    assert rows
    for row in rows:
        assert all(math.isfinite(float(value)) for value in row.values() if value), row
    assert (tmp_path / "run" / "best.safetensors").is_file()
