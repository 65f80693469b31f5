"""What doctor says about packages that are there, absent or broken; all in real processes."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest

from p3m_edge import manifest, shipped
from p3m_edge.cli import main
from p3m_edge.cli.probe import Package
from p3m_edge.cli.verbs.doctor import PACKAGES, _target_state
from p3m_edge.runtimes.cuda import Driver, Gpu
from p3m_edge.runtimes.engines.tensorrt.options import Builder
from p3m_edge.targets import FP16, TARGETS

# Run in a process before p3m-edge: hides packages as if they had never been installed.
HIDE = """
import importlib.machinery, sys
class Hiding:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in {hidden!r}:
            return None
        return importlib.machinery.PathFinder.find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Hiding
"""
DRIVER = Driver("13.0", "580.65", (Gpu(0, "NVIDIA L4", "8.9", 24_000_000_000),))
OPTIONAL = [name for name, extra in PACKAGES.items() if extra is not None]


def doctor(path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    folders = filter(None, [str(path), os.environ.get("PYTHONPATH")])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(folders)}
    command = [sys.executable, "-m", "p3m_edge", "doctor", *arguments]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=240, env=environment, **options)


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """What doctor says where nothing optional is installed."""
    folder = tmp_path_factory.mktemp("bare")
    (folder / "sitecustomize.py").write_text(HIDE.format(hidden=OPTIONAL))
    return doctor(folder, "--json")


def test_it_works_with_nothing_optional_installed(bare):
    assert bare.returncode == 0, bare.stderr
    diagnosis = json.loads(bare.stdout)
    status = {package["name"]: package["status"] for package in diagnosis["packages"]}
    assert {name for name, state in status.items() if state == "absent"} == set(OPTIONAL)
    assert {status["numpy"], status["cv2"], status["PIL"]} == {"ok"}
    assert diagnosis["pip"] == 'pip install "p3m-edge[coreml,litert,onnx,openvino,quantize,torch]"'
    for state in diagnosis["targets"]:
        assert not state["build"]["possible"]
        assert not state["run"]["possible"]
        assert "torch is not installed" in state["build"]["reason"]
    onnx = next(state for state in diagnosis["targets"] if state["target"] == "onnx-fp32")
    assert onnx["run"]["reason"] == "onnxruntime is not installed"
    assert onnx["pip"] == 'pip install "p3m-edge[onnx,torch]"'


def test_it_knows_the_weights_of_the_package(bare):
    (weights,) = json.loads(bare.stdout)["weights"]
    header = shipped.read_header()
    assert (weights["arch"], weights["status"], weights["cause"]) == ("mobile", "ok", None)
    assert (weights["licence"], weights["provenance"]) == (header.licence, header.provenance)
    assert weights["sha256"] == manifest.sha256(shipped.weights_path())


def test_what_is_broken_is_reported_with_its_cause(tmp_path, damaged_installation):
    """Packages, and the weights of this one."""
    broken = {"onnxruntime", "onnx", "onnxscript"}
    (tmp_path / "sitecustomize.py").write_text(HIDE.format(hidden=[name for name in OPTIONAL if name not in broken]))
    for name, code in {
        "onnxruntime": "raise ImportError('DLL load failed: the specified module\\nwas not found')",
        "onnx": "import os; os._exit(7)",
        "onnxscript": "print('chatter'); __version__ = '9.9'",
        "tensorrt": "raise ImportError('libnvinfer.so.11: cannot open shared object file')",
        "tensorrt_rtx": "import os; os._exit(7)",
    }.items():
        (tmp_path / f"{name}.py").write_text(code)
    done = doctor(tmp_path, "--json", cwd=damaged_installation)
    assert done.returncode == 0, done.stderr
    diagnosis = json.loads(done.stdout)
    (weights,) = diagnosis["weights"]
    assert (weights["status"], weights["sha256"]) == ("damaged", None)
    assert "is missing" in weights["cause"]
    packages = {package["name"]: package for package in diagnosis["packages"]}
    assert packages["onnxruntime"]["status"] == "broken"
    assert packages["onnxruntime"]["cause"] == "ImportError: DLL load failed: the specified module was not found"
    assert packages["onnx"]["status"] == "broken"
    assert "its process ended with code 7" in packages["onnx"]["cause"]
    assert (packages["onnxscript"]["status"], packages["onnxscript"]["version"]) == ("ok", "9.9")
    target = next(state for state in diagnosis["targets"] if state["target"] == "onnx-fp32")
    assert "DLL load failed" in target["run"]["reason"]
    assert not target["verify"]["possible"]
    problems = {builder["flavour"]: builder["problem"] for builder in diagnosis["builders"]}
    assert "libnvinfer.so.11" in problems["tensorrt"]
    assert "ended with code 7" in problems["tensorrt-rtx"]


def test_the_table_here_and_an_impostor_in_the_current_folder(tmp_path, monkeypatch, capsys):
    (tmp_path / "nncf.py").write_text("raise SystemExit('not the real one')")
    monkeypatch.chdir(tmp_path)
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "not the real one" not in shown
    for target in TARGETS:
        assert re.search(rf"^\s*{target}\s+(yes|no)\s", shown, re.MULTILINE)


@pytest.mark.parametrize(
    ("builders", "cuda", "build", "run"),
    [
        (
            [Builder("tensorrt", problem="it is not installed", no_gpu="no driver"), Builder("tensorrt-rtx", "1.7")],
            "ok", None, "no driver",
        ),
        (
            [Builder("tensorrt", problem="one"), Builder("tensorrt-rtx", problem="two")],
            "ok", "the typed ONNX alone, no engine: one; two", "neither TensorRT nor TensorRT for RTX is here",
        ),
        ([Builder("tensorrt", "11.4", driver=DRIVER)], "absent", None, "cuda is not installed"),
        ([Builder("tensorrt", "11.4", driver=DRIVER)], "ok", None, None),
    ],
    ids=["no GPU", "no builder", "no bindings", "all"],
)  # fmt: skip
def test_tensorrt_targets(builders, cuda, build, run):
    target = dataclasses.replace(TARGETS["trt-fp16"], limits=FP16)
    packages = {name: Package(name, extra, "ok") for name, extra in PACKAGES.items()}
    packages["cuda"] = Package("cuda", "tensorrt", cuda)
    state = _target_state(target, packages, builders)
    assert (state.build.possible, state.build.reason) == (True, build)
    assert (state.run.possible, state.run.reason) == (run is None, run)
    assert state.verify.possible
    assert state.pip == (None if cuda == "ok" else 'pip install "p3m-edge[tensorrt]"')
