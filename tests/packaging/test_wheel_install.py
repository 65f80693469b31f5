"""The wheel alone, with the extra ``onnx``, in an empty environment: the runtime works and PyTorch is not there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import make
import p3m_edge
from tests.artefacts import make_artefact
from tests.packaging.conftest import Distributions
from tests.packaging.sources import ROOT
from tests.tools import load_tool

RUNTIME = """
import importlib.util, json, sys
from pathlib import Path
import numpy as np
import p3m_edge
from p3m_edge.imageio import read_image
from p3m_edge.runtimes import Matting

picture = read_image(Path(p3m_edge.__file__).parent / "assets" / "astronaut.jpg")
with Matting(Path(sys.argv[1]), threads=1) as matting:
    alpha = matting(picture.rgb)
    test = matting.selftest()
print(json.dumps({
    "prefix": str(Path(p3m_edge.__file__).is_relative_to(sys.prefix)),
    "version": p3m_edge.__version__,
    "there": [m for m in ("torch", "onnx", "onnxscript", "openvino", "skimage") if importlib.util.find_spec(m)],
    "loaded": sorted({m.partition(".")[0] for m in sys.modules} & {"torch", "onnx", "openvino"}),
    "shape": alpha.shape, "dtype": str(alpha.dtype), "low": float(alpha.min()), "high": float(alpha.max()),
    "selftest": test.passed,
}))
"""
REMOVE = """
import json, sys
sys.modules["torch"] = None
from p3m_edge import remove

cut = remove(sys.argv[1])
print(json.dumps({"mode": cut.mode, "size": cut.size, "alpha": cut.getchannel("A").getextrema()}))
"""
COMMAND = """
import sys
sys.modules["torch"] = None
from p3m_edge.cli import main
sys.exit(main(sys.argv[2:]))
"""
# How make.py puts it; any other failure of pip fails the tests.
OFFLINE = "the package index cannot be reached"


def interpreter(version: tuple[int, int]) -> str:
    """A Python of that version: this one, or one from PATH or pyenv."""
    if sys.version_info[:2] == version:
        return sys.executable
    name = "{}.{}".format(*version)
    home = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for candidate in [f"python{name}", *map(str, home.glob(f"{name}.*/bin/python"))]:
        found = make.probe([candidate])
        if found:
            return found
    pytest.skip(f"no Python {name} here: the wheel was not run on it")


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return subprocess.run([str(part) for part in command], env=clean, cwd=cwd, capture_output=True, text=True)


@pytest.fixture(
    scope="module",
    params=[pytest.param(v, marks=() if v == sys.version_info[:2] else pytest.mark.full) for v in make.PYTHONS],
    ids=lambda version: "python{}.{}".format(*version),
)
def installed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of commands of an environment that holds the wheel, its ``onnx`` extra and nothing else."""
    python = interpreter(request.param)
    distributions: Distributions = request.getfixturevalue("distributions")
    folder = tmp_path_factory.mktemp("alone")
    made = run(python, "-m", "venv", folder / "venv", cwd=folder)
    assert made.returncode == 0, made.stderr
    commands = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    log = folder / "pip.log"
    pip: list[str | Path] = [
        commands / "python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--log",
        log,
        "-c",
        ROOT / "constraints.txt",
    ]
    result = run(*pip, f"{distributions.wheel}[onnx]", cwd=folder)
    if result.returncode and OFFLINE in load_tool("environment").diagnose(log.read_text(encoding="utf-8")):
        pytest.skip("no package index can be reached, so the wheel cannot be installed with what it needs")
    assert result.returncode == 0, result.stderr
    return commands


def test_the_runtime_works_where_nothing_else_is_installed(installed: Path, tmp_path: Path) -> None:
    artefact = make_artefact(tmp_path / "artefact")
    done = run(installed / "python", "-W", "error", "-c", RUNTIME, artefact, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said.pop("low") >= 0.0
    assert said.pop("high") <= 1.0
    assert said == {
        "prefix": "True",
        "version": p3m_edge.__version__,
        "there": [],
        "loaded": [],
        "shape": [512, 512],
        "dtype": "float32",
        "selftest": True,
    }


def test_a_picture_is_matted_without_an_artefact_or_torch(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("P3M_EDGE_CACHE", str(tmp_path / "cache"))
    picture = Path(p3m_edge.__file__).parent / "assets" / "astronaut.jpg"
    done = run(installed / "python", "-W", "error", "-c", REMOVE, picture, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"mode": "RGBA", "size": [512, 512], "alpha": [0, 255]}
    command = ("p3m-edge", "run", picture, "--out", tmp_path / "out", "--json")
    done = run(installed / "python", "-c", COMMAND, *command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["target"], report["trained"], report["done"]) == ("onnx-fp16", True, 1)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"astronaut.alpha.png", "astronaut.cutout.png"}
    assert not (tmp_path / "cache").exists()


def test_what_was_installed_fits_together(installed: Path, tmp_path: Path) -> None:
    done = run(installed / "python", "-m", "pip", "check", cwd=tmp_path)
    assert done.returncode == 0, done.stdout


def test_the_command_works_there(installed: Path, tmp_path: Path) -> None:
    command = shutil.which("p3m-edge", path=str(installed))
    assert command
    artefact = make_artefact(tmp_path / "artefact")
    picture = Path(p3m_edge.__file__).parent / "assets" / "astronaut.jpg"
    for arguments in (
        ("--version",),
        ("targets", "--json"),
        ("doctor", "--json"),
        ("inspect", artefact),
        ("verify", artefact),
        ("run", artefact, picture, "--out", tmp_path / "out", "--threads", "1"),
    ):
        done = run(command, *arguments, cwd=tmp_path)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"astronaut.alpha.png", "astronaut.cutout.png"}
