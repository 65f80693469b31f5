"""The artefacts of a real export: what is in the folder, what the manifest says, and that it is true."""

import dataclasses
import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from onnx import numpy_helper

from p3m_edge import manifest as manifests
from p3m_edge import targets
from p3m_edge.errors import ArtefactError, UsageError
from p3m_edge.export import export, parity, plan
from p3m_edge.export.graph import half as precision
from p3m_edge.export.graph.ranges import activation_ranges
from p3m_edge.export.session import PORTRAIT, ExportSession
from p3m_edge.model import save_checkpoint, standin
from p3m_edge.runtimes import Matting
from tests.conftest import ROOT
from tests.export.conftest import FLOATS, SIZE, request_for


@pytest.mark.parametrize("target", FLOATS)
def test_folder_manifest_and_selftest(artefacts, target):
    folder = artefacts / target
    row = targets.get(target)
    models = {"model.onnx"} if row.engine == "onnxruntime" else {"model.xml", "model.bin"}
    assert {path.name for path in folder.iterdir()} == {"manifest.json", "golden.npz", *models}
    document = json.loads((folder / "manifest.json").read_bytes())
    jsonschema.validate(document, json.loads((ROOT / "docs/manifest.schema.json").read_bytes()))
    manifest = manifests.read(folder)
    manifests.check_files(manifest, folder)
    assert (manifest.target, manifest.precision, manifest.engine.name) == (target, row.precision, row.engine)
    assert (manifest.model.arch, manifest.model.trained, manifest.unpool) == ("r34", False, "select")
    assert (manifest.input.height, manifest.input.width, manifest.input.batch) == (SIZE, SIZE, 1)
    assert [output.name for output in manifest.outputs] == ["alpha", "local_alpha", "global_logits"]
    assert manifest.verified.level == "device"
    assert manifest.parity is not None
    assert manifest.parity.passed
    assert manifest.parity.limits == row.limits
    assert manifest.parity.loosened == ()
    assert [item.image for item in manifest.parity.items] == [PORTRAIT, "noise"]
    with Matting(folder, threads=1, cache=False) as matting:
        result = matting.selftest()
    assert result.passed
    assert len(result.items) == 2


def test_no_half_made_folder_is_left(artefacts):
    assert {path.name for path in artefacts.iterdir()} == {*FLOATS, "done"}


def test_the_golden_vectors_are_the_eager_module(artefacts, session):
    with np.load(artefacts / "openvino-fp16/golden.npz") as golden:
        for index, (image, reference) in enumerate(zip(session.network_images(), session.references, strict=True)):
            np.testing.assert_array_equal(golden[f"image_{index}"], image)
            for name, wanted in reference.items():
                np.testing.assert_allclose(golden[f"{name}_{index}"], wanted, rtol=0, atol=1e-4)


def test_half_precision_halves_the_file_and_keeps_what_decides_in_single(artefacts):
    for engine, file in (("onnx", "model.onnx"), ("openvino", "model.bin")):
        single, half = ((artefacts / f"{engine}-{precision}" / file).stat().st_size for precision in ("fp32", "fp16"))
        assert half < 0.55 * single
    kept = manifests.read(artefacts / "onnx-fp16").fp32_nodes
    assert any(name.startswith("network.stem/Conv") for name in kept)
    assert any("Greater" in name for name in kept)
    assert manifests.read(artefacts / "onnx-fp32").fp32_nodes == ()
    assert len(kept) < len(onnx.load(artefacts / "onnx-fp16/model.onnx").graph.node) / 4


def test_weights_alone_in_half_precision(tmp_path):
    (result,) = export(request_for(tmp_path, "onnx-fp16", arch="mobile", half="weights"))
    assert result.status == "verified"
    model = onnx.load(result.folder / "model.onnx")
    casts = [node for node in model.graph.node if node.op_type == "Cast" and node.input[0].endswith("_half")]
    halves = {t.name for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT16}
    assert {node.input[0] for node in casts} == halves
    assert (result.folder / "model.onnx").stat().st_size < 2.1 * manifests.read(result.folder).model.parameters
    with pytest.raises(UsageError, match="computes in half precision"):
        plan(request_for(tmp_path, "trt-fp16", arch="mobile", half="weights"))


def copy_with(source: Path, folder: Path, model: Any) -> Path:
    """The artefact with another model file and the hashes to match."""
    shutil.copytree(source, folder)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    changed = dataclasses.replace(manifests.read(folder), files=manifests.record_files(folder))
    manifests.write(changed, folder)
    return folder


def constant(model: Any, name: str) -> Any:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def change(tensor: Any, values: np.ndarray) -> None:
    tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), tensor.name))


def weight_of(model: Any, prefix: str) -> Any:
    node = next(node for node in model.graph.node if node.op_type == "Conv" and node.name.startswith(prefix))
    return constant(model, node.input[1])


