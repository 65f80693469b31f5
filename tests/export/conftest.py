"""Real exports, made once for all tests and workers: the network with stand-in weights, at a small size."""

import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import onnx
import pytest

from p3m_edge.export import ExportRequest, export, graph
from p3m_edge.export.session import ExportSession
from p3m_edge.model.deploy import Deploy
from p3m_edge.model.standin import standin
from p3m_edge.targets import TARGETS
from tests.conftest import Once

SIZE = 64
FLOATS = tuple(
    name for name, target in TARGETS.items()
    if target.precision != "int8" and target.engine in ("onnxruntime", "openvino")
)  # fmt: skip
"""INT8 is judged by what trained weights make of pictures: test_int8.py. The others run elsewhere."""


def request_for(out: Path, *targets: str, **options: Any) -> ExportRequest:
    defaults: dict[str, Any] = {"arch": "r34", "width": SIZE, "height": SIZE}
    return ExportRequest(targets, out, **defaults | options)


def export_to_a_full_disc(out: Path, options: Sequence[str], limit: int) -> str:
    """The one error line of an export whose files may not be larger than ``limit``: the same error, from the same call.

    Nothing is left behind.
    """
    done = subprocess.run(
        [sys.executable, "-m", "p3m_edge", "export", "--out", str(out), *options],
        capture_output=True, text=True, timeout=300, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert list(out.iterdir()) == []
    (error,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    return error


@pytest.fixture(scope="session")
def artefacts(once: Once) -> Path:
    """The folder with one artefact of R34 for every target in floating point."""
    return once("r34", lambda out: export(request_for(out, *FLOATS)))


@pytest.fixture(scope="session")
def mobile_artefacts(once: Once) -> Path:
    """The same of the mobile network."""
    return once("mobile", lambda out: export(request_for(out, *FLOATS, arch="mobile")))


@pytest.fixture(scope="session")
def session(tmp_path_factory: pytest.TempPathFactory) -> ExportSession:
    """Network, pictures and reference results as the artefacts were made from."""
    return ExportSession(request_for(tmp_path_factory.mktemp("unused"), "onnx-fp32"))


@pytest.fixture(scope="session")
def onnx_model(artefacts, mobile_artefacts) -> Callable[[str], Any]:
    """The float32 graph of an architecture."""
    made = {"r34": artefacts, "mobile": mobile_artefacts}

    @cache
    def model(arch: str) -> Any:
        if arch in made:
            return onnx.load(made[arch] / "onnx-fp32/model.onnx")
        return graph.trace(Deploy(standin(arch)), SIZE, SIZE)

    return model
