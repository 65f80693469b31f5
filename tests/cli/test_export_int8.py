"""``p3m-edge export`` of an INT8 target: options reach the manifest, and pictures that cannot be used leave nothing.

What the command line refuses by itself is in test_export.py, what INT8 is in tests/export.
"""

import json
import subprocess
import sys

import pytest

from p3m_edge.cli import main
from p3m_edge.export.calibration import MINIMUM
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


def test_the_options_reach_the_manifest(here):
    given = ("--calib", "portraits", "--measure", "held-out", "--seed", "7", "--max-drop", "9", "--qdq", "s8s8")
    line = [sys.executable, "-m", "p3m_edge", *LINE, *given, "--attempts", "1", "--json"]
    done = subprocess.run(line, capture_output=True, encoding="utf-8", timeout=600, cwd=here)
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
    assert "warning: INT8: measured with 3 pictures, fewer than 20" in done.stderr


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
