"""An accepted artefact is never lost: whatever ends an export at whichever step, one is there under its name."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from p3m_edge import folder as folders
from p3m_edge import manifest as manifests
from p3m_edge.atomic import is_aside, lock_of, swap
from p3m_edge.errors import ArtefactError, OutputError
from tests.core.helpers.interrupted import NAME, export, version_in

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def without_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that cannot exchange two folders in one step."""

    def nothing(*_: object) -> None:
        raise OSError("no library here")

    monkeypatch.setattr(ctypes, "CDLL", nothing)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("how", ["kill", "raise"])
@pytest.mark.parametrize("form", ["exchange", "rename"])
def test_an_export_that_ends_at_any_step_leaves_an_artefact(tmp_path, how, form):
    command = [sys.executable, "-m", "tests.core.helpers.interrupted", str(tmp_path), how, form]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    steps = [json.loads(line) for line in done.stdout.splitlines()]
    assert [step["interrupted"] for step in steps] == [True] * (len(steps) - 1) + [False]
    assert len(steps) > 8
    assert {step["then"] for step in steps} == {"next"}
    assert all(step["left"] == [NAME] for step in steps)
    read = [step["read"] for step in steps]
    assert read == sorted(read, reverse=True)  # the old one until the new one is there
    assert set(read) == {"old", "new"}


@pytest.mark.parametrize("fails", [{1}, {2}, {2, 3}], ids=str)
def test_a_renaming_that_fails_is_undone(tmp_path, monkeypatch, without_exchange, fails):
    """At once, or where that fails too, by who reads the artefact next."""
    export(tmp_path, "old")
    rename, calls = os.rename, 0

    def failing(*paths: Any) -> None:
        nonlocal calls
        calls += 1
        if calls in fails:
            raise OSError(errno.EIO, "Input/output error", os.fspath(paths[0]))
        rename(*paths)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(OutputError, match="Input/output error"):
        export(tmp_path, "new")
    monkeypatch.undo()
    assert calls == (1 if fails == {1} else 3)
    assert is_aside(tmp_path / NAME) == (3 in fails)
    assert version_in(tmp_path) == "old"
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def set_aside(out: Path) -> Path:
    """As a process leaves it that was killed between two renamings."""
    export(out, "old")
    (out / NAME).rename(out / f".{NAME}.p3m-edge-old")
    assert is_aside(out / NAME)
    return out / NAME


def test_who_reads_an_artefact_that_is_set_aside_finds_it(tmp_path):
    place = set_aside(tmp_path)
    assert version_in(tmp_path) == "old"
    assert [path.name for path in tmp_path.iterdir()] == [place.name]


def test_who_wants_to_export_there_finds_it_too(tmp_path):
    place = set_aside(tmp_path)
    with pytest.raises(OutputError, match="exists"):
        folders.check_free(place, force=False)
    assert version_in(tmp_path) == "old"
    set_aside(tmp_path / "b")
    with pytest.raises(OutputError, match="exists"), folders.workspace(tmp_path / "b", NAME, force=False):
        pass
    assert version_in(tmp_path / "b") == "old"


@pytest.mark.parametrize("length", [1, 240, 255])
def test_what_is_nowhere_is_not_looked_for(tmp_path, length):
    (tmp_path / ".x.old").mkdir()
    (tmp_path / ".x.partial.old").mkdir()
    with pytest.raises(ArtefactError, match="does not exist"):
        manifests.read(tmp_path / ("x" * length))
    assert len(list(tmp_path.iterdir())) == 2


def test_a_process_that_is_still_at_it_is_left_alone(tmp_path):
    place = set_aside(tmp_path)
    with FileLock(lock_of(place)), pytest.raises(ArtefactError, match="does not exist"):
        manifests.read(place)
    assert is_aside(place)
    assert version_in(tmp_path) == "old"


@pytest.mark.parametrize("stands", ["nothing", "folder", "empty", "file", "link"])
@pytest.mark.parametrize("form", ["exchange", "rename"])
def test_whatever_stands_there_goes(tmp_path, request, stands, form):
    if form == "rename":
        request.getfixturevalue("without_exchange")
    new, place = tmp_path / "new", tmp_path / "place"
    new.mkdir()
    (new / "file").write_text("new")
    if stands in ("folder", "empty"):
        place.mkdir()
    if stands == "folder":
        (place / "other").write_text("old")
    if stands == "file":
        place.write_text("old")
    if stands == "link":
        place.symlink_to(tmp_path)
    swap(new, place)
    assert [path.name for path in tmp_path.iterdir()] == ["place"]
    assert (place / "file").read_text() == "new"
