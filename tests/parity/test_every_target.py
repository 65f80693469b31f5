"""Every architecture on every target, at full size: the table of the full tier."""

import numpy as np
import pytest

from p3m_edge import manifest as manifests
from p3m_edge.export import ExportRequest, export
from p3m_edge.export.session import DYNAMIC_ARCHS, ExportSession
from p3m_edge.imageio import read_image
from p3m_edge.runtimes import Matting
from p3m_edge.runtimes.engines.tensorrt.options import BuildOptions
from p3m_edge.targets import ARCHS, TARGETS
from tests.litert_model import needs_converter
from tests.portraits import ASTRONAUT

FLOATS = tuple(
    name for name, target in TARGETS.items()
    if target.precision != "int8" and target.engine in ("onnxruntime", "openvino")
)  # fmt: skip
"""INT8 is judged by what trained weights make of pictures: tests/export/test_int8.py; what runs elsewhere follows."""
pytestmark = pytest.mark.full


@pytest.mark.parametrize("target", FLOATS)
@pytest.mark.parametrize("arch", ARCHS)
def test_the_exported_artefact_equals_the_network(arch, target, tmp_path):
    request = ExportRequest(targets=(target,), out=tmp_path, arch=arch)
    (result,) = export(request)
    assert result.parity.failures == ()
    assert result.status == "verified"
    frame = read_image(ASTRONAUT).rgb
    with Matting(result.folder, threads=2, cache=False) as matting:
        assert matting.selftest().passed
        alpha = matting(frame)
    assert alpha.shape == frame.shape[:2]
    assert alpha.dtype == np.float32
    assert float(alpha.max()) > float(alpha.min())


@pytest.mark.parametrize("target", ["coreml-fp32", "coreml-fp16"])
@pytest.mark.parametrize("arch", ARCHS)
def test_the_core_ml_program_equals_the_network(arch, target, tmp_path):
    pytest.importorskip("coremltools")
    # Logits of stand-ins are nearly tied: Swin-T's flip at 0.22 % of the pixels in half precision.
    limits = {"flips": 4e-3} if target == "coreml-fp16" else {}
    (result,) = export(ExportRequest(targets=(target,), out=tmp_path, arch=arch, limits=limits))
    assert result.parity.failures == ()
    assert manifests.read(result.folder).verified.level in ("program", "device")


@pytest.mark.parametrize("target", ["trt-fp32", "trt-fp16"])
@pytest.mark.parametrize("arch", ARCHS)
def test_the_typed_graph_equals_the_network(arch, target, tmp_path):
    # As above: logits of stand-ins are nearly tied, and here every result is rounded.
    limits = {"flips": 4e-3} if target == "trt-fp16" else {}
    request = ExportRequest((target,), tmp_path, arch=arch, limits=limits, engine=BuildOptions(flavour="tensorrt"))
    (result,) = export(request)
    assert result.parity.failures == ()
    assert manifests.read(result.folder).verified.level in ("typed", "device")


@pytest.mark.parametrize("arch", ARCHS)
def test_the_core_ai_model_equals_the_network(arch, tmp_path):
    """Small: Apple's runtime for Linux is slow. Stand-ins with attention flip, logits hardly apart."""
    pytest.importorskip("coreai_torch")
    flipping = {"flips": 1e-2, "alpha_mean": 1e-2, "mse": 1e-2, "grad_mean": 1e-3}
    limits = flipping if arch in ("swin-t", "vitae-s") else {}
    (result,) = export(ExportRequest(("coreai-fp16",), tmp_path, arch=arch, width=64, height=64, limits=limits))
    assert result.parity.failures == ()
    with Matting(result.folder) as matting:
        assert matting.selftest().passed


@pytest.mark.parametrize("target", ["litert-fp32", "litert-fp16"])
@pytest.mark.parametrize("arch", ARCHS)
def test_the_litert_model_equals_the_network(arch, target, tmp_path):
    """As above: logits of stand-ins are nearly tied."""
    needs_converter()
    limits = {"flips": 4e-3} if target == "litert-fp16" else {}
    (result,) = export(ExportRequest((target,), tmp_path, arch=arch, width=256, height=256, limits=limits))
    assert result.parity.failures == ()
    with Matting(result.folder, threads=2) as matting:
        assert matting.selftest().passed


@pytest.mark.parametrize("target", FLOATS)
@pytest.mark.parametrize("size", [(256, 256), (512, 288)])
def test_the_mobile_network_at_the_sizes_of_devices(target, size, tmp_path):
    """288 / 64 is no whole number: the map of the context is rounded up."""
    request = ExportRequest(targets=(target,), out=tmp_path, arch="mobile", width=size[0], height=size[1])
    (result,) = export(request)
    assert result.parity.failures == ()
    with Matting(result.folder, threads=2, cache=False) as matting:
        assert matting.selftest().passed


@pytest.mark.parametrize("target", ["onnx-fp32", "openvino-fp32"])
@pytest.mark.parametrize("arch", DYNAMIC_ARCHS)
def test_a_dynamic_artefact_equals_the_network_at_other_sizes(arch, target, tmp_path):
    (result,) = export(ExportRequest((target,), tmp_path, arch=arch, width=96, height=64, dynamic=True))
    assert result.parity.failures == ()
    assert manifests.read(result.folder).input.width is None
    for width, height in ((64, 128), (160, 96)):
        size = ExportRequest((target,), tmp_path, arch=arch, width=width, height=height)
        session = ExportSession(size)
        with Matting(result.folder, threads=1, size=(width, height), cache=False) as matting:
            for image, reference in zip(session.network_images(), session.references, strict=True):
                found = matting.engine.infer(image, ("local_alpha", "global_logits"))
                assert np.abs(found["local_alpha"] - reference["local_alpha"]).mean() <= 1e-5
                flips = found["global_logits"].argmax(1) != reference["global_logits"].argmax(1)
                assert flips.mean() <= 1e-3
