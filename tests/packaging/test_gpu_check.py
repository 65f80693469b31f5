"""The script for a machine with a GPU: as far as the driver here, and further with the stand-in of a GPU."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from p3m_edge.errors import MissingError
from p3m_edge.runtimes import cuda
from tests.artefacts import make_artefact
from tests.packaging.conftest import Distributions
from tests.runtimes.gpu import ROOT, on_gpu

SCRIPT = ROOT / "tools" / "gpu_check.py"
pytest.importorskip("onnx")


def run(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=variables, timeout=300)


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("tensorrt_rtx_bindings")
    try:
        cuda.driver()
    except MissingError:
        home = tmp_path_factory.mktemp("artefacts")
        make_artefact(home / "tiny" / "trt-fp32", "tensorrt")
        make_artefact(home / "tiny" / "onnx-fp32")
        return home
    pytest.skip("there is a CUDA driver here")


def test_without_a_driver_it_ends_in_one_line(artefacts: Path, tmp_path: Path) -> None:
    done = run("--out", "out", "--artefacts", artefacts, cwd=tmp_path)
    assert done.returncode == 4
    assert done.stdout == f"artefacts: {Path('tiny/onnx-fp32')} {Path('tiny/trt-fp32')}\n"
    error, hint = done.stderr.splitlines()
    assert error.startswith("error: no CUDA driver")
    assert hint.startswith("hint: ")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["artefacts"]


@pytest.mark.full
def test_carried_wheels_are_installed_without_a_network(
    artefacts: Path, distributions: Distributions, tmp_path: Path
) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    wheel = Path(shutil.copy(distributions.wheel, wheels))
    done = run("--out", "out", f"--wheels={wheels}", "--artefacts", artefacts, cwd=tmp_path)
    assert done.returncode == 4, done.stderr
    assert done.stdout.splitlines()[0] == f"+ pip install {wheel.name}"
    assert "error: no CUDA driver" in done.stderr
    assert list((tmp_path / "out" / "venv").rglob("p3m_edge/runtimes/cuda.py"))


def test_a_folder_without_wheels(tmp_path: Path) -> None:
    done = run("--out", "out", "--wheels", tmp_path, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, f"error: there is no wheel in {tmp_path}\n")


@pytest.mark.full
def test_the_whole_way_with_the_stand_in_of_a_gpu(tmp_path: Path) -> None:
    make = "from pathlib import Path\nfrom tests.artefacts import make_artefact\n"
    made = tmp_path / "artefacts" / "trt-fp32"
    assert on_gpu("-c", f"{make}make_artefact(Path({str(made)!r}), 'tensorrt')").returncode == 0
    make_artefact(tmp_path / "artefacts" / "onnx-fp32")
    out = tmp_path / "out"
    options = ("--out", str(out), "--artefacts", str(made.parent), "--no-build", "--rounds", "1")
    done = on_gpu(str(SCRIPT), *options)
    # ONNX Runtime has no CUDA here: that step fails, and the rest is done.
    assert done.returncode == 1, done.stderr
    document = json.loads((out / "gpu.json").read_bytes())
    assert document["driver"]["gpus"][0]["name"] == "NVIDIA L4"
    assert [(step["what"].split()[0], step["code"]) for step in document["steps"]] == [("verify", 4), ("verify", 0)]
    (row,) = document["report"]["rows"]
    assert (row["label"], row["status"], row["used"]["device_name"]) == ("trt-fp32", "ok", "NVIDIA L4")
    text = (out / "gpu.md").read_text(encoding="utf-8")
    assert text.startswith("# NVIDIA L4\n")
    assert "by trtexec's rules" in text
    assert str(tmp_path) not in text + json.dumps(document)