@pytest.mark.parametrize("part", ["weight", "mean"])
def test_a_broken_constant_is_caught(artefacts, session, tmp_path, part):
    model = onnx.load(artefacts / "onnx-fp32/model.onnx")
    if part == "weight":
        # One channel. Of a deeper stage it would not show: without training, every stage damps what comes in.
        tensor = weight_of(model, "network.local_decoder.stage1.")
        values = numpy_helper.to_array(tensor).copy()
        values[0] *= -1
    else:
        sub = next(node for node in model.graph.node if node.op_type == "Sub" and node.output[0] != "alpha")
        tensor = next(constant(model, name) for name in sub.input if name in {t.name for t in model.graph.initializer})
        values = numpy_helper.to_array(tensor) + 1.0  # one grey level
    change(tensor, values)
    folder = copy_with(artefacts / "onnx-fp32", tmp_path / "broken", model)
    with Matting(folder, threads=1) as matting:  # the hashes are right
        result = matting.selftest()
    assert not result.passed
    assert result.failures
    record = parity.check(session, manifests.read(folder), folder, targets.FP32, ())
    assert not record.passed
    assert any(PORTRAIT in failure for failure in record.failures)


def test_what_overflows_half_precision_stays_in_single(artefacts, session, tmp_path):
    model = onnx.load(artefacts / "onnx-fp32/model.onnx")
    images = session.network_images()
    convolutions = [node for node in model.graph.node if node.op_type == "Conv" and "encoder." in node.name]
    inner, outer = next(pair for pair in itertools.pairwise(convolutions) if _feeds(model, *pair))
    factor = 2.0**20  # exact; the activation is a ReLU, so the network stays the same one
    for name in inner.input[1:]:
        change(constant(model, name), numpy_helper.to_array(constant(model, name)) * factor)
    change(constant(model, outer.input[1]), numpy_helper.to_array(constant(model, outer.input[1])) / factor)
    ranges = activation_ranges(model, images)
    assert ranges[inner.output[0]].magnitude > precision.FP16_MAX
    half, kept = precision.to_half(model, images)
    onnx.checker.check_model(half, full_check=True)
    assert {inner.name, outer.name} <= set(kept)
    assert inner.name not in precision.to_half(onnx.load(artefacts / "onnx-fp32/model.onnx"), images)[1]
    _assert_islands(half, set(kept))
    folder = copy_with(artefacts / "onnx-fp16", tmp_path / "overflow", half)
    record = parity.check(session, manifests.read(folder), folder, targets.FP16, ())
    assert record.failures == ()


def _feeds(model: Any, inner: Any, outer: Any) -> bool:
    """Whether a ReLU alone stands between two convolutions."""
    consumers = [node for node in model.graph.node if inner.output[0] in node.input]
    if len(consumers) != 1 or consumers[0].op_type != "Relu":
        return False
    return [node.name for node in model.graph.node if consumers[0].output[0] in node.input] == [outer.name]


def _assert_islands(model: Any, kept: set[str]) -> None:
    """No value goes to half precision on its way from one kept node to the next."""
    makers = {name: node for node in model.graph.node for name in node.output}
    to_single = [n for n in model.graph.node if n.op_type == "Cast" and n.attribute[0].i == onnx.TensorProto.FLOAT]
    assert to_single
    feeding = {name for node in model.graph.node if node.name in kept for name in node.input}
    for cast in to_single:
        maker = makers.get(cast.input[0])
        if maker is not None and maker.op_type == "Cast" and cast.output[0] in feeding:
            source = makers.get(maker.input[0])
            assert source is None or source.name not in kept, cast.name


def test_native_unpooling_a_batch_and_alpha_alone(tmp_path, session):
    seen: list[tuple[str, str]] = []
    request = request_for(tmp_path, "onnx-fp32", unpool="native", batch=2, outputs="alpha")
    (result,) = export(request, lambda event: seen.append((event.stage, event.state)))
    assert result.status == "verified"
    stages = ["load", "trace", "convert", "reference", "parity", "seal"]
    assert seen == [(stage, state) for stage in stages for state in ("start", "done")]
    assert [stage.name for stage in result.stages] == stages
    assert all(stage.peak_rss_mb > 0 for stage in result.stages)
    assert result.bytes == sum(path.stat().st_size for path in result.folder.iterdir())
    manifest = manifests.read(result.folder)
    assert (manifest.unpool, manifest.input.batch) == ("native", 2)
    assert [output.name for output in manifest.outputs] == ["alpha"]
    model = onnx.load(result.folder / "model.onnx")
    assert "MaxUnpool" in {node.op_type for node in model.graph.node}
    runtime = onnxruntime.InferenceSession(result.folder / "model.onnx", providers=["CPUExecutionProvider"])
    images = np.concatenate(session.network_images())
    (alpha,) = runtime.run(None, {"image": images})
    for index, reference in enumerate(session.references):
        assert np.abs(alpha[index] - reference["alpha"][0]).mean() <= 1e-4


