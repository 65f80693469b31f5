"""TensorRT 10 and 11, and the ways in which they fail: recorded shapes of their APIs, in the builder's real process."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Literal

import pytest

from p3m_edge import manifest as manifests
from p3m_edge.errors import MissingError, P3MEdgeError, UsageError
from p3m_edge.manifest_schema import ProfileRecord
from p3m_edge.runtimes.engines.tensorrt.builder import build_into, builders, choose
from p3m_edge.runtimes.engines.tensorrt.options import BuildOptions, commands
from tests.typed import gpu_machine, make_typed, typed_model

pytest.importorskip("onnx")
VERSIONS = {"10": "10.16.1.11", "11": "11.4.0.106"}


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Make this a machine with a GPU, and with that version of TensorRT; returns where its calls are noted."""

    def make(version: Literal["10", "11"] | None, behaviour: str = "", **environment: str) -> Path:
        calls: Path = tmp_path / "calls.jsonl"
        calls.unlink(missing_ok=True)
        there = gpu_machine(version, calls, behaviour) | {"P3M_EDGE_CACHE": str(tmp_path / "cache")}
        for name, value in (there | environment).items():
            monkeypatch.setenv(name, value)
        return calls

    return make


def noted(calls: Path) -> dict[str, list[list[object]]]:
    """The arguments of each call, by its name."""
    found: dict[str, list[list[object]]] = {}
    for line in calls.read_text().splitlines():
        name, *arguments = json.loads(line)
        found.setdefault(name, []).append(arguments)
    return found


def build(folder: Path, options: BuildOptions | None = None) -> manifests.Manifest:
    return build_into(manifests.read(folder), folder, options or BuildOptions())


@pytest.mark.parametrize("version", VERSIONS)
def test_one_way_for_both(version, machine, tmp_path):
    calls = machine(version)
    folder = make_typed(tmp_path / "trt-fp16", "fp16")
    told: list[str] = []
    built = build_into(manifests.read(folder), folder, BuildOptions(level=3, workspace_mb=512), told.append)
    made = noted(calls)
    assert made["create_network"] == [[2 if version == "10" else 1]]
    assert "set_flag" not in made  # neither FP16 nor INT8, where there are such flags
    assert made["set_memory_pool_limit"] == [["WORKSPACE", 512 << 20]]
    assert made["build_serialized_network"] == [[3]]
    assert (folder / "model.engine").read_bytes() == b"ftrt, an engine"
    record = built.engine.build
    assert record is not None
    assert (record.flavour, record.version) == ("tensorrt", VERSIONS[version])
    assert (record.gpu, record.compute_capabilities) == ("NVIDIA Test GPU", ("9.0",))
    assert record.cuda == "13.1"
    assert record.types == {"FLOAT": 1, "HALF": 6}
    assert record.onnx_sha256 == manifests.sha256(folder / manifests.TYPED)
    assert built.engine.versions == {"tensorrt": VERSIONS[version]}
    assert any(re.match(r"Building engine: 50%, about \d+ s left", text) for text in told), told
    manifests.write(built, folder)
    manifests.check_files(manifests.read(folder), folder)


@pytest.mark.parametrize("version", VERSIONS)
def test_compatibility_and_profile(version, machine, tmp_path):
    calls = machine(version)
    folder = make_typed(tmp_path / "trt-fp16", "fp16", None)
    options = BuildOptions(
        profile=ProfileRecord((64, 32), (96, 64), (128, 96)), hardware_compatibility="ampere+", version_compatible=True
    )
    built = build(folder, options)
    made = noted(calls)
    assert made["set_shape"] == [["image", [1, 32, 64, 3], [1, 64, 96, 3], [1, 96, 128, 3]]]
    assert made["set_flag"] == [["VERSION_COMPATIBLE"]]
    assert made["hardware_compatibility_level"] == [["AMPERE_PLUS"]]
    record = built.engine.build
    assert record is not None
    assert (record.profile, record.hardware_compatibility) == (options.profile, "ampere+")
    own, foreign = built.engine.commands
    assert own == (
        "p3m-edge build DIR --force --min 64x32 --opt 96x64 --max 128x96 --hw-compat ampere+ --version-compat"
    )
    assert foreign == (
        "trtexec --onnx=DIR/model.onnx --saveEngine=model.engine --stronglyTyped --minShapes=image:1x32x64x3 "
        "--optShapes=image:1x64x96x3 --maxShapes=image:1x96x128x3 --hardwareCompatibilityLevel=ampere+ "
        "--versionCompatible"
    )


