"""Engines that TensorRT for RTX really builds here, without a GPU, and what it and we refuse."""

import dataclasses
import re

import pytest

from p3m_edge import manifest as manifests
from p3m_edge.atomic import atomic_write
from p3m_edge.errors import ArtefactError, MissingError, OutputError, P3MEdgeError, UsageError
from p3m_edge.manifest_schema import ProfileRecord
from p3m_edge.runtimes.engines.tensorrt.builder import build_into, builders, choose
from p3m_edge.runtimes.engines.tensorrt.compatibility import system
from p3m_edge.runtimes.engines.tensorrt.options import BuildOptions, check_profile
from p3m_edge.runtimes.engines.tensorrt.worker import Phases
from tests.typed import CUSTOM, make_typed, typed_model

pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT for RTX is not installed")
pytest.importorskip("onnx")
RTX = BuildOptions(flavour="tensorrt-rtx", compute_capabilities=("8.9",))
"""One GPU, whatever is here."""


def build(folder, options=RTX):
    return build_into(manifests.read(folder), folder, options)


def test_for_several_gpus_at_once(tmp_path):
    folder = make_typed(tmp_path / "trt-fp16", "fp16")
    told: list[str] = []
    options = dataclasses.replace(RTX, compute_capabilities=("8.6", "8.9", "12.0"), level=0)
    built = build_into(manifests.read(folder), folder, options, told.append)
    engine = (folder / "model.engine").read_bytes()
    assert engine[:4] == b"vtrt"  # nothing before it, as other loaders want it
    record = built.engine.build
    assert record is not None
    assert (record.flavour, record.system, record.level) == ("tensorrt-rtx", system(), 0)
    assert record.compute_capabilities == ("8.6", "8.9", "12.0")
    assert record.types == {"FLOAT": 1, "HALF": 6}
    assert record.seconds > 0
    # The version is in the file too, where the bindings did not write it.
    assert ".".join(map(str, reversed(engine[24:28]))) == ".".join(reversed(record.version.split(".")))
    assert built.engine.status == "built"
    assert built.engine.minimum_version == record.version
    shares = [int(match[1]) for match in (re.search(r": (\d+)%", text) for text in told) if match]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 100)
    assert sorted(built.files) == ["golden.npz", "model.engine", "model.onnx"]
    manifests.write(built, folder)
    manifests.check_files(manifests.read(folder), folder)


@pytest.mark.parametrize(
    ("kind", "types"), [("fp32", {"FLOAT": 7}), ("int8", {"FLOAT": 16, "INT8": 2})]
)  # fmt: skip
def test_other_types(kind, types, tmp_path):
    record = build(make_typed(tmp_path / "trt", kind)).engine.build
    assert record is not None
    assert record.types == types


def test_a_dynamic_size(tmp_path):
    folder = make_typed(tmp_path / "trt-fp16", "fp16", None)
    with pytest.raises(UsageError, match="open size") as caught:
        build(folder)
    assert "--min" in str(caught.value.hint)
    profile = ProfileRecord((32, 32), (64, 64), (96, 128))
    record = build(folder, dataclasses.replace(RTX, profile=profile)).engine.build
    assert record is not None
    assert record.profile == profile


@pytest.mark.parametrize(
    ("model", "message", "hint"),
    [
        (
            lambda: typed_model("fp16", custom=True),
            rf"refuses node 4 \(FancyOp, {re.escape(CUSTOM)}\) in the module network\.fancy\.part: .*Plugin not found",
            "no such operator",
        ),
        (
            lambda: typed_model("int8", asymmetric=True),
            r"refuses node 2 .* in the module network\.first\.conv: .*Non-zero zero point",
            "symmetrically",
        ),
        (lambda: typed_model("fp32"), r"0 of 2 convolutions and products give HALF", "export the artefact again"),
    ],
    ids=["custom operator", "zero point", "silently FP32"],
)
def test_a_graph_that_is_refused_leaves_nothing(model, message, hint, tmp_path):
    folder = make_typed(tmp_path / "trt-fp16", "fp16", model=model())
    with pytest.raises(P3MEdgeError, match=message) as caught:
        build(folder)
    assert hint in str(caught.value.hint)
    assert sorted(path.name for path in folder.iterdir()) == ["golden.npz", "manifest.json", "model.onnx"]


def test_an_interrupt_stops_it(tmp_path):
    folder = make_typed(tmp_path / "trt-fp16")

    def interrupt(text: str) -> None:
        if not text.startswith("reading"):  # it is at work
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_into(manifests.read(folder), folder, RTX, interrupt)
    assert sorted(path.name for path in folder.iterdir()) == ["golden.npz", "manifest.json", "model.onnx"]


