"""LiteRT artefacts: what is made beside the model, fewer bits, and real exports where litert-torch is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from p3m_edge import manifest as manifests
from p3m_edge import shipped
from p3m_edge.data.synth import portrait as synthetic
from p3m_edge.errors import MissingError, P3MEdgeError
from p3m_edge.export import ExportRequest, export
from p3m_edge.export.calibration import MINIMUM
from p3m_edge.export.formats import run_converter
from p3m_edge.export.formats.litert import format as export_litert
from p3m_edge.export.formats.litert.kotlin import kotlin_source
from p3m_edge.export.formats.litert.lint import refused
from p3m_edge.export.formats.litert.parts import fusion_of, scopes_of
from p3m_edge.export.formats.litert.quantise import HalfOrder, IntegerOrder, halve, quantise
from p3m_edge.export.formats.litert.ranges import activation_ranges, results
from p3m_edge.export.formats.litert.schema import names, parse
from p3m_edge.export.quantize import UnfitError
from p3m_edge.export.session import ExportSession
from p3m_edge.runtimes import Matting, open_engine
from p3m_edge.targets import TARGETS
from tests.artefacts import ALL_OUTPUTS, build_model, make_artefact, picture, rehash
from tests.litert_model import Writer, needs_converter
from tests.portraits import write_set

SIZE = 64


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """An artefact whose model no converter wrote."""
    pytest.importorskip("ai_edge_litert")
    return make_artefact(tmp_path_factory.mktemp("litert") / "artefact", "litert", (SIZE, SIZE))


def test_the_kotlin_file_is_that_of_the_artefact():
    request = ExportRequest(("litert-fp32",), Path("unused"), arch="mobile", width=96, height=64)
    text = kotlin_source("mobile", TARGETS["litert-fp32"], request)
    assert "const val WIDTH = 96\n" in text
    assert "const val HEIGHT = 64\n" in text
    assert 'runSignature(mapOf("image" to image), mapOf("alpha" to alpha), "matte")' in text
    for opening, closing in ("{}", "()", "[]"):
        assert text.count(opening) == text.count(closing)
    assert "{{" not in text


SIGNATURES = {
    "android/graphics/Bitmap.java": """package android.graphics;
public final class Bitmap {
    public enum Config { ALPHA_8, ARGB_8888 }
    public int getByteCount() { return 0; }
    public void copyPixelsFromBuffer(java.nio.Buffer src) {}
    public void getPixels(int[] pixels, int offset, int stride, int x, int y, int width, int height) {}
    public static Bitmap createBitmap(int width, int height, Config config) { return null; }
    public static Bitmap createBitmap(Bitmap source, int x, int y, int width, int height) { return null; }
    public static Bitmap createScaledBitmap(Bitmap src, int width, int height, boolean filter) { return null; }
}
""",
    "android/graphics/Color.java": """package android.graphics;
public class Color {
    public static int red(int color) { return 0; }
    public static int green(int color) { return 0; }
    public static int blue(int color) { return 0; }
}
""",
    "androidx/camera/core/ImageProxy.java": """package androidx.camera.core;
public interface ImageProxy extends AutoCloseable {
    interface PlaneProxy { int getRowStride(); int getPixelStride(); java.nio.ByteBuffer getBuffer(); }
    int getWidth();
    int getHeight();
    PlaneProxy[] getPlanes();
}
""",
    "org/tensorflow/lite/Interpreter.java": """package org.tensorflow.lite;
