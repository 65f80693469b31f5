"""``p3m-edge data list``."""

from __future__ import annotations

import csv
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from p3m_edge.imageio import write_png
from tests.portraits import portrait, write_set


@pytest.fixture
def call(command_line, tmp_path):
    return partial(command_line, "data", "list", "--workers", 1, cwd=tmp_path)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_two_lists_are_kept_apart(tmp_path, call):
    """The way of a privacy officer: list what is measured with, describe and compare what is trained on."""
    write_set(tmp_path / "test", [portrait(seed=i) for i in range(3)])
    write_set(tmp_path / "train", [portrait(seed=i) for i in (7, 8)])
    done = call("test", "--forms", "--out", "measuring.csv")
    assert done.returncode == 0, done.stderr
    assert len(rows(tmp_path / "measuring.csv")) == 3
    (tmp_path / "about.csv").write_text("kind,name,licence\nportrait,portrait7,CC0\nportrait,portrait8,CC0\ndrawn,x,\n")
    arguments = ["train", "--about", "about.csv", "--apart-from", "measuring.csv", "--out", "training.csv"]
    done = call(*arguments)
    assert done.returncode == 0, done.stderr
    assert [(row["kind"], row["name"], row["licence"]) for row in rows(tmp_path / "training.csv")] == [
        ("portrait", "portrait7", "CC0"), ("portrait", "portrait8", "CC0"), ("drawn", "x", ""),
    ]  # fmt: skip
    write_png(tmp_path / "train/image/portrait7.png", np.ascontiguousarray(portrait(seed=1).image[:, ::-1]))
    done = call(*arguments, "--json")
    assert done.returncode == 3
    document = json.loads(done.stdout)
    assert [(pair["here"], pair["there"]) for pair in document["shared"]] == [("portrait7", "portrait1")]
    assert "one photograph" in document["error"]["message"]


def test_nothing_is_written_where_nothing_is_listed(tmp_path, call):
    (tmp_path / "empty").mkdir()
    done = call("empty", "--out", "list.csv")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert not (tmp_path / "list.csv").exists()
    assert call("empty").returncode == 2
