"""Several processes train as one does."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.train.conftest import TINY, write_set

STEPS = 20
# The statistics of a batch norm differ between a batch of four and two of two; those that stand still do not.
SETTINGS = ("run.freeze_batchnorm=true", f"run.max_steps={STEPS}", "run.epochs=100", "optim.lr=1e-3", "data.jpeg=0.3")


def command(data: Path, out: Path, *more: str) -> list[str]:
    sets = [part for setting in (*TINY, *SETTINGS, *more) for part in ("--set", setting)]
    return ["-m", "p3m_edge", "train", "--preset", "smoke", "--data", str(data), "--out", str(out), "--json", *sets]


def run(*arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def losses(out: Path) -> list[dict[str, float]]:
    with (out / "log.csv").open() as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    assert len(rows) == STEPS
    times = ("pictures_per_second", "data_wait")
    return [{key: value for key, value in row.items() if key not in times} for row in rows]


@pytest.mark.full
@pytest.mark.skipif(sys.platform == "win32", reason="gloo under torchrun is not tested on Windows")
def test_two_processes_with_two_pictures_are_one_with_four(tmp_path):
    # Some pictures have no colours after JPEG, and unknown regions differ: the ranks' denominators do as well.
    data = write_set(tmp_path / "set", 10, colours=True)
    one = run(*command(data, tmp_path / "one", "run.batch=4"))
    elastic = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    two = run(*elastic, *command(data, tmp_path / "two", "run.batch=2"))
    documents = []
    for process in (one, two):
        out, error = process.communicate(timeout=180)
        assert process.returncode == 0, error
        assert "warning: " not in error
        documents.append(json.loads(out))  # one document, also from two processes
    assert [document["plan"]["processes"] for document in documents] == [1, 2]
    assert [document["plan"]["batch"] for document in documents] == [4, 4]
    seen = [
        [row["seen"] for row in csv.DictReader((tmp_path / name / "validation.csv").open())] for name in ("one", "two")
    ]
    assert seen[0] == seen[1] != []
    single, double = losses(tmp_path / "one"), losses(tmp_path / "two")
    for a, b in zip(single, double, strict=True):
        assert b == pytest.approx(a, rel=1e-4)
    assert max(row["composition"] for row in single) > 0
    assert single[0]["total"] != pytest.approx(single[-1]["total"], rel=0.01)  # it has moved
    assert documents[1]["best_sad"] == pytest.approx(documents[0]["best_sad"], rel=1e-4)