import java.util.Map;
public final class Interpreter implements AutoCloseable {
    public static class Options { public Options setNumThreads(int threads) { return this; } }
    public Interpreter(java.nio.ByteBuffer model, Options options) {}
    public void runSignature(Map<String, Object> inputs, Map<String, Object> outputs, String signature) {}
    @Override public void close() {}
}
""",
}
"""The members that the Kotlin file uses, as the documentation of Android, CameraX and LiteRT has them."""


def compiled(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """What the compiler says of a Kotlin file."""
    compiler = shutil.which("kotlinc")
    if compiler is None:
        pytest.skip("kotlinc is not on PATH")
    for name, stub in SIGNATURES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(stub, encoding="utf-8")
    (folder / "Matte.kt").write_text(text, encoding="utf-8")
    sources = [str(folder / name) for name in ("Matte.kt", *SIGNATURES)]
    command = [compiler, "-Werror", *sources, "-d", str(folder / "classes")]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)


@pytest.mark.full
def test_a_kotlin_compiler_takes_the_kotlin_file(tmp_path):
    request = ExportRequest(("litert-fp32",), Path("unused"), arch="mobile", width=96, height=64)
    text = kotlin_source("mobile", TARGETS["litert-fp32"], request)
    done = compiled(text, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "classes" / "p3m_edge" / "Matte.class").is_file()
    wrong = compiled(text.replace("threads: Int", "threads: String"), tmp_path)
    assert wrong.returncode == 1
    assert "Matte.kt" in wrong.stderr


def test_what_a_gpu_refuses_is_listed(written):
    """The class by ``ARG_MAX``, booleans, and the frame's conversion."""
    assert refused(written / "model.tflite") == {
        "ARG_MAX": 1, "CAST": 2, "EQUAL": 2, "EXPAND_DIMS": 1, "SELECT_V2": 1,
    }  # fmt: skip


def traced(change: float) -> torch.export.ExportedProgram:
    """Two parts that have weights of the written model, those of the second times ``change``."""
    constants = {each.name: each for each in build_model((SIZE, SIZE), 1, ALL_OUTPUTS).graph.initializer}

    def part(name: str, factor: float) -> nn.Sequential:
        weight = torch.from_numpy(onnx.numpy_helper.to_array(constants[f"{name}.weight"]) * np.float32(factor))
        unit = nn.Conv2d(weight.shape[1], weight.shape[0], 1, bias=False)
        unit.weight = nn.Parameter(weight)
        return nn.Sequential(unit)

    network = nn.Sequential(OrderedDict({"stem": part("stem", 1), "local": part("local", change)}))
    return torch.export.export(network, (torch.zeros(1, 3, SIZE, SIZE),))


def operators(model: Path) -> dict[str, str]:
    """The types of the results of a model's operators, by the operators' scopes."""
    (body,), types = parse(model).subgraphs, names("TensorType")
    results = [[body.tensors[place] for place in each.outputs] for each in body.operators]
    return {"".join(f"{each.name.decode()};" for each in found): types[found[0].type] for found in results}


def test_a_part_is_found_by_its_weights_and_stays_in_float32(written, tmp_path):
    """An operator without weights goes with its input; the others are in 8 bits."""
    pytest.importorskip("litert_quantizer")
    model = written / "model.tflite"
    assert scopes_of(model, traced(1), ()) == ()
    kept = scopes_of(model, traced(1), ("local.0",))
    assert [scope.split("_")[0] for scope in kept[:2]] == ["CONV", "LOGISTIC"]
    assert not set(kept) & set(scopes_of(model, traced(1), ("stem.0",)))
    ranges = {name: each[:2] for name, each in ranges_of(written).items()}
    quantise(IntegerOrder(str(model), str(tmp_path / "out.tflite"), ranges, kept))
    before, after = operators(model), operators(tmp_path / "out.tflite")
    (relu,) = (scope for scope in before if scope.startswith("RELU"))
    assert [after[scope] for scope in (*kept[:2], relu)] == ["FLOAT32", "FLOAT32", "INT8"]


