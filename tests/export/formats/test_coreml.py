"""Core ML artefacts: the program equals the network, its size, what verifies it where Core ML is not, mistakes."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("coremltools")

from p3m_edge import manifest as manifests
from p3m_edge import shipped
from p3m_edge.cli import main
from p3m_edge.errors import MissingError, P3MEdgeError
from p3m_edge.export import ExportRequest, export
from p3m_edge.export.formats.coreml import format as export_coreml
from p3m_edge.export.formats.coreml.mil.engine import as_image
from p3m_edge.export.formats.coreml.mil.interpreter import Interpreter, numpy_type
from p3m_edge.export.formats.coreml.mil.package import read
from p3m_edge.export.graph import program as programs
from p3m_edge.model.checkpoint import load_checkpoint, save_checkpoint
from p3m_edge.runtimes import Engine, EngineInfo, Matting, golden
from p3m_edge.runtimes.contract import Loaded
from p3m_edge.runtimes.engines import coreml
from p3m_edge.targets import ARCHS
from tests.export.conftest import export_to_a_full_disc
from tests.portraits import ASTRONAUT, portrait, write_set

WIDTH, HEIGHT = 96, 64
FULL, HALF = "coreml-fp32", "coreml-fp16"
elsewhere = pytest.mark.skipif(sys.platform == "darwin", reason="here, Core ML itself verifies")


def request_for(out: Path, *names: str, **options: Any) -> ExportRequest:
    return ExportRequest(names, out, width=WIDTH, height=HEIGHT, **options)


@pytest.fixture(scope="session")
def mobile(once):
    """The shipped weights in both precisions."""
    return once("coreml", lambda out: export(request_for(out, FULL, HALF, checkpoint=shipped.weights_path())))


def package_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / "model.mlpackage").rglob("*") if path.is_file())


@elsewhere
@pytest.mark.parametrize("arch", [None, *(pytest.param(arch, marks=pytest.mark.full) for arch in ARCHS)])
def test_the_program_in_float32_is_the_network(arch, mobile, tmp_path):
    """Convolutions, comparisons, windows and attention, as PyTorch computes them; in the fast tier, shipped weights."""
    folder = mobile / FULL if arch is None else export(request_for(tmp_path, FULL, arch=arch))[0].folder
    manifest = manifests.read(folder)
    assert manifest.parity is not None
    assert manifest.parity.failures == ()
    assert max(item.local_mean or 0 for item in manifest.parity.items) < 1e-6
    assert max(item.flips or 0 for item in manifest.parity.items) == 0
    assert manifest.verified.level == "program"


@elsewhere
def test_half_precision_is_measured_and_has_headroom(mobile, capsys):
    record = manifests.read(mobile / HALF).parity
    assert record is not None
    assert record.passed
    assert record.headroom is not None
    assert record.headroom > 4
    assert manifests.read(mobile / HALF).engine.versions["coremltools"]
    assert main(["inspect", str(mobile / HALF)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "verified program on" in shown
    assert f"headroom {record.headroom:.3g} times" in shown
    assert max(item.local_mean or 0 for item in record.items) > 1e-5
    single = manifests.read(mobile / FULL).parity
    assert single is not None
    assert single.headroom is None


@elsewhere
def test_what_sees_the_picture_stays_in_float32(mobile):
    """And the manifest names it: these nodes, and none but casts besides, give float32."""
    manifest = manifests.read(mobile / HALF)
    package = read(mobile / HALF / manifest.model_file)
    single = {
        operation.name
        for operation in package.program.functions["main"].operations
        if operation.op_type not in ("const", "cast") and numpy_type(operation.outputs[0]) == np.float32
    }
    assert single
    assert single <= set(manifest.fp32_nodes)
    assert any(name.startswith("conv") for name in single)


@pytest.mark.full
@elsewhere
def test_results_near_overflow_are_refused(mobile, tmp_path):
    """The same classes, with logits that half precision can just hold."""
    known = golden.read(mobile / FULL, manifests.read(mobile / FULL))
    factor = 30000 / max(float(np.abs(vector.outputs["global_logits"]).max()) for vector in known)
    network = load_checkpoint(shipped.weights_path())
    with torch.no_grad():
        for part in ("weight", "bias"):
            network.get_parameter(f"global_decoder.head.{part}").mul_(factor)
    large = tmp_path / "large.safetensors"
    save_checkpoint(network, large, licence="none", provenance="a test", trained=False)
    (result,) = export(request_for(tmp_path, HALF, checkpoint=large))
    assert result.status == "rejected"
    assert any("overflows half precision" in failure for failure in result.parity.failures)
    assert result.parity.headroom is not None
    assert 0 < result.parity.headroom < 4


def test_padding_below_zero_and_by_minus_infinity_is_rewritten():
    """What Core ML cannot pad, in PyTorch's own operators: the same values, with a finite lowest one."""

    class Shifted(torch.nn.Module):
        arch = "none"

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            x = image.permute(0, 3, 1, 2)
            return torch.nn.functional.pad(x, (1, -1, -2, 2), value=float("-inf"))

    made: Any = Shifted()
    traced = programs.trace(made, 6, 8)
    pads = [node for node in traced.graph.nodes if node.target == torch.ops.aten.pad.default]
    assert pads
    assert all(min(node.args[1]) >= 0 and node.args[3] == programs.LOWEST for node in pads)
    x = torch.randn(1, 3, 6, 8)
    (found,) = traced.module()(x)
    wanted = torch.nn.functional.pad(x, (1, -1, -2, 2), value=programs.LOWEST)
    assert torch.equal(found, wanted)


