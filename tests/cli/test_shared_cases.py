"""The small scripts of ../shared/cases-bugs, one a fault: each exits 0 when the behaviour is right."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.artefacts import make_artefact
from tests.conftest import ROOT, SHARED

SCRIPTS = sorted((SHARED / "cases-bugs").glob("*.py"))
# What these find is held by tests of its own in the fast tier, which the table in docs/testing.md names.
SLOW = [script for script in SCRIPTS if re.search(r"import .*(subprocess|torch)\b", script.read_text("utf-8"))]


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    pytest.importorskip("torch", reason="torch is not installed")
    folder = tmp_path_factory.mktemp("cases")
    return {True: make_artefact(folder / "vino", "openvino"), False: make_artefact(folder / "onnx")}


@pytest.mark.skipif(not SCRIPTS, reason="../shared (reference cases, real portraits) is not here")
@pytest.mark.parametrize(
    "script", [pytest.param(path, marks=[pytest.mark.full] * (path in SLOW), id=path.stem) for path in SCRIPTS]
)
def test_the_case_is_mended(script: Path, artefacts: dict[bool, Path]) -> None:
    words, text = [sys.executable, str(script)], script.read_text("utf-8")
    if "artefact = sys.argv[1]" in text:
        words.append(str(artefacts["openvino-fp" in text]))
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"[-3000:]