def test_the_timing_cache_is_kept_and_that_of_another_version_is_not_used(machine, tmp_path):
    calls = machine("11")
    folder = make_typed(tmp_path / "trt-fp16", "fp16")
    build(folder)
    kept = tmp_path / "cache" / "tensorrt" / "timing-11.4.0.106.cache"
    first = kept.read_bytes()
    assert noted(calls)["set_timing_cache"] == [["", False, True]]
    calls.unlink()
    build(folder)
    made = noted(calls)
    assert made["set_timing_cache"] == [[first.decode(), False, True]]
    assert made["combine"] == [[first.decode(), False]]
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]

    other = tmp_path / "other.cache"
    other.write_bytes(b"timings of another")
    calls.unlink()
    build(folder, BuildOptions(timing_cache=other))
    assert noted(calls)["set_timing_cache"] == [["timings of another", False, False], ["", False, True]]
    assert other.read_bytes() == first

    told: list[str] = []
    folder_instead = tmp_path / "folder"
    folder_instead.mkdir()
    built = build_into(manifests.read(folder), folder, BuildOptions(timing_cache=folder_instead), told.append)
    assert built.engine.status == "built"
    assert any("cannot be read" in text for text in told)
    assert any("is not kept" in text for text in told)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("fp16", "0 of 2 convolutions and products give HALF, and network.first.conv/Conv"),
        ("int8", "no layer gives INT8 among 11"),
    ],
)
def test_an_engine_that_would_be_silently_fp32_is_refused(kind, message, machine, tmp_path):
    machine("10", "weak")
    folder = make_typed(tmp_path / "trt", kind)
    with pytest.raises(P3MEdgeError, match=message) as caught:
        build(folder)
    assert "silently FP32" in str(caught.value)
    assert not (folder / "model.engine").exists()


def test_nodes_that_may_be_in_float32_are_those_of_the_manifest(machine, tmp_path):
    machine("11")
    half = typed_model("fp16")
    convolution = next(node for node in half.graph.node if node.name == "network.second.conv/Conv")
    _in_float32(half, convolution)
    folder = make_typed(tmp_path / "mixed", model=half, fp32_nodes=(convolution.name,))
    record = build(folder).engine.build
    assert record is not None
    assert record.types == {"FLOAT": 3, "HALF": 6}
    folder = make_typed(tmp_path / "unknown", model=half)
    with pytest.raises(P3MEdgeError, match=r"1 of 2 .* network\.second\.conv/Conv should"):
        build(folder)


def _in_float32(model, convolution) -> None:
    """Put casts around a convolution."""
    from onnx import TensorProto, helper, numpy_helper

    taken, weight = convolution.input
    (kept,) = [constant for constant in model.graph.initializer if constant.name == weight]
    kept.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(kept).astype("float32"), weight))
    place = list(model.graph.node).index(convolution)
    convolution.input[0] = "before"
    given, convolution.output[0] = convolution.output[0], "after"
    cast = helper.make_node("Cast", ["after"], [given], name="network/Cast_3", to=TensorProto.FLOAT16)
    model.graph.node.insert(place + 1, cast)
    cast = helper.make_node("Cast", [taken], ["before"], name="network/Cast_2", to=TensorProto.FLOAT)
    model.graph.node.insert(place, cast)


@pytest.mark.parametrize("call", ["create_network", "create_builder_config", "build_serialized_network"])
def test_none_is_an_error_in_the_library_s_words(call, machine, tmp_path):
    machine("11", f"none:{call}")
    folder = make_typed(tmp_path / "trt-fp16")
    with pytest.raises(P3MEdgeError, match=rf"TensorRT 11\.4\.0\.106 gives no .*: {call}: .* the reason") as caught:
        build(folder)
    assert "nobody" not in str(caught.value)
    assert not (folder / "model.engine").exists()