def test_the_fusion_is_what_leads_to_floor_and_what_follows(written, tmp_path):
    """Not an operator of the same kind elsewhere."""
    shape, writer = (1, 4, 4, 1), Writer()
    logit, other, local = (writer.tensor(name, shape) for name in ("logit", "other", "local"))
    bound = writer.constant("bound", np.zeros(1, np.float32))

    def step(kind: str, *inputs: int) -> int:
        return writer.operator(kind, inputs, writer.tensor(f"{kind} {len(writer.graph.tensors)}", shape))

    highest = step("MAXIMUM", step("RELU", logit), other)
    below = step("MINIMUM", step("MAXIMUM", step("SUB", highest, logit), bound), bound)
    sign = step("FLOOR", below)
    alpha = step("SUB", step("MUL", local, sign), sign)
    elsewhere = step("MUL", step("MAXIMUM", local, bound), local)
    (tmp_path / "model.tflite").write_bytes(
        writer.finish({"logit": logit, "other": other, "local": local}, {"alpha": step("RELU", alpha), "x": elsewhere})
    )
    kinds = [scope.split()[0] for scope in fusion_of(tmp_path / "model.tflite")]
    assert kinds == ["MAXIMUM", "SUB", "MAXIMUM", "MINIMUM", "FLOOR", "MUL", "SUB"]
    assert fusion_of(written / "model.tflite") == ()


def test_a_part_whose_weights_are_not_in_the_model_is_named(written):
    with pytest.raises(UnfitError, match=r"has the weights of local\.0"):
        scopes_of(written / "model.tflite", traced(2), ("stem.0", "local.0"))


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
    if kind == "half":
        halve(HalfOrder(source, out))
    else:
        quantise(IntegerOrder(source, out, {name: each[:2] for name, each in ranges_of(written).items()}, ()))
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
    order = HalfOrder(str(tmp_path / "model.tflite"), str(tmp_path / "out.tflite"))
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


class Unconvertible(nn.Module):
    """A Bessel function, which PyTorch has and LiteRT has not."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = torch.special.i0(x)
        return found


@pytest.mark.full
def test_an_operator_that_litert_has_not_is_named_with_the_architecture(tmp_path):
    needs_converter()
    session = ExportSession(ExportRequest(("litert-fp32",), tmp_path, arch="mobile", width=32, height=32))
    decoder = session.network.local_decoder
    decoder.add_module("head", nn.Sequential(decoder.head, Unconvertible()))
    told = r"litert-torch cannot convert the network \(mobile\): it has nothing for the operator aten\.i0\.default"
    with pytest.raises(P3MEdgeError, match=f"^{told}$"):
        export_litert.FORMAT.build(session, TARGETS["litert-fp32"], tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.full
@pytest.mark.parametrize("target", ["litert-fp32", "litert-fp16"])
def test_an_export_of_the_shipped_weights(target, tmp_path):
    needs_converter()
    request = ExportRequest((target,), tmp_path, checkpoint=shipped.weights_path(), width=SIZE, height=SIZE)
    (result,) = export(request)
    assert (result.status, result.parity.failures) == ("verified", ())
    manifest = manifests.read(result.folder)
    assert manifest.verified.level == "device"
    assert "GPU and NPU have not been run" in manifest.verified.machine["delegates"]
    assert {"ai-edge-litert", "litert-torch"} <= set(manifest.engine.versions)
    assert {"model.tflite", "Matte.kt", "delegates.json", "golden.npz"} <= set(manifest.files)
    listed = json.loads((result.folder / "delegates.json").read_bytes())["refused_by_gpu"]
    assert listed == {"CAST": 1}  # of the frame
    assert len(fusion_of(result.folder / "model.tflite")) == 13
    with Matting(result.folder, threads=1) as matting:
        assert matting.selftest().passed
        assert matting(picture(90, 70)).shape == (90, 70)


@pytest.mark.full
def test_8_bits_of_the_shipped_weights(tmp_path):
    needs_converter()
    request = ExportRequest(
        ("litert-int8",), tmp_path / "out", shipped.weights_path(), width=SIZE, height=SIZE,
        calibration_count=MINIMUM, attempts=1,
        measuring=write_set(tmp_path / "drawn", [synthetic(seed, 128, 128) for seed in range(4)]),
    )  # fmt: skip
    (result,) = export(request)
    manifest = manifests.read(result.folder, allow_rejected=True)
    record = manifest.quantization
    assert record is not None
    assert record.form == "litert-quantizer"
    first = record.rungs[0]
    assert first.name == "default"
    assert first.accuracy is not None
    assert first.bytes < 0.4 * 4 * manifest.model.parameters
    if result.status == "verified":
        with Matting(result.folder, threads=1) as matting:
            assert matting.selftest().passed
