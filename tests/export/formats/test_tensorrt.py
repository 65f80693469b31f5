"""TensorRT targets without a GPU: the typed graph, its simulation, and engines built by TensorRT for RTX."""

import importlib.util
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import jsonschema
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from p3m_edge import manifest as manifests
from p3m_edge import shipped, targets
from p3m_edge.cli import main
from p3m_edge.errors import MissingError, UsageError
from p3m_edge.export import ExportRequest, ExportResult, export, plan
from p3m_edge.export.formats import Headroom
from p3m_edge.export.formats.tensorrt import format as tensorrt
from p3m_edge.export.formats.tensorrt import lint, simulate_fp16
from p3m_edge.export.graph import half as precision
from p3m_edge.export.graph import qdq
from p3m_edge.export.graph.ranges import activation_ranges
from p3m_edge.export.request import StageEvent
from p3m_edge.export.session import ExportSession
from p3m_edge.manifest import TYPED
from p3m_edge.manifest_schema import ProfileRecord
from p3m_edge.runtimes.engines.tensorrt.builder import build_into
from p3m_edge.runtimes.engines.tensorrt.options import BuildOptions
from p3m_edge.targets import ARCHS, CALIBRATION_PICTURES, TARGETS
from tests.calibrating import Ranges
from tests.conftest import ROOT
from tests.export.conftest import SIZE, request_for
from tests.typed import make_typed

RTX = importlib.util.find_spec("tensorrt_rtx_bindings") is not None
needs_rtx = pytest.mark.skipif(not RTX, reason="TensorRT for RTX is not installed")
no_tensorrt = pytest.mark.skipif(importlib.util.find_spec("tensorrt") is not None, reason="TensorRT is here")
CAPABILITIES = ("8.6", "8.9", "12.0")
NOWHERE = BuildOptions(flavour="tensorrt")
HALF, FLOAT = TensorProto.FLOAT16, TensorProto.FLOAT


