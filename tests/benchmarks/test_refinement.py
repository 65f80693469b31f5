"""The gain of the refinement: means and medians by kind, and the script."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from p3m_edge.benchmarks import refinement
from p3m_edge.benchmarks.refinement import Gain
from tests.artefacts import make_artefact
from tests.benchmarks.helpers.scripts import runs


def test_rows_of_one_kind_become_one() -> None:
    rows = [Gain("a", 1, 1.0, 2, 3, 4, 5, 6, 7), Gain("a", 1, 3.0, 4, 5, 6, 9, 8, 1), Gain("b", 1, 0, 0, 0, 0, 0, 0, 0)]
    assert list(refinement.summed(rows)) == [Gain("a", 2, 2.0, 3, 4, 5, 7, 7, 4), rows[2]]


def test_the_script_measures_both_forms_of_one_inference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    artefact = str(make_artefact(tmp_path / "artefact", size=(64, 64)))
    done = runs(refinement.main, capsys, artefact, "--heights", "90", "180", "--count", "1", "--json")
    assert done.code == 0, done.err
    rows = json.loads(done.out)["rows"]
    assert [row["kind"] for row in rows] == ["drawn, 160x90", "drawn, 320x180"]
    assert all(row["sad"] != row["refined_sad"] for row in rows)
    refused = runs(refinement.main, capsys, artefact, "--heights", "9")
    assert (refused.code, len(refused.err.strip().splitlines())) == (2, 1)
    missing = runs(refinement.main, capsys, str(tmp_path / "none"))
    assert (missing.code, len(missing.err.strip().splitlines())) == (5, 1)