def test_a_graph_that_is_none_and_one_that_is_gone(tmp_path):
    folder = make_typed(tmp_path / "trt-fp16")
    (folder / manifests.TYPED).write_bytes(b"no graph")
    with pytest.raises(P3MEdgeError, match="TensorRT for RTX"):
        build(folder)
    (folder / manifests.TYPED).unlink()
    with pytest.raises(ArtefactError, match="is missing"):
        build(folder)


def test_an_input_of_another_name(tmp_path):
    folder = make_typed(tmp_path / "trt-fp16")
    manifest = manifests.read(folder)
    manifest = dataclasses.replace(manifest, input=dataclasses.replace(manifest.input, name="frame"))
    with pytest.raises(ArtefactError, match="takes image, and the manifest says frame"):
        build_into(manifest, folder, RTX)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"compute_capabilities": ("9.0",)}, MissingError, r"does not know GPUs of compute capability 9\.0"),
        ({"hardware_compatibility": "ampere+"}, UsageError, "TensorRT for RTX has no --hw-compat"),
        ({"version_compatible": True}, UsageError, "TensorRT for RTX has no --version-compat"),
        ({"timing_cache": "x"}, UsageError, "TensorRT for RTX has no --timing-cache"),
        ({"level": 6}, UsageError, "0 to 5, not 6"),
        ({"workspace_mb": 0}, UsageError, "a workspace in MB is a whole number of at least 1"),
        ({"profile": ProfileRecord((32, 32), (64, 64), (96, 96))}, UsageError, "fixed size 64x64"),
        ({"workspace_mb": 1}, P3MEdgeError, "workspace"),
    ],
    ids=["gpu", "hardware", "version", "timing", "level", "workspace", "profile", "too little memory"],
)
def test_options_that_do_not_fit(options, kind, message, tmp_path):
    folder = make_typed(tmp_path / "trt-fp16")
    with pytest.raises(kind, match=message):
        build(folder, dataclasses.replace(RTX, **options))
    assert not (folder / "model.engine").exists()


def test_the_current_gpu_where_there_is_none(tmp_path):
    rtx = builders()[1]
    if rtx.driver is not None:
        pytest.skip("there is a GPU")
    assert rtx.problem is None
    assert {"8.6", "8.9", "12.0"} <= set(rtx.compute_capabilities)
    assert choose(BuildOptions(compute_capabilities=("8.6",))) == rtx
    with pytest.raises(MissingError, match="no GPU to build for: no CUDA driver"):
        build(make_typed(tmp_path / "trt-fp16"), dataclasses.replace(RTX, compute_capabilities=("current",)))


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        (ProfileRecord((40, 32), (64, 64), (96, 96)), r"--min: the width 40 must be a multiple of 32"),
        (ProfileRecord((32, 32), (64, 64), (96, 9000)), r"--max: the height 9000"),
        (ProfileRecord((32, 0), (64, 64), (96, 96)), r"--min: the height 0"),
        (ProfileRecord((96, 32), (64, 64), (96, 96)), r"the width must not fall .*: 96, 64, 96"),
        (ProfileRecord((32, 32), (64, 128), (96, 96)), r"the height must not fall .*: 32, 128, 96"),
    ],
)
def test_profiles_are_checked_in_our_words(profile, message, tmp_path):
    frame = manifests.read(make_typed(tmp_path / "trt-fp16", "fp16", None)).input
    with pytest.raises(UsageError, match=message):
        check_profile(profile, frame)


def test_a_full_disc(tmp_path, monkeypatch):
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match="the disc is full"):
        atomic_write(tmp_path / "model.engine", memoryview(b"engine"), durable=True)
    assert list(tmp_path.iterdir()) == []


def test_phases_within_phases_are_one_share():
    phases = Phases()
    phases.start("all", None, 4)
    assert phases.share == 0
    phases.step("all", 0)
    phases.start("part", "all", 2)
    phases.step("part", 0)
    assert phases.share == pytest.approx(0.25 + 0.125)
    phases.start("small", "part", 10)
    phases.step("small", 4)
    assert phases.share == pytest.approx(0.25 + (0.5 + 0.25) / 4)
    phases.finish("small")
    phases.finish("part")
    assert phases.share == pytest.approx(0.25 + (0.5 + 0.25) / 4)  # until the step that it was in is done
    phases.step("all", 1)
    assert phases.share == 0.5
    phases.start("nothing to do", "all", 0)
    phases.step("nothing to do", 5)
    assert phases.share == 0.75