def test_a_package_is_as_large_as_its_weights(mobile):
    parameters = sum(value.numel() for value in load_checkpoint(shipped.weights_path()).parameters())
    for name, bytes_each in ((FULL, 4), (HALF, 2)):
        assert package_bytes(mobile / name) <= 1.02 * bytes_each * parameters


@elsewhere
@pytest.mark.parametrize(
    ("target", "share"),
    [
        pytest.param("coreml-int8", 0.53, marks=pytest.mark.full),
        pytest.param("coreml-pal6", 0.41, marks=pytest.mark.full),
        pytest.param("coreml-pal4", 0.28, marks=pytest.mark.full),
    ],
)
def test_weights_in_fewer_bits_are_smaller_and_measured(target, share, mobile, tmp_path):
    """At this size palettes of 16 values fail the parity gate by a hair: it is wider here."""
    portraits = write_set(tmp_path / "measure", [portrait(HEIGHT, WIDTH, seed=seed) for seed in range(4)])
    request = request_for(
        tmp_path, target, checkpoint=shipped.weights_path(), measuring=portraits, max_drop=9.0,
        limits={"pixel_share": 0.5, "flips": 0.5, "local_mean": 0.2},
    )  # fmt: skip
    (result,) = export(request)
    assert result.parity.failures == ()
    half = manifests.read(mobile / HALF).parity
    assert half is not None
    for item, before in zip(result.parity.items, half.items, strict=True):
        assert (item.local_mean or 0) > (before.local_mean or 0) > 0
    record = result.quantization
    assert record is not None
    (rung,) = record.rungs
    assert rung.accuracy is not None
    assert record.passed == (not rung.failures) == (result.status == "verified")
    assert (record.calibration, record.measuring.pictures) == (None, 4)
    assert package_bytes(result.folder) <= share * package_bytes(mobile / HALF)
    written = manifests.read(result.folder, allow_rejected=True)
    assert written.quantization == record
    program = Interpreter(read(result.folder / "model.mlpackage"))
    assert any(name.startswith("constexpr_") for name in program.operators)


def test_image_in_and_image_out(mobile):
    description = read(mobile / HALF / "model.mlpackage").specification.description
    (image,) = description.input
    assert (image.name, image.type.imageType.width, image.type.imageType.height) == ("image", WIDTH, HEIGHT)
    kinds = {output.name: output.type.WhichOneof("Type") for output in description.output}
    assert kinds == {"alpha": "imageType", "local_alpha": "multiArrayType", "global_logits": "multiArrayType"}
    assert not description.metadata.userDefined  # a date among it
    full = read(mobile / FULL / "model.mlpackage").specification.description
    assert {output.type.WhichOneof("Type") for output in full.output} == {"multiArrayType"}


def test_the_swift_file_is_that_of_the_artefact(mobile):
    """Names and sizes are the program's; nothing here can compile it."""
    for name, kind in ((HALF, "imageBufferValue"), (FULL, "multiArrayValue")):
        text = (mobile / name / "Matte.swift").read_text()
        (image,) = read(mobile / name / "model.mlpackage").specification.description.input
        assert f"width = {image.type.imageType.width}\n" in text
        assert f"height = {image.type.imageType.height}\n" in text
        assert f'["{image.name}": MLFeatureValue(pixelBuffer: frame)]' in text
        assert f'featureValue(for: "alpha")?.{kind}' in text
        assert text.count("{") == text.count("}") == 7
        assert "Matte.swift" in manifests.read(mobile / name).files


@elsewhere
def test_the_runtime_says_that_core_ml_is_not_here(mobile):
    with pytest.raises(MissingError, match="Apple's systems alone"):
        Matting(mobile / HALF)


