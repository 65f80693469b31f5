"""The error of estimated colours: what counts, and that the fast estimate is as good as PyMatting's."""

from __future__ import annotations

import json

import numpy as np
import pytest

from p3m_edge.benchmarks import colours
from tests.benchmarks.helpers.scripts import runs
from tests.portraits import portrait


def test_the_error_is_that_of_mixtures_by_their_alpha() -> None:
    sample = portrait(60, 80, 1)
    assert sample.foreground is not None
    assert colours.error(sample.foreground, sample) == 0
    wrong = sample.foreground.copy()
    wrong[(sample.alpha == 0) | (sample.alpha == 255)] ^= 255
    assert colours.error(wrong, sample) == 0
    off = np.where(sample.foreground > 127, sample.foreground - 51, sample.foreground + 51).astype(np.uint8)
    assert colours.error(off, sample) == pytest.approx(0.2)


def test_the_script_prints_the_fast_estimate_beside_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--count", "2", "--width", "480", "--height", "270")
    done = runs(colours.main, capsys, *words, "--json")
    assert done.code == 0, done.err
    errors = {row["method"]: row["error"] for row in json.loads(done.out)}
    assert errors["frame"] > 2 * errors["fast"]
    assert errors["fast"] < 1.3 * errors["estimate"]
    if "PyMatting" in errors:
        assert errors["fast"] < 1.2 * errors["PyMatting"]
    refused = runs(colours.main, capsys, "--count", "0")
    assert (refused.code, len(refused.err.strip().splitlines())) == (2, 1)
    assert runs(colours.main, capsys, "--count", "1", "--width", "9").code == 1
