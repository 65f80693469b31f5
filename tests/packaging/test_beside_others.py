"""The tool that times other people's networks beside ours."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.artefacts import build_model, make_artefact
from tests.tools import load_tool

onnx = pytest.importorskip("onnx")
pytest.importorskip("openvino")
SHORT = ("--rounds", "2", "--iterations", "1", "--threads", "1")


@pytest.fixture
def run(command_line):
    return partial(command_line, tool=load_tool("beside_others"))


def save(path: Path, size: tuple[int, int] | None) -> Path:
    model: Any = build_model(size, 1, ("alpha",))
    onnx.save(model, path)
    return path


def test_all_are_in_one_table(tmp_path, run):
    artefact = make_artefact(tmp_path / "out" / "openvino-fp32", "openvino")
    done = run(save(tmp_path / "theirs.onnx", (64, 64)), "--artefact", artefact, *SHORT)
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^\| (\S+) \| ([\d.]+) \| ([\d.]+) to ([\d.]+) \| ([\d.]+) ", done.stdout, re.MULTILINE)
    assert [row[0] for row in rows] == ["out/openvino-fp32", "theirs"]
    assert rows[0][-1] == "1.00"
    assert all(float(low) <= float(middle) <= float(high) for _, middle, low, high, _ in rows)


@pytest.mark.parametrize("what", ["missing", "text", "dynamic"])
def test_files_that_cannot_be_timed(what, tmp_path, run):
    artefact = make_artefact(tmp_path / "openvino-fp32", "openvino")
    file = tmp_path / "theirs.onnx"
    if what == "text":
        file.write_text("this is no network")
    elif what == "dynamic":
        save(file, None)
    done = run(file, "--artefact", artefact, *SHORT)
    assert done.returncode == 1
    assert done.stdout == ""
    *_, line = done.stderr.splitlines()  # OpenVINO may have its say before
    assert line.startswith(f"error: {file} cannot be used: ")


def test_an_artefact_is_named(tmp_path, run):
    done = run(save(tmp_path / "theirs.onnx", (64, 64)), "--artefact", tmp_path / "no")
    assert done.returncode == 5
    assert done.stderr.startswith(f"error: {tmp_path / 'no'} does not exist")


def test_two_of_one_name(tmp_path, run):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    files = [save(tmp_path / folder / "theirs.onnx", (64, 64)) for folder in ("a", "b")]
    done = run(*files, "--artefact", tmp_path / "openvino-fp32")
    assert done.returncode == 2
    assert done.stderr.endswith("error: two networks would be called theirs\n")
