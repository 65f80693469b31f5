"""Core ML with weights and activations in 8 bits: the artefact and its record, attempts that go on, mistakes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

pytest.importorskip("coremltools")

from p3m_edge import manifest as manifests
from p3m_edge.cli import main
from p3m_edge.data.synth import portrait as synthetic
from p3m_edge.errors import P3MEdgeError
from p3m_edge.export import ExportRequest
from p3m_edge.export.calibration import MINIMUM
from p3m_edge.export.formats import run_converter
from p3m_edge.export.formats.coreml import activations
from p3m_edge.export.formats.coreml.mil.interpreter import Interpreter, numpy_type
from p3m_edge.export.formats.coreml.mil.package import read
from p3m_edge.export.graph import qdq
from p3m_edge.export.quantize import UnfitError
from p3m_edge.export.session import ExportSession
from p3m_edge.targets import ARCHS
from tests.portraits import portrait, write_set

SIDE = 64
TARGET = "coreml-w8a8"
elsewhere = pytest.mark.skipif(sys.platform == "darwin", reason="here, Core ML itself verifies")


@pytest.fixture(scope="session")
def pictures(once):
    """Folders to calibrate with, to measure with, and one with too few."""

    def make(out: Path) -> None:
        samples = [portrait(SIDE, SIDE, seed=seed) for seed in range(MINIMUM)]
        write_set(out / "calib", samples)
        write_set(out / "measure", [synthetic(seed, 128, 128) for seed in range(3)])
        write_set(out / "few", samples[1:])

    return once("w8a8-pictures", make)


def line(out: Path, pictures: Path, *options: str) -> list[str]:
    """As a user types it; without logits no pixel's class can change, so that the SAD alone decides."""
    return [
        "export", "--target", TARGET, "--size", f"{SIDE}x{SIDE}", "--out", str(out), "--outputs", "alpha",
        "--calib", str(pictures / "calib"), "--calib-count", str(MINIMUM), "--measure", str(pictures / "measure"),
        *options,
    ]  # fmt: skip


@pytest.fixture(scope="session")
def made(once, pictures):
    """The first attempt with the shipped weights; any rise of the SAD will do."""

    def make(out: Path) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "p3m_edge", *line(out, pictures, "--max-drop", "9")],
            capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        (out / "told.txt").write_text(done.stdout + done.stderr)
        assert done.returncode == 0, done.stderr

    return once("w8a8", make)


def program(package: Path) -> list[Any]:
    return list(read(package).program.functions["main"].operations)


@elsewhere
@pytest.mark.full
def test_weights_and_activations_have_8_bits(made):
    record = manifests.read(made / TARGET)
    assert (record.precision, record.engine.minimum_version, record.verified.level) == ("w8a8", "17", "program")
    package = made / TARGET / record.model_file
    convolutions = [each for each in program(package) if each.op_type == "conv"]
    single = [each for each in convolutions if numpy_type(each.outputs[0]) == np.float32]
    assert {each.name.removesuffix("_cast_fp32") for each in single} <= set(record.fp32_nodes)
    assert len(single) == 3  # both stems, and the first depthwise convolution
    assert {each.weight.op.op_type for each in single} == {"const"}
    quantised = [each for each in convolutions if each not in single]
    assert {each.x.op.op_type for each in quantised} == {"dequantize"}
    for each in quantised:
        if each.weight.op.op_type == "const":
            assert each.weight.val.size <= 512
        else:
            assert each.weight.op.quantized_data.val.dtype == np.int8
    # What follows a convolution is rounded after its activation, not between the two.
    followed = {each.op_type for conv in quantised for each in conv.outputs[0].child_ops}
    assert {"relu", "relu6"} <= followed
    assert "clip" not in Interpreter(read(package)).operators
    parameters = record.model.parameters
    assert parameters < sum(path.stat().st_size for path in package.rglob("*") if path.is_file()) < 1.15 * parameters


@elsewhere
@pytest.mark.full
def test_the_manifest_says_how_it_came_about(made):
    record = manifests.read(made / TARGET).quantization
    assert record is not None
    assert record.calibration is not None
    assert (record.form, record.passed, record.calibration.pictures) == ("coremltools", True, MINIMUM)
    (rung,) = record.rungs
    assert (rung.name, rung.speed, rung.here, rung.failures) == (record.chosen, None, None, ())
    assert rung.accuracy is not None
    assert 0 < rung.accuracy.mean_difference < 0.1
    told = (made / "told.txt").read_text().splitlines()
    assert any(text.endswith(f"measuring ranges: {MINIMUM} of {MINIMUM}, 0 s left") for text in told)
    assert any(text.endswith(f"{rung.name}: passed") for text in told)  # and no word of a speed
    assert not list(made.glob(".*"))


