"""``p3m-edge export`` of an INT8 target: options reach the manifest, and pictures that cannot be used leave nothing.

What the command line refuses by itself is in test_export.py, what INT8 is in tests/export.
"""

import json

import msgspec
import pytest

from p3m_edge.cli import main
from p3m_edge.cli.ui.quantization import advice
from p3m_edge.export import ExportResult
from p3m_edge.export.calibration import MINIMUM
from p3m_edge.manifest_schema import AccuracyRecord, AttemptRecord, ParityRecord, PicturesRecord, QuantizationRecord
from p3m_edge.targets import INT8
from tests.artefacts import edit_manifest, make_artefact
from tests.portraits import portrait, write_set

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

LINE = ["export", "--target", "onnx-int8", "--size", "64x64", "--out", "out", "--calib-count", str(MINIMUM)]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working directory, with the sets ``portraits``, ``held-out`` and ``few``."""
    write_set(tmp_path / "portraits", [portrait(seed=i) for i in range(MINIMUM)])
    write_set(tmp_path / "held-out", [portrait(seed=MINIMUM + i) for i in range(3)])
    write_set(tmp_path / "few", [portrait(seed=i) for i in range(MINIMUM - 1)])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_options_reach_the_manifest(here, command_line):
    given = ("--calib", "portraits", "--measure", "held-out", "--seed", "7", "--max-drop", "9", "--qdq", "s8s8")
    done = command_line(*LINE, *given, "--attempts", "1", "--json")
    document = json.loads(done.stdout)
    (result,) = document["results"]
    passed = result["status"] == "verified"
    assert done.returncode == (0 if passed else 3)
    assert ("error" in document) != passed
    record = json.loads((here / result["folder"] / "manifest.json").read_text(encoding="utf-8"))["quantization"]
    assert record == result["quantization"]
    assert (record["form"], record["max_drop"], len(record["rungs"])) == ("s8s8", 9, 1)
    pictures = [record[name] for name in ("calibration", "measuring")]
    assert [(one["source"], one["pictures"], one["seed"]) for one in pictures] == [
        ("portraits", MINIMUM, 7), ("held-out", 3, 7),
    ]  # fmt: skip
    assert "warning: measured with 3 pictures, fewer than 20" in done.stderr


@pytest.mark.parametrize(
    ("calibration", "measuring", "code", "message"),
    [
        ("portraits", "portraits", 2, "32 pictures of the measuring set are calibrated with as well"),
        ("few", "held-out", 1, "few has 31 different pictures that can be used, and calibration takes at least 32"),
        ("portraits", "nowhere", 1, "nowhere"),
    ],
)
def test_pictures_that_cannot_be_used(here, capsys, calibration, measuring, code, message):
    assert main([*LINE, "--calib", calibration, "--measure", measuring]) == code
    shown = capsys.readouterr()
    (error,) = [line for line in shown.err.splitlines() if line.startswith("error: ")]
    assert message in error
    assert "Traceback" not in shown.err
    assert shown.out == ""
    assert not list(here.rglob("*int8*"))


@pytest.mark.parametrize(
    ("target", "passed", "speed", "said"),
    [
        ("openvino-int8", True, (1.3, 1.2, 1.4), ""),
        ("openvino-int8", True, (1.7, 0.8, 3.2), "too busy to tell whether it pays"),
        ("openvino-int8", True, (1.06, 1.04, 1.1), "it does not pay; use openvino-fp16"),
        ("onnx-int8", True, (0.79, 0.74, 0.81), "it does not pay; use onnx-fp16"),
        ("onnx-int8", False, (0.79, 0.74, 0.81), ""),  # rejected: there is nothing to advise against
        ("coreml-w8a8", True, None, ""),
    ],
)
def test_what_does_not_pay_is_said(target, passed, speed, said, tmp_path):
    pictures = PicturesRecord("files", "portraits", 40, "0" * 64, 0)
    accuracy = AccuracyRecord(5.0, 5.0, 0.0, 0.001, 0.0, 0.0)
    rung = AttemptRecord("default", "", accuracy, () if passed else ("SAD rises",), None, speed, 1, 1.0)
    record = QuantizationRecord("nncf", pictures, pictures, 0.05, (rung,), "default", passed)
    parity = ParityRecord(passed, INT8, ())
    result = ExportResult(target, tmp_path, "verified" if passed else "rejected", 1, parity, (), record)
    remarks = list(advice([result]))
    assert len(remarks) == bool(said)
    assert all(said in remark for remark in remarks)


def test_inspect_shows_the_attempts(tmp_path, capsys, monkeypatch):
    """With what the gate judged; manifests from before the clips have no dtSSD, and are read and shown all the same."""
    monkeypatch.setenv("COLUMNS", "160")  # the table is wide
    pictures = PicturesRecord("files", "portraits", 40, "0" * 64, 0)
    accuracy = AccuracyRecord(5.0, 5.0, 0.0125, 0.001, 0.0, 0.0, -0.021, 0.033, 1.2, 1.0, 0.2)
    failure = "dtSSD rises by 20.0%, allowed are 10.0%"
    rung = AttemptRecord("default", "", accuracy, (failure,), None, (1.3, 1.2, 1.4), 1, 1.0)
    made = QuantizationRecord("nncf", pictures, pictures, 0.05, (rung,), "default", False)
    record = json.loads(msgspec.json.encode(made))
    folder = make_artefact(tmp_path / "renamed", "openvino")
    edit_manifest(folder, quantization=record)
    assert main(["inspect", str(folder), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["status"] == "rejected"
    assert shown["manifest"]["quantization"] == record
    assert main(["inspect", str(folder)]) == 0
    text = capsys.readouterr().out
    for part in ("of dtSSD", "+1.2%", "-2.1%", "+3.3%", "+20.0%", f"failed: default: {failure}"):
        assert part in text
    for name in ("dtssd", "float_dtssd", "dtssd_rise"):
        del record["rungs"][0]["accuracy"][name]
    edit_manifest(folder, quantization=record)
    assert main(["inspect", str(folder)]) == 0
    assert "+20.0%" not in capsys.readouterr().out.replace(failure, "")