def test_a_native_crash_is_an_error_that_names_the_signal(machine, tmp_path):
    machine("10", "crash")
    folder = make_typed(tmp_path / "trt-fp16")
    with pytest.raises(P3MEdgeError, match="was ended by SIGSEGV: what it said before"):
        build(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["golden.npz", "manifest.json", "model.onnx"]


def test_an_interrupt_stops_the_build_at_its_next_step(machine, tmp_path):
    calls = machine("11", "slow")
    folder = make_typed(tmp_path / "trt-fp16")
    started = threading.Event()

    def interrupt() -> None:
        started.wait(60)
        signal.raise_signal(signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        build_into(manifests.read(folder), folder, BuildOptions(), lambda text: started.set() if "%" in text else None)
    assert noted(calls)["stopped"] == [[]]
    assert not (folder / "model.engine").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_the_builder_ends_when_its_parent_was_killed(machine, tmp_path):
    calls = machine("11", "slow")
    folder = make_typed(tmp_path / "trt-fp16")
    process = subprocess.Popen(
        [sys.executable, "-m", "p3m_edge", "build", str(folder)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        _wait_for(lambda: calls.exists() and "build_serialized_network" in calls.read_text())
    finally:
        process.kill()
        process.communicate()
    _wait_for(lambda: "stopped" in noted(calls))
    manifests.check_files(manifests.read(folder), folder)
    machine("11")
    assert subprocess.run([sys.executable, "-m", "p3m_edge", "build", str(folder)], capture_output=True).returncode == 0
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def _wait_for(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_is_here_and_what_is_chosen(machine, tmp_path):
    machine("11")
    enterprise = builders()[0]
    assert (enterprise.flavour, enterprise.version, enterprise.problem) == ("tensorrt", "11.4.0.106", None)
    assert choose(BuildOptions()) == enterprise
    with pytest.raises(UsageError, match="TensorRT has no --sm"):
        choose(BuildOptions(flavour="tensorrt", compute_capabilities=("8.6",)))

    machine("11", STAND_IN='{"driver": 0}')
    enterprise = builders()[0]
    assert str(enterprise.problem).startswith("TensorRT builds on a GPU alone: the CUDA driver does not start")
    with pytest.raises(MissingError, match="does not start"):
        choose(BuildOptions(flavour="tensorrt"))


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("__version__ = '8.6.1'", "TensorRT 8.6.1 is too old: 10 or newer is needed"),
        (
            "raise ImportError('libnvonnxparser.so.11: cannot open shared object file')",
            "TensorRT cannot be imported: ImportError: libnvonnxparser.so.11: cannot open shared object file",
        ),
        ("import a_package_that_is_not_here", "TensorRT cannot be imported: ModuleNotFoundError: No module named"),
        ("import os; os.kill(os.getpid(), 11)", "TensorRT: its process was ended by SIGSEGV"),
    ],
    ids=["old", "broken", "half there", "crashing"],
)
def test_one_that_cannot_be_used_is_named_with_its_problem(code, problem, machine, tmp_path, monkeypatch):
    machine(None)
    (tmp_path / "tensorrt.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]]))
    assert str(builders()[0].problem).startswith(problem)
    with pytest.raises(MissingError, match=re.escape(problem)):
        choose(BuildOptions(flavour="tensorrt"))


def test_a_gpu_that_tensorrt_for_rtx_does_not_know(machine, tmp_path):
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT for RTX is not installed")
    machine(None)
    folder = make_typed(tmp_path / "trt-fp16")
    with pytest.raises(MissingError, match=r"does not know GPUs of compute capability 9\.0") as caught:
        build(folder, BuildOptions(flavour="tensorrt-rtx"))
    assert "8.6" in str(caught.value.hint)
    assert "with TensorRT on the device" in str(caught.value.hint)


def test_commands_leave_out_what_is_as_it_comes(tmp_path):
    manifest = manifests.read(make_typed(tmp_path / "trt-fp16"))
    assert commands(manifest, BuildOptions(compute_capabilities=("9.0",)), "out/trt 16") == (
        "p3m-edge build 'out/trt 16'",
        "trtexec '--onnx=out/trt 16/model.onnx' --saveEngine=model.engine --stronglyTyped",
    )
    assert commands(manifest, BuildOptions(flavour="tensorrt-rtx", level=5)) == (
        "p3m-edge build DIR --flavour tensorrt-rtx --opt-level 5",
    )