def draw(folder: Path) -> Path:
    """As many pictures as calibration wants; small, and all different."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for number in range(tensorrt.RANGED):
        coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), cv2.resize(coarse, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC))
    return folder


def mobile(out: Path, *names: str, **options: Any) -> ExportRequest:
    """The shipped weights."""
    return request_for(out, *names, arch="mobile", checkpoint=shipped.weights_path(), **options)


@pytest.fixture(scope="session")
def made(once: Callable[..., Path]) -> Path:
    """The artefacts ``trt-fp32`` and ``trt-fp16`` of the shipped weights, with an engine if one can be built here."""

    def make(out: Path) -> None:
        engine = BuildOptions(compute_capabilities=CAPABILITIES)
        export(mobile(out, "trt-fp32", "trt-fp16", calibration=draw(out / "pictures"), engine=engine))

    return once("trt", make)


def types_of(model: Any) -> dict[str, int]:
    return {entry.name: entry.type.tensor_type.elem_type for entry in model.graph.value_info}


@pytest.mark.parametrize("target", ["trt-fp32", "trt-fp16"])
def test_the_artefact(made, target):
    folder = made / target
    names = {"manifest.json", "golden.npz", "model.onnx"}
    assert {path.name for path in folder.iterdir()} == (names | {"model.engine"} if RTX else names)
    jsonschema.validate(
        json.loads((folder / "manifest.json").read_bytes()),
        json.loads((ROOT / "docs/manifest.schema.json").read_bytes()),
    )
    manifest = manifests.read(folder)
    manifests.check_files(manifest, folder)
    assert manifest.verified.level == "typed"
    assert manifest.parity is not None
    assert manifest.parity.passed
    assert manifest.parity.limits == targets.get(target).limits
    half = target == "trt-fp16"
    assert (manifest.parity.headroom is not None) == half
    assert (manifest.looked_at is not None) == half
    if half:
        assert manifest.parity.headroom is not None
        assert manifest.parity.headroom > 4
        assert manifest.looked_at is not None
        assert (manifest.looked_at.kind, manifest.looked_at.pictures) == ("files", tensorrt.RANGED)
        assert any(name.startswith("network.encoder.stem.") for name in manifest.fp32_nodes)


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="a GPU is here")
@needs_rtx
def test_an_engine_that_is_not_run_is_no_proof_of_a_device(made):
    build = manifests.read(made / "trt-fp16").engine.build
    assert build is not None
    with pytest.raises(MissingError, match="CUDA driver"):
        tensorrt.fits_here(build, made / "trt-fp16/model.engine")


@needs_rtx
@pytest.mark.parametrize("target", ["trt-fp32", "trt-fp16"])
def test_its_engine(made, target):
    engine = manifests.read(made / target).engine
    assert engine.status == "built"
    assert engine.build is not None
    assert (engine.build.flavour, engine.build.compute_capabilities) == ("tensorrt-rtx", CAPABILITIES)
    assert engine.build.onnx_sha256 == manifests.sha256(made / target / TYPED)
    assert ("HALF" in engine.build.types) == (target == "trt-fp16")


@pytest.mark.parametrize("target", ["trt-fp32", "trt-fp16"])
def test_its_graph_is_what_tensorrt_likes(made, target):
    model = onnx.load(made / target / TYPED)
    assert lint.lint(model) == ()
    first, second = model.graph.node[:2]
    assert (first.op_type, list(first.input), second.op_type) == ("Cast", ["image"], "Transpose")
    assert (HALF in types_of(model).values()) == (target == "trt-fp16")


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="its engine runs here")
@pytest.mark.parametrize("target", ["trt-fp32", "trt-fp16"])
def test_where_no_gpu_is_it_is_computed(made, target, capsys):
    assert main(["verify", str(made / target), "--json"]) == 0
    (verdict,) = json.loads(capsys.readouterr().out)["artefacts"]
    assert verdict["status"] == "passed"
    assert (verdict["engine"]["name"], verdict["engine"]["device"]) == (simulate_fp16.NAME, "typed")


@no_tensorrt
@pytest.mark.full
def test_without_a_builder_the_graph_alone(tmp_path):
    (result,) = export(mobile(tmp_path, "trt-fp32", engine=NOWHERE))
    assert result.status == "verified"
    manifest = manifests.read(result.folder)
    assert manifest.engine == result.engine
    assert (manifest.engine.status, manifest.engine.build) == ("not-built", None)
    assert "tensorrt" in (manifest.engine.reason or "").lower()
    assert [line.split()[0] for line in manifest.engine.commands] == ["p3m-edge", "trtexec"]
    assert not (result.folder / "model.engine").exists()
    assert main(["verify", str(result.folder)]) == 0


@no_tensorrt
def test_an_engine_that_is_required(tmp_path, capsys):
    arguments = ["--target", "trt-fp32", "--size", "64x64", "--flavour", "tensorrt", "--require-engine"]
    assert main(["export", *arguments, "--out", str(tmp_path / "out")]) == 4
    assert "nothing here can build the engine" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_damaged_graph(tmp_path, capsys):
    folder = make_typed(tmp_path / "broken")
    (folder / TYPED).write_bytes(b"\xff" * 20)
    manifests.write(replace(manifests.read(folder), files=manifests.record_files(folder)), folder)
    assert main(["verify", str(folder)]) == 5
    assert "cannot load" in capsys.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec("modelopt") is not None, reason="ModelOpt is installed")
def test_autocast_that_is_not_there(tmp_path):
    with pytest.raises(MissingError) as error:
        plan(mobile(tmp_path, "trt-fp16", half="autocast"))
    assert "nvidia-modelopt[onnx]" in (error.value.hint or "")
    assert plan(mobile(tmp_path, "trt-fp32", half="autocast"))


@pytest.mark.full
def test_autocast(tmp_path, capfd):
    pytest.importorskip("modelopt.onnx.autocast", reason="ModelOpt is not installed")
    (result,) = export(mobile(tmp_path, "trt-fp16", half="autocast"))
    assert result.status == "verified"
    model = onnx.load(result.folder / TYPED)
    assert HALF in types_of(model).values()
    assert "modelopt" not in capfd.readouterr().err.lower()


def test_sizes_of_an_engine(tmp_path):
    sizes = BuildOptions(profile=ProfileRecord((32, 32), (64, 64), (96, 96)))
    assert plan(mobile(tmp_path, "trt-fp16", dynamic=True, engine=sizes))
    for options in (
        {"dynamic": True}, {"engine": sizes}, {"dynamic": True, "engine": sizes, "width": 128},
        {"dynamic": True, "engine": BuildOptions(profile=ProfileRecord((32, 30), (64, 64), (96, 96)))},
    ):  # fmt: skip
        with pytest.raises(UsageError):
            plan(mobile(tmp_path, "trt-fp16", **options))


# --- the simulation --------------------------------------------------------------------------------------------------


def magnified(gain: float) -> Any:
    """Half precision: the sum of the frame's channels times a gain, and a small part of that."""
    same: dict[str, Any] = {"kernel_shape": [1, 1]}
    nodes = [
        helper.make_node("Cast", ["image"], ["cast"], name="Cast", to=HALF),
        helper.make_node("Transpose", ["cast"], ["planes"], name="Transpose", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "gain"], ["large"], name="network.large/Conv", **same),
        helper.make_node("Conv", ["large", "part"], ["small"], name="network.small/Conv", **same),
        helper.make_node("Cast", ["small"], ["alpha"], name="Cast_2", to=FLOAT),
    ]
    constants = {"gain": np.full((1, 3, 1, 1), gain, np.float16), "part": np.full((1, 1, 1, 1), 2**-17, np.float16)}
    return helper.make_model(
        helper.make_graph(
            nodes, "large",
            [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 64, 64, 3])],
            [helper.make_tensor_value_info("alpha", FLOAT, [1, 1, 64, 64])],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18)], ir_version=8,
    )  # fmt: skip