@elsewhere
@pytest.mark.full
def test_verify_interprets_it(made, capsys):
    assert main(["verify", str(made / TARGET), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["artefacts"]
    assert (found["status"], found["engine"]["device"]) == ("passed", "program")


@pytest.mark.parametrize("arch", ["mobile", *(pytest.param(a, marks=pytest.mark.full) for a in ARCHS if a != "mobile")])
def test_parts_are_those_of_onnx(arch, tmp_path):
    """So that the ranking is one for all formats."""
    session = ExportSession(ExportRequest((TARGET,), tmp_path, arch=arch, width=SIDE, height=SIDE))
    found = activations.parts_of(session.program)
    assert set(found) - {""} == set(qdq.parts_of(session.graph))
    nodes = [node for part in found.values() for node in part]
    assert sorted(nodes) == sorted(node.name for node in session.program.graph.nodes if node.op == "call_function")


@elsewhere
@pytest.mark.full
@pytest.mark.parametrize("arch", ARCHS)
def test_every_network_is_quantised(arch, pictures, tmp_path):
    """With stand-in weights, whose mattes prove nothing: the parity gate tells a sound program from a broken one."""
    line_of = line(tmp_path, pictures, "--arch", arch, "--standin", "--max-drop", "9", "--attempts", "1")
    done = subprocess.run(
        [sys.executable, "-m", "p3m_edge", *line_of], capture_output=True, text=True, timeout=1200, check=False
    )
    assert done.returncode == 0, done.stderr
    record = manifests.read(tmp_path / TARGET)
    package = tmp_path / TARGET / record.model_file
    operators = Interpreter(read(package)).operators
    assert operators["quantize"] > 100
    size = sum(path.stat().st_size for path in package.rglob("*") if path.is_file())
    assert size < 1.15 * record.model.parameters


def test_pictures_that_are_too_few(pictures, tmp_path, capsys):
    assert main(line(tmp_path / "out", pictures, "--calib", str(pictures / "few"))) == 1
    assert f"at least {MINIMUM}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_the_converter_raises_decides_whether_another_way_may_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for error, kind in (("RuntimeWarning", UnfitError), ("ValueError", P3MEdgeError)):
        code = "from p3m_edge.workers.child import serve\ndef convert(order: dict):\n"
        code += f"    raise {error}('a reason')\nserve({{'convert': convert}})\n"
        (tmp_path / f"raising_{error}.py").write_text(code)
        with pytest.raises(P3MEdgeError, match=f"it cannot convert that: {error}: a reason") as caught:
            run_converter(f"raising_{error}", {}, "it", "that")
        assert type(caught.value) is kind


@elsewhere
@pytest.mark.full
def test_the_same_line_goes_on_after_ctrl_c(pictures, tmp_path):
    """Nothing but the attempts is left; ranges and attempts are not made again."""
    command = [sys.executable, "-m", "p3m_edge", *line(tmp_path, pictures, "--standin", "--arch", "mobile")]
    command += ["--max-drop", "0", "--attempts", "4", "--json"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for text in process.stderr:
            if "attempt 2: " in text:
                process.send_signal(signal.SIGINT)
                break
        process.stderr.read()
        assert process.wait(60) == 130
    attempts = tmp_path / f".{TARGET}.attempts"
    assert list(tmp_path.iterdir()) == [attempts]
    before = msgspec.json.decode((attempts / "attempts.json").read_bytes())["rungs"]
    ranges = (attempts / "program-ranges.json").stat().st_mtime_ns
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 3, done.stderr
    assert "goes on after 1 attempts" in done.stderr
    assert "measuring ranges: " not in done.stderr  # but those of the ONNX graph, by which parts are ranked
    record = json.loads(done.stdout)["results"][0]["quantization"]
    assert record["rungs"][:1] == before
    assert (attempts / "program-ranges.json").stat().st_mtime_ns == ranges
    kept = [rung for rung in record["rungs"] if rung["fp32"]]
    assert kept
    for rung in kept:
        assert rung["name"].endswith("in half precision")
        assert rung["bytes"] > record["rungs"][0]["bytes"]  # their weights have 16 bits
