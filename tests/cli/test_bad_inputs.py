"""Every argument that names a file, given everything that is not one: one clear line, an exit code, nothing changed.

A fault that is found elsewhere becomes a row of one of the two tables. Those of the Python API are in
``tests/contract/test_bad_arguments.py``.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from p3m_edge.cli import main
from tests.bad import BAD, NO_NAME, PATIENCE, guarded, make_world, snapshot
from tests.tools import load_tool

pytest.importorskip("torch", reason="torch is not installed")

PICTURE, FOLDER, ARTEFACT, TEXT = {1}, {1, 2}, {1, 2, 5}, {1, 2, 5}

ARGUMENTS: dict[str, tuple[str, set[int]]] = {
    "run: picture": ("run art {} --out out", PICTURE),
    "run: background": ("run art ok.png --background {} --out out", FOLDER),
    "verify": ("verify {}", {5}),
    "inspect": ("inspect {}", {5}),
    "bench: artefact": ("bench {} --rounds 1 --iterations 1 --out out", ARTEFACT),
    "bench: frame": ("bench art --rounds 1 --iterations 1 --frame {} --out out", PICTURE),
    "bench: import": ("bench --import {} --out out", TEXT),
    "export: checkpoint": ("export --checkpoint {} --target onnx-fp32 --size 64x64 --out out", {5}),
    "export: parity pictures": (
        "export --arch mobile --target onnx-fp32 --size 64x64 --parity-images {} --out out", FOLDER,
    ),
    "export: calibration": ("export --arch mobile --target openvino-int8 --size 64x64 --calib {} --out out", FOLDER),
    "sensitivity: calibration": ("sensitivity --size 64x64 --calib {}", FOLDER),
    "build": ("build {}", {5}),
    "web: artefact": ("web {} --out out --runtime set", {5}),
    "web: runtime": ("web art --out out --runtime {}", {4}),
    "package": ("package {} --layout triton --out out", {5}),
    "eval: set": ("eval {} --model background --out out", FOLDER),
    "eval: model": ("eval set --model {} --out out", ARTEFACT),
    "train: config": ("train --config {} --data set --out out", TEXT),
    "train: data": ("train --preset mobile --data {} --out out", FOLDER),
    "train: weights": ("train --preset mobile --data set --weights {} --out out", {5}),
    "train: encoder": ("train --preset mobile --data set --encoder-weights {} --out out", {5}),
    "train: faces": ("train --preset mobile --data set --cp icp --faces {} --out out", FOLDER),
    "train: resume": ("train --resume --out {}", TEXT),
    "ablate_cp: data": ("ablate_cp.py --data {} --test set --faces set --steps 1 --seeds 1 --out out", FOLDER),
    "anonymize: in": ("data anonymize {} out", FOLDER),
    "anonymize: boxes": ("data anonymize set out --boxes {}", TEXT),
    "check": ("data check {}", FOLDER),
    "list: set": ("data list {} --out out", FOLDER),
    "list: about": ("data list set --about {} --out out", TEXT),
    "list: apart": ("data list set --apart-from {} --out out", TEXT),
    "compose: portraits": ("data compose out --portraits {} --backgrounds set -n 1 --seed 1", FOLDER),
    "compose: backgrounds": ("data compose out --portraits set --backgrounds {} -n 1 --seed 1", FOLDER),
    "places": ("data places {} out", FOLDER),
}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("world"))


def check(code: int, stdout: str, stderr: str, expected: set[int], *, as_json: bool) -> None:
    errors = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, stderr
    assert code in expected, (code, stderr)
    assert "internal error" not in stderr, stderr
    assert "Traceback" not in stderr, stderr
    assert len(errors[0]) < 1000, stderr
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", stderr), ascii(stderr)
    if as_json:
        assert json.loads(stdout)["error"]["exit_code"] == code


CASES = [(argument, bad) for argument in ARGUMENTS for bad in BAD]
PROCESSES = {
    ("run: picture", "pipe"), ("inspect", "escape"), ("bench: import", "deep JSON"), ("check", "device"),
    ("list: about", "wide CSV"),
}  # fmt: skip
"""Those that are asked of a process of its own, without PyTorch; the others of this one, by the same function."""


@pytest.mark.skipif(os.name == "nt", reason="names and devices of POSIX systems")
@pytest.mark.parametrize(("argument", "bad"), CASES, ids=[f"{argument}, {bad}" for argument, bad in CASES])
def test_what_is_not_a_file_costs_one_line(
    argument: str, bad: str, world: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    line, expected = ARGUMENTS[argument]
    words = [word.replace("{}", BAD[bad].name) for word in line.split()]
    as_json = CASES.index((argument, bad)) % 3 == 0
    words += ["--json"] * as_json
    before = snapshot(world)
    if (argument, bad) in PROCESSES:
        command = [sys.executable, "-m", "p3m_edge", *words]
        done = subprocess.run(command, cwd=world, capture_output=True, encoding="utf-8", timeout=PATIENCE, check=False)
        code, stdout, stderr = done.returncode, done.stdout, done.stderr
    else:
        monkeypatch.chdir(world)
        with guarded():
            name, tool, rest = words[0].partition(".py")[0], words[0].endswith(".py"), words[1:]
            code = main(rest, tool=load_tool(name)) if tool else main(words)
        stdout, stderr = capfd.readouterr()
    check(code, stdout, stderr, expected | {2} if bad in NO_NAME else expected, as_json=as_json)
    out = world / "out"
    if out.is_dir() and not any(out.iterdir()):
        out.rmdir()
    assert snapshot(world) == before
