"""ONNX Runtime on a GPU: what can be told without one."""

from __future__ import annotations

from pathlib import Path

import pytest

from p3m_edge.errors import MissingError
from p3m_edge.runtimes import Matting
from p3m_edge.runtimes.engines import onnxruntime as onnxrt
from tests.artefacts import make_artefact

pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_artefact(tmp_path_factory.mktemp("onnx") / "artefact")


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "tensorrt"])
def test_a_provider_that_is_not_installed_is_named_with_what_brings_it(artefact: Path, device: str) -> None:
    provider = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}[device.partition(":")[0]]
    if provider in ort.get_available_providers():
        pytest.skip(f"{provider} is installed here")
    with pytest.raises(MissingError, match=f"the installed onnxruntime has no {provider}") as caught:
        Matting(artefact, device)
    for text in ('pip install "onnxruntime-gpu[cuda,cudnn]"', "NVIDIA's driver", "CPUExecutionProvider"):
        assert text in str(caught.value.hint)


def test_heavy_nodes_on_the_processor_are_counted_by_operator(artefact: Path) -> None:
    settings = ort.SessionOptions()
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    session = ort.InferenceSession(str(artefact / "model.onnx"), settings, providers=["CPUExecutionProvider"])
    if not hasattr(session, "get_provider_graph_assignment_info"):
        pytest.skip("this version of ONNX Runtime does not tell")
    assert onnxrt.heavy_on_processor(onnxrt.assigned(session)) == {"Conv": 3, "Sigmoid": 1}