@elsewhere
def test_verify_interprets_it(mobile, capsys):
    assert main(["verify", str(mobile / HALF), str(mobile / FULL), "--json"]) == 0
    half, full = json.loads(capsys.readouterr().out)["artefacts"]
    assert (half["status"], full["status"]) == ("passed", "passed")
    assert half["engine"]["name"] == "interpreter"
    assert half["engine"]["device"] == "program"
    assert full["selftest"]["items"][0]["local_mean"] < 1e-6 < half["selftest"]["items"][0]["local_mean"]


@elsewhere
def test_changed_weights_are_found(mobile, tmp_path, capsys):
    copy = tmp_path / HALF
    shutil.copytree(mobile / HALF, copy)
    weights = copy / "model.mlpackage/Data/com.apple.CoreML/weights/weight.bin"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 0x40
    weights.write_bytes(bytes(data))
    assert main(["verify", str(copy)]) == 5
    assert "was changed" in capsys.readouterr().err


def test_the_engines_runner_with_a_program_behind_it(mobile):
    """As Core ML answers on a Mac: an image for alpha, multi-arrays for the others."""
    manifest = manifests.read(mobile / HALF)
    interpreter = Interpreter(read(mobile / HALF / manifest.model_file))

    def predict(given: Any, state: None) -> dict[str, Any]:
        found = interpreter.run({"image": as_image(np.asarray(given["image"])[None])}, "typed").outputs
        return {**found, "alpha": Image.fromarray(found["alpha"][0, 0])}

    run = coreml.runner(predict, manifest.input)
    info = EngineInfo("coreml", "15.0", "CPU", "arm64")
    assert golden.selftest(manifest, mobile / HALF, lambda sized: Engine(sized, Loaded(info, (run,)))).passed


@elsewhere
@pytest.mark.full
def test_a_bundle_on_what_says_to_be_a_mac(mobile, tmp_path, capsys):
    """The whole way of ``verified: device``, with the interpreter behind coremltools' interface; without a Mac."""
    artefact = shutil.copytree(mobile / HALF, tmp_path / HALF)
    bundle = tmp_path / "bundle"
    quick = ["--rounds", "3", "--iterations", "1", "--warmup", "0", "--no-throughput"]
    assert main(["bench", "--bundle", str(bundle), str(artefact), *quick]) == 0
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "benchmarks/helpers/mac")}
    line = [sys.executable, str(bundle / "run_bench.py"), "--device", "NE"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=600, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert main(["bench", "--import", str(bundle / "result.json"), str(artefact)]) == 0
    assert "no compute plan" in capsys.readouterr().out
    (unit,) = manifests.read(artefact).verified.units
    assert unit.unit == "NE"
    assert 1e-5 < unit.errors["local_mean"] < 1e-2
    assert main(["verify", str(artefact)]) == 0
    assert "the manifest says device on" in capsys.readouterr().out


def test_releases_of_macos_are_those_of_ios():
    assert [coreml._as_ios(version) for version in ("13.0", "14.5.1", "15", "26.1")] == [16, 17, 18, 26]


def test_a_conversion_that_fails_is_one_line_and_leaves_nothing(tmp_path, tmp_path_factory, monkeypatch):
    """The process that converts is killed, or finds another Python's ruins."""
    ends = {
        "killed": ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "ended by SIGKILL"),
        "failing": ("raise SystemExit('ValueError: no such operator')", "ValueError: no such operator"),
    }
    monkeypatch.setenv("PYTHONPATH", str(tmp_path_factory.mktemp("converters")))
    for name, (code, message) in ends.items():
        (Path(os.environ["PYTHONPATH"]) / f"{name}.py").write_text(code)
        monkeypatch.setattr(export_coreml, "CONVERTER", name)
        with pytest.raises(P3MEdgeError, match=message):
            export(request_for(tmp_path, FULL, checkpoint=shipped.weights_path()))
        assert list(tmp_path.iterdir()) == []


@pytest.mark.full
@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="the limit of a process' files is Linux's")
def test_a_full_disc_is_one_line(tmp_path):
    options = ("--target", HALF, "--size", f"{WIDTH}x{HEIGHT}")
    assert "cannot be written" in export_to_a_full_disc(tmp_path / "out", options, 3_000_000)


@elsewhere
def test_bench_and_run_say_that_core_ml_is_not_here(mobile, tmp_path, command_line):
    for arguments in (["bench", mobile / HALF], ["run", mobile / HALF, ASTRONAUT, "--out", tmp_path]):
        done = command_line(*arguments)
        assert done.returncode == 4
        assert "Apple's systems alone" in done.stderr
