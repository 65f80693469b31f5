"""Nothing is left in the user's home, and nothing reported, by the engines that we import."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.artefacts import build_model, make_artefact

USE = {
    "selftest": """
import sys
from p3m_edge.runtimes import Matting
with Matting(sys.argv[1], threads=1) as matting:
    assert matting.selftest().passed
""",
    "doctor": """
import sys
from p3m_edge.cli.probe import probe
from p3m_edge import manifest
from pathlib import Path
assert probe(manifest.read(Path(sys.argv[1])).engine.name).cause is None
""",
    "measure": """
import sys
from p3m_edge.workers.parent import Worker
with Worker("p3m_edge.benchmarks.worker") as worker:
    worker.call(
        "load", folder=sys.argv[1], device="CPU", threads=1, hint="latency", cache=None, frame=None,
        frame_size=[32, 32], seed=0,
    )
""",
}
HALF = """
import sys, numpy, onnx
from p3m_edge.export.graph.half import to_half
to_half(onnx.shape_inference.infer_shapes(onnx.load(sys.argv[1])), [numpy.zeros((1, 64, 96, 3), numpy.uint8)])
"""
ENGINES = ("onnxruntime", "openvino")


def home_after(code: str, argument: Path, home: Path) -> list[str]:
    """The files in a home that was empty before ``code`` ran in it."""
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "XDG_", "P3M_"))}
    command = [sys.executable, "-c", code, str(argument)]
    environment = kept | {"HOME": str(home), "USERPROFILE": str(home), "LOCALAPPDATA": str(home)}
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    return sorted(path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file())


@pytest.mark.parametrize("use", USE)
@pytest.mark.parametrize("engine", ENGINES)
def test_only_our_cache_is_left(engine, use, tmp_path):
    pytest.importorskip(engine)
    pytest.importorskip("onnx")
    left = home_after(USE[use], make_artefact(tmp_path / "artefact", engine), tmp_path / "home")
    assert [name for name in left if "p3m-edge" not in name] == []
    assert bool(left) == ((engine, use) == ("openvino", "selftest"))  # the compiled model, and only that


def test_half_precision_leaves_nothing(tmp_path):
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    onnx.save(build_model((64, 96), 1, ("alpha",)), tmp_path / "model.onnx")
    assert home_after(HALF, tmp_path / "model.onnx", tmp_path / "home") == []


@pytest.mark.parametrize("value", ["0", "1", ""])
def test_what_the_user_decided_stands(value):
    code = (
        "import os, sys, types\n"
        "sys.modules['openvino_telemetry'] = own = types.ModuleType('own')\n"
        "from p3m_edge.telemetry import silence_engines\n"
        "silence_engines()\n"
        "assert sys.modules['openvino_telemetry'] is own\n"
        "print(repr(os.environ['ORT_DISABLE_TELEMETRY']))"
    )
    environment = os.environ | {"ORT_DISABLE_TELEMETRY": value}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", env=environment)
    assert done.stdout.strip() == repr(value), done.stderr


def test_every_import_of_an_engine_is_a_silent_one():
    """Only ``contract.import_package`` imports an engine, after it has silenced it; all else asks for the package."""
    root = Path(__file__).parents[2] / "p3m_edge"
    imports = [
        f"{path.relative_to(root).as_posix()}: {line.strip()}"
        for path in root.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if any(
            line.strip().startswith((f"import {name}", f"from {name}")) or f'import_module("{name}' in line
            for name in ENGINES
        )
        or ("import_module(" in line and path.is_relative_to(root / "runtimes"))
    ]
    assert sorted(imports) == [
        "export/graph/half.py: from onnxruntime.transformers.float16 import convert_float_to_float16",  # after import
        "export/graph/qdq.py: from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType, "
        "TensorsData",  # likewise
        "export/graph/ranges.py: from onnxruntime import InferenceSession",  # types only
        "export/graph/reference.py: from onnxruntime import InferenceSession",  # likewise
        "runtimes/contract.py: package = importlib.import_module(module)",
        "runtimes/contract.py: return cast(EngineModule, importlib.import_module(ENGINES[name]))",  # our own modules
        "runtimes/engines/onnxruntime.py: from onnxruntime import InferenceSession, SessionOptions",  # types only
        "runtimes/engines/openvino.py: from openvino import CompiledModel, ConstOutput, Core",  # likewise
        "runtimes/engines/tensorrt/library.py: return importlib.import_module(name)",
        "serving/batch.py: from openvino import Model",  # types only
        "serving/batch.py: from openvino import opset13",  # after import_package
    ]