GAIN = 101.6875  # a number of half precision; 3 * 255 * GAIN is 77,791


def test_what_overflows_is_infinite(tmp_path):
    model = magnified(GAIN)
    white = np.full((1, 64, 64, 3), 255, np.uint8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert np.isfinite(session.run(None, {"image": white})[0]).all()  # which is why there is a simulation
    folder = make_typed(tmp_path / "large", model=model)
    headroom = Headroom()
    with simulate_fp16.simulate(manifests.read(folder), folder, headroom) as engine:
        assert np.isinf(engine.infer(white)["alpha"]).all()
        assert np.isfinite(engine.infer(white // 2)["alpha"]).all()
    assert headroom.value == pytest.approx(65504 / (765 * GAIN), rel=1e-4)
    assert headroom.at == "network.large/Conv"


@pytest.mark.parametrize("optimised", ["ORT_DISABLE_ALL", "ORT_ENABLE_ALL"])
def test_every_result_is_rounded(optimised):
    graph, rounded = simulate_fp16.simulation(magnified(GAIN))
    assert rounded == {"cast": "Cast", "large": "network.large/Conv", "small": "network.small/Conv"}
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, optimised)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    image = np.random.default_rng(0).integers(0, 200, (1, 64, 64, 3), dtype=np.uint8)
    (found,) = session.run(None, {"image": image})
    large = (image.astype(np.float32).sum(-1) * np.float32(GAIN)).astype(np.float16)
    wanted = (large.astype(np.float32) * np.float32(2**-17)).astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(found[0], wanted)
    assert np.any(wanted != image.astype(np.float32).sum(-1) * np.float32(GAIN) * np.float32(2**-17))


def test_headroom_takes_no_number_for_none_left():
    headroom = Headroom()
    for value, at in ((5.0, "first"), (float("nan"), "second"), (3.0, "third")):
        headroom.note(value, at)
    assert (headroom.value, headroom.at) == (0.0, "second")


# --- what half precision does to constants ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "survive"),
    [
        ([0.1, -3.7, 1000.3], True), ([0.0, 0.0], True), ([-np.inf, 1.0], True),
        ([65504.0], True), ([70000.0, 1.0], False), ([np.nan, 1.0], True),
        ([1e-8], False), ([3e-6] * 10, False), ([1e-8, 3e-6, 1.0], True),
    ],
)  # fmt: skip
def test_which_constants_survive(values, survive):
    assert precision.survives(np.array(values, np.float32)) == survive


def scaled(weight: float) -> Any:
    nodes = [
        helper.make_node("Mul", ["x", "weight"], ["m"], name="network.a/Mul"),
        helper.make_node("Add", ["m", "offset"], ["y"], name="network.b/Add"),
    ]
    value = helper.make_tensor_value_info
    constants = {"weight": np.float32(weight), "offset": np.array([1, 2**-26, 5e-8], np.float32)}
    graph = helper.make_graph(
        nodes, "scaled", [value("x", FLOAT, [3])], [value("y", FLOAT, [3])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model)


def test_nodes_keep_float32_for_constants_that_do_not_survive_and_others_round_to_zero():
    assert precision.staying(scaled(0.5), {}) == ()
    for weight in (1e-8, 1e6):
        assert precision.staying(scaled(weight), {}) == ("network.a/Mul",)
    (offset,) = (t for t in precision.half_but(scaled(0.5), ()).graph.initializer if t.name == "offset")
    np.testing.assert_array_equal(numpy_helper.to_array(offset), np.array([1, 0, 2**-24], np.float16))


# --- INT8 ------------------------------------------------------------------------------------------------------------


def first_candidate(session: ExportSession, folder: Path) -> Any:
    """What the search makes first, with the ranges of the parity pictures; the builder's description of it."""
    folder.mkdir()
    ranges = activation_ranges(session.graph, session.network_images())
    given: Any = Ranges(ranges)
    return tensorrt.FORMAT.candidates(session, TARGETS["trt-int8"], given, folder)[0].build(folder, ())


def engine_types(session: ExportSession, target: str, built: Any, folder: Path) -> dict[str, int]:
    """Build for the three GPUs."""
    manifest = tensorrt.FORMAT.describe(session, TARGETS[target], built, folder)
    record = build_into(manifest, folder, BuildOptions(compute_capabilities=CAPABILITIES)).engine.build
    assert record is not None
    return record.types


@pytest.fixture(scope="module")
def quantised(tmp_path_factory: pytest.TempPathFactory) -> tuple[ExportSession, Any, Path]:
    session = ExportSession(mobile(tmp_path_factory.mktemp("unused"), "trt-int8"))
    folder = tmp_path_factory.mktemp("int8") / "folder"
    return session, first_candidate(session, folder), folder


def test_int8_is_symmetric_with_half_precision_between(quantised):
    _, built, folder = quantised
    model = onnx.load(folder / TYPED)
    types = types_of(model)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    users: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    pairs = [node for node in model.graph.node if node.op_type == "DequantizeLinear"]
    assert pairs
    for node in pairs:
        assert constants[node.input[2]].data_type == TensorProto.INT8
        assert not numpy_helper.to_array(constants[node.input[2]]).any()
        kept = {user.name in built.fp32_nodes for user in users[node.output[0]]}
        assert len(kept) == 1  # no cast between a DQ and what takes it
        assert types[node.output[0]] == (FLOAT if kept.pop() else HALF)
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    assert all(makers[name] == "DequantizeLinear" for node in convolutions for name in node.input[:2])
    assert lint.lint(model) == ()
    halves = [node for node in convolutions if types[node.output[0]] == HALF]
    assert len(halves) > len(convolutions) * 0.9


@needs_rtx
def test_int8_builds(quantised):
    types = engine_types(quantised[0], "trt-int8", quantised[1], quantised[2])
    assert types["INT8"] > 0
    assert types["HALF"] > 0


EXPAND = "network.encoder.layer3.0.expand.conv/Conv"
"""A convolution whose input another operator takes too."""


def with_smaller_weights(session: ExportSession, channels: slice, factor: float) -> onnx.ModelProto:
    model = tensorrt.source(session)
    node = next(each for each in model.graph.node if each.name == EXPAND)
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == node.input[1])
    values = numpy_helper.to_array(weight).copy()
    values[channels] *= np.float32(factor)
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    return model


def test_scales_too_small_for_half_precision_stay_with_their_convolution(quantised):
    session = quantised[0]
    model = with_smaller_weights(session, slice(None), 1e-3)
    graph = qdq.quantised(model, activation_ranges(model, session.network_images()), "s8s8", inputs_alone=True)
    half, kept = precision.half_quantised(graph, ())
    assert EXPAND in kept
    onnx.checker.check_model(half, full_check=True)
    types = types_of(onnx.shape_inference.infer_shapes(half, strict_mode=True))
    changed = next(n for n in half.graph.node if n.name == EXPAND)
    assert {types[name] for name in [*changed.input[:2], *changed.output]} == {FLOAT}


def test_channels_of_nothing_keep_no_convolution_in_float32(quantised):
    """ImageNet's encoder has such channels; zeros have a scale that half precision holds."""
    session = quantised[0]
    model = with_smaller_weights(session, slice(3), 1e-9)
    graph = qdq.quantised(model, activation_ranges(model, session.network_images()), "s8s8", inputs_alone=True)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    makers = {name: node for node in graph.graph.node for name in node.output}
    node = next(each for each in graph.graph.node if each.name == EXPAND)
    stored, scale = (constants[name] for name in makers[node.input[1]].input[:2])
    assert not stored[:3].any()
    assert (scale[:3] == 1).all()
    assert EXPAND not in precision.half_quantised(graph, ())[1]


# --- every architecture ----------------------------------------------------------------------------------------------


@needs_rtx
@pytest.mark.full
@pytest.mark.parametrize("arch", [arch for arch in ARCHS if arch != "mobile"])
def test_every_architecture_builds(tmp_path, arch):
    session = ExportSession(request_for(tmp_path, arch=arch))
    for target, type_name in (("trt-fp32", "FLOAT"), ("trt-fp16", "HALF")):
        folder = tmp_path / target
        folder.mkdir()
        built = tensorrt.FORMAT.build(session, TARGETS[target], folder)
        assert type_name in engine_types(session, target, built, folder)
    folder = tmp_path / "trt-int8"
    assert "INT8" in engine_types(session, "trt-int8", first_candidate(session, folder), folder)


@pytest.mark.full
def test_int8_through_the_search(tmp_path):
    pictures = draw(tmp_path / "pictures")
    told: list[StageEvent] = []
    request = mobile(
        tmp_path, "trt-int8", width=128, height=128, calibration=pictures, calibration_count=32, attempts=3,
        engine=BuildOptions(compute_capabilities=CAPABILITIES),
    )  # fmt: skip
    result: ExportResult
    (result,) = export(request, told.append)
    record = result.quantization
    assert record is not None
    assert record.form == "s8s8"
    assert request.qdq == "u8s8"  # which is that of ONNX Runtime alone
    assert len(record.rungs) == 3
    assert all(rung.speed is None for rung in record.rungs)
    assert "half precision" in record.rungs[2].what
    manifest = manifests.read(result.folder, allow_rejected=True)
    assert (manifest.engine.status == "built") == (result.status == "verified" and RTX)


@needs_rtx
@pytest.mark.full
def test_an_open_size(tmp_path):
    sizes = BuildOptions(profile=ProfileRecord((32, 32), (64, 64), (96, 96)), compute_capabilities=("8.9",))
    told: list[StageEvent] = []
    (result,) = export(mobile(tmp_path, "trt-fp32", dynamic=True, engine=sizes), told.append)
    assert result.status == "verified"
    assert result.engine is not None
    assert result.engine.build is not None
    assert result.engine.build.profile == sizes.profile
    assert any("integers are computed on the way" in event.text for event in told)


def test_how_many_pictures_are_looked_at(tmp_path):
    half, single = TARGETS["trt-fp16"], TARGETS["trt-fp32"]
    count = tensorrt.FORMAT.overflow_pictures
    assert count(half, mobile(tmp_path, "trt-fp16")) == tensorrt.RANGED < CALIBRATION_PICTURES
    assert count(half, mobile(tmp_path, "trt-fp16", half="autocast")) == 0
    assert count(single, mobile(tmp_path, "trt-fp32")) == 0
