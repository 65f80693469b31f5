"""What importing and running the runtimes pulls in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.artefacts import make_artefact


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_runtimes_imports_no_engine() -> None:
    code = "import sys, p3m_edge.runtimes; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = run(code).split()
    assert "p3m_edge" in loaded
    heavy = {"torch", "torchvision", "onnx", "onnxruntime", "openvino", "rich", "psutil", "PIL", "scipy", "skimage"}
    heavy |= {"tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings", "cuda"}
    assert heavy.isdisjoint(loaded)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_frame_is_matted_where_torch_cannot_be_imported(tmp_path: Path, engine: str) -> None:
    pytest.importorskip(engine)
    pytest.importorskip("onnx")
    folder = make_artefact(tmp_path / "artefact", "onnxruntime" if engine == "onnxruntime" else "openvino")
    code = (
        "import sys\n"
        "for name in ('torch', 'torchvision', 'onnx'):\n"
        "    sys.modules[name] = None\n"  # importing it raises ModuleNotFoundError
        "import numpy\n"
        "from p3m_edge.runtimes import Matting\n"
        f"with Matting({str(folder)!r}, threads=1, cache=False) as matting:\n"
        "    assert matting.selftest().passed\n"
        "    print(matting(numpy.zeros((50, 70, 3), numpy.uint8)).shape)\n"
    )
    assert run(code) == "(50, 70)\n"
