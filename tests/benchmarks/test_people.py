"""Composites of two people: how they are made, what is counted, and what cannot be measured."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from p3m_edge.benchmarks import people
from p3m_edge.benchmarks.people import OVERLAP, SIZE, Pair
from p3m_edge.errors import InputError
from tests.artefacts import make_artefact
from tests.benchmarks.helpers.scripts import runs
from tests.portraits import portrait, write_set


def upright(seed: int) -> np.ndarray:
    """An ellipse with its colours, cut out."""
    sample = portrait(120, 80, seed)
    return np.dstack([sample.image, sample.alpha])


def test_people_stand_apart_or_touch() -> None:
    figures = [upright(seed) for seed in range(4)]
    for pair in people.pairs(figures, [], 6, apart=True):
        assert pair.frame.shape == (SIZE[1], SIZE[0], 3)
        assert np.minimum(pair.meant, pair.other).max() == 0
        assert pair.meant.sum() >= pair.other.sum() > 0
        reach = cv2.dilate((pair.other > 0).astype(np.uint8), np.ones((1, 2 * 30 + 1), np.uint8))
        assert not np.logical_and(reach, pair.meant > 0).any()
    for pair in people.pairs(figures, [], 6, apart=False):
        shared = np.minimum(pair.meant, pair.other) >= 0.5
        width = (pair.other >= 0.5).any(axis=0).sum()
        assert 0 < shared.any(axis=0).sum() <= 3 * OVERLAP * width


def test_what_is_left_is_counted() -> None:
    pairs = list(people.pairs([upright(seed) for seed in range(4)], [], 4, apart=True))
    truth = {id(pair.frame): pair for pair in pairs}

    def both(pair: Pair) -> np.ndarray:
        return np.maximum(pair.meant, pair.other)

    right = list(people.measure("truth", lambda frame: both(truth[id(frame)]), pairs, "apart"))
    assert [(count.named, count.others, count.kept) for count in right] == [
        ("point", 4, 4), ("box", 4, 4), ("largest", 4, 4),
    ]  # fmt: skip
    everything = people.measure("blind", lambda frame: np.ones(frame.shape[:2], np.float32), pairs, "apart")
    assert [(count.others, count.kept) for count in everything] == [(0, 4)] * 3


def test_the_script_measures_an_artefact_on_a_set(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder, artefact = write_set(tmp_path / "set", [portrait(120, 80, 1), portrait(120, 80, 2)]), tmp_path / "onnx"
    make_artefact(artefact)
    words = ("--data", folder, "--backgrounds", folder / "image", "--count", "1")
    done = runs(people.main, capsys, artefact, *words, "--json")
    assert done.code == 0, done.err
    rows = json.loads(done.out)
    assert [row["kind"] for row in rows] == ["apart"] * 3 + ["touching"] * 3 + ["single"]
    assert all(row["others"] is None for row in rows[3:])
    assert "touching" in runs(people.main, capsys, artefact, *words).out


def test_what_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", [portrait(60, 80, 1)])
    with pytest.raises(InputError, match="fewer than two people"):
        list(people.figures(folder, 9))
    with pytest.raises(InputError):
        list(people.figures(tmp_path / "nowhere", 9))
    broad = np.full((40, 400, 4), 255, np.uint8)
    with pytest.raises(InputError, match="too wide"):
        list(people.pairs([broad, broad], [], 1, apart=True))