@pytest.mark.parametrize("target", ["openvino-fp32", "openvino-fp16"])
def test_native_unpooling_is_refused_where_no_engine_has_it(tmp_path, target):
    with pytest.raises(UsageError, match="native"):
        export(request_for(tmp_path / "out", target, unpool="native"))
    assert not (tmp_path / "out").exists()


def test_swin_has_no_dynamic_size(tmp_path):
    with pytest.raises(UsageError, match="dynamic size"):
        ExportSession(request_for(tmp_path, "onnx-fp32", arch="swin-t", dynamic=True))
    with pytest.raises(UsageError, match="dynamic size"):
        plan(request_for(tmp_path, "onnx-fp32", arch="swin-t", dynamic=True))


@pytest.mark.parametrize(
    "options",
    [
        {"outputs": "x"}, {"outputs": "alphas"}, {"outputs": None}, {"unpool": "none"}, {"qdq": "u8u8"},
        {"half": "all"}, {"batch": 0}, {"batch": 1.0}, {"batch": True}, {"batch": "2"}, {"batch": 999_999_999},
    ],
    ids=str,
)  # fmt: skip
def test_options_that_no_export_has_are_refused_before_anything_is_done(tmp_path, options):
    with pytest.raises(UsageError):
        plan(request_for(tmp_path / "out", "onnx-fp32", **options))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", ["native", "nearest"])
def test_mobile_has_no_other_form_of_unpooling(tmp_path, form):
    request = request_for(tmp_path / "out", "onnx-fp32", arch="mobile", unpool=form)
    with pytest.raises(UsageError, match=f"mobile unpools nothing, so it has no form '{form}'"):
        plan(request)
    path = tmp_path / "mobile.safetensors"
    save_checkpoint(standin("mobile"), path, licence="-", provenance="-", trained=False)
    with pytest.raises(UsageError, match="mobile unpools nothing"):
        export(dataclasses.replace(request, checkpoint=path, arch=None))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("width", "height"), [(SIZE, SIZE), pytest.param(160, 96, marks=pytest.mark.full)])
def test_mobile_on_every_target(mobile_artefacts, tmp_path, width, height):
    """Also where 1/64 of a side is no whole number."""
    folder = mobile_artefacts if width == SIZE else tmp_path
    if width != SIZE:
        export(request_for(folder, *FLOATS, arch="mobile", width=width, height=height))
    for target in FLOATS:
        manifest = manifests.read(folder / target)
        assert manifest.parity is not None
        assert manifest.parity.failures == (), target
        assert (manifest.model.arch, manifest.unpool) == ("mobile", "none")
        assert (manifest.input.width, manifest.input.height) == (width, height)
    kept = manifests.read(folder / "onnx-fp16").fp32_nodes
    assert set(kept[:3]) == {"Transpose", "Cast", "Sub"}
    assert {name.rpartition("/")[0] for name in kept[3:]} == {
        f"network.encoder.{unit}.{part}"
        for unit in ("stem", "detail", "layer1.0.depthwise")
        for part in ("conv", "act")
    }
    assert manifests.read(folder / "openvino-fp16").fp32_nodes == kept
    weights = {
        node.get_friendly_name(): node.get_element_type().get_type_name()
        for node in openvino.Core().read_model(folder / "openvino-fp16/model.xml").get_ops()
        if node.get_type_name() == "Constant" and len(node.shape) == 4 and node.get_element_type().is_real()
    }
    assert set(weights.values()) == {"f16", "f32"}
    assert sum(kind == "f32" for kind in weights.values()) <= 4  # the stems, the mean, the depthwise convolution
    half = onnx.load(folder / "onnx-fp16/model.onnx")
    casts = [node for node in half.graph.node if node.op_type == "Cast"]
    assert len(casts) == 8  # the picture, what leaves the island, two masks of the fusion, three outputs


def test_a_rejected_name_is_refused(artefacts, tmp_path):
    shutil.copytree(artefacts / "onnx-fp32", tmp_path / "onnx-fp32.rejected")
    with pytest.raises(ArtefactError, match="rejected"):
        Matting(tmp_path / "onnx-fp32.rejected")


def test_the_references_are_deterministic(session, tmp_path):
    again = ExportSession(request_for(tmp_path, "onnx-fp32"))
    torch.testing.assert_close(
        torch.from_numpy(again.references[0]["global_logits"]),
        torch.from_numpy(session.references[0]["global_logits"]),
        rtol=0,
        atol=0,
    )
