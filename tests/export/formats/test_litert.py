"""LiteRT artefacts: what is made beside the model, fewer bits, and real exports where litert-torch is installed."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from p3m_edge import manifest as manifests
from p3m_edge import shipped
from p3m_edge.errors import MissingError, P3MEdgeError, UsageError
from p3m_edge.export import ExportRequest, export
from p3m_edge.export.formats import run_converter
from p3m_edge.export.formats.litert import format as export_litert
from p3m_edge.export.formats.litert.kotlin import kotlin_source
from p3m_edge.export.formats.litert.lint import refused
from p3m_edge.export.formats.litert.quantise import HalfOrder, IntegerOrder
from p3m_edge.export.formats.litert.ranges import activation_ranges, results
from p3m_edge.export.quantize import UnfitError
from p3m_edge.runtimes import Matting, open_engine
from p3m_edge.targets import TARGETS
from tests.artefacts import ALL_OUTPUTS, make_artefact, picture, rehash

SIZE = 64


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """An artefact whose model no converter wrote."""
    pytest.importorskip("ai_edge_litert")
    return make_artefact(tmp_path_factory.mktemp("litert") / "artefact", "litert", (SIZE, SIZE))


def test_the_kotlin_file_is_that_of_the_artefact():
    """Nothing here can compile it."""
    request = ExportRequest(("litert-fp32",), Path("unused"), arch="mobile", width=96, height=64)
    text = kotlin_source("mobile", TARGETS["litert-fp32"], request)
    assert "const val WIDTH = 96\n" in text
    assert "const val HEIGHT = 64\n" in text
    assert 'runSignature(mapOf("image" to image), mapOf("alpha" to alpha), "matte")' in text
    for opening, closing in ("{}", "()", "[]"):
        assert text.count(opening) == text.count(closing)
    assert "{{" not in text


def test_what_a_gpu_refuses_is_listed(written):
    """The class by ``ARG_MAX``, booleans, and the frame's conversion."""
    assert refused(written / "model.tflite") == {
        "ARG_MAX": 1, "CAST": 2, "EQUAL": 2, "EXPAND_DIMS": 1, "SELECT_V2": 1,
    }  # fmt: skip


def test_parts_are_found_by_the_names_of_modules(written):
    model = written / "model.tflite"
    assert export_litert.patterns(model, ()) == ()
    with pytest.raises(UnfitError, match=r"names no operator of network\.encoder\.layer1"):
        export_litert.patterns(model, ("network.encoder.layer1",))


def ranges_of(written):
    images = [picture(SIZE, SIZE, seed)[np.newaxis] for seed in (1, 2)]
    return activation_ranges(written / "model.tflite", images)


def test_ranges_are_those_of_what_is_computed(written):
    found = ranges_of(written)
    assert found.keys() <= results(written / "model.tflite")
    assert not [name for name in found if "weight" in name]
    (scaled,) = (each for name, each in found.items() if name.startswith("DIV_") and each.high <= 1)
    assert 0 <= scaled.low <= scaled.mean_low < scaled.mean_high <= scaled.high
    (relu,) = (each for name, each in found.items() if name.startswith("RELU"))
    assert relu.low == 0 < relu.mean_high <= relu.high


@pytest.mark.parametrize("kind", ["half", "integers"])
def test_fewer_bits_keep_the_form_and_nearly_the_mattes(kind, written, tmp_path):
    """Input in uint8, outputs in float32: else the runtime refuses it."""
    pytest.importorskip("litert_quantizer")
    source, out = str(written / "model.tflite"), str(tmp_path / "model.tflite")
    orders = {
        "half": ("halve", lambda: HalfOrder(source, out, ())),
        "integers": (
            "quantise",
            lambda: IntegerOrder(source, out, {name: each[:2] for name, each in ranges_of(written).items()}, ()),
        ),
    }
    operation, order = orders[kind]
    run_converter(export_litert.QUANTIZER, order(), "litert-quantizer", "the network", operation)
    copy = make_artefact(tmp_path / "copy", "litert", (SIZE, SIZE))
    (copy / "model.tflite").write_bytes(Path(out).read_bytes())
    rehash(copy)
    image = picture(SIZE, SIZE)[np.newaxis]
    with open_engine(manifests.read(written), written) as one, open_engine(manifests.read(copy), copy) as other:
        wanted, found = one.infer(image, ALL_OUTPUTS), other.infer(image, ALL_OUTPUTS)
    error = float(np.abs(wanted["local_alpha"] - found["local_alpha"]).mean())
    assert 0 < error < (1e-3 if kind == "half" else 2e-2)


def test_a_file_that_is_no_model_is_one_line(tmp_path):
    pytest.importorskip("litert_quantizer")
    (tmp_path / "model.tflite").write_bytes(b"not a model" * 100)
    order = HalfOrder(str(tmp_path / "model.tflite"), str(tmp_path / "out.tflite"), ())
    with pytest.raises(P3MEdgeError, match="litert-quantizer cannot convert weights") as caught:
        run_converter(export_litert.QUANTIZER, order, "litert-quantizer", "weights", "halve")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.tflite").exists()


def test_without_the_package_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "litert_torch", None)
    with pytest.raises(MissingError, match="'litert_torch' cannot be imported") as caught:
        export(ExportRequest(("litert-fp32",), tmp_path / "out", arch="mobile", width=SIZE, height=SIZE))
    assert caught.value.hint == 'pip install "p3m-edge[litert-export]"'
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dynamic": True}, "fixed size"),
        ({"batch": 2}, "one image at a time"),
        ({"unpool": "native", "arch": "r34"}, "native"),
    ],
)
def test_what_litert_is_not_given_is_said_at_once(options, message, tmp_path):
    request = ExportRequest(("litert-fp32",), tmp_path / "out", **{"arch": "mobile", **options})
    with pytest.raises(UsageError, match=message):
        export(request)


@pytest.mark.full
@pytest.mark.parametrize("target", ["litert-fp32", "litert-fp16"])
def test_an_export_of_the_shipped_weights(target, tmp_path):
    pytest.importorskip("litert_torch")
    pytest.importorskip("litert_quantizer")
    request = ExportRequest((target,), tmp_path, checkpoint=shipped.weights_path(), width=SIZE, height=SIZE)
    (result,) = export(request)
    assert (result.status, result.parity.failures) == ("verified", ())
    manifest = manifests.read(result.folder)
    assert manifest.verified.level == "device"
    assert "GPU and NPU have not been run" in manifest.verified.machine["delegates"]
    assert {"ai-edge-litert", "litert-torch"} <= set(manifest.engine.versions)
    assert {"model.tflite", "Matte.kt", "delegates.json", "golden.npz"} <= set(manifest.files)
    listed = json.loads((result.folder / "delegates.json").read_bytes())["refused_by_gpu"]
    assert any(re.match("CAST|GREATER|LOGICAL", name) for name in listed)
    with Matting(result.folder, threads=1) as matting:
        assert matting.selftest().passed
        assert matting(picture(90, 70)).shape == (90, 70)
