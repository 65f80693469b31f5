"""A processor quota below the number of cores, as a container has it, decides how many threads and processes work."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

from p3m_edge.resources import usable_cores
from tests.artefacts import make_artefact

ROOT = Path(__file__).parents[2]
ENGINES: list[Literal["onnxruntime", "openvino"]] = ["onnxruntime", "openvino"]
LAYOUT = "echo 150000 100000 >/sys/fs/cgroup/cpu.max"
"""Other ones: tests/core/test_resources.py."""
CODE = """
import importlib.util, json, os, sys
import cv2
from p3m_edge.cli import main
from p3m_edge.benchmarks.fingerprint import fingerprint
from p3m_edge.benchmarks.measure import with_threads
from p3m_edge.benchmarks.report.schema import MeasureOptions
from p3m_edge.data.parallel import parallel_map
from p3m_edge.runtimes import Matting

def process(_): return os.getpid()

if __name__ == "__main__":
    folder = os.path.join(sys.argv[1], "onnxruntime")
    assert main(["run", folder, "nothing.png", "--out", os.path.join(sys.argv[1], "out")]) == 1
    found = {"fingerprint": fingerprint().usable_cores, "opencv": cv2.getNumThreads()}
    found["bench"] = with_threads(MeasureOptions()).threads
    found["processes"] = len({*parallel_map(process, range(40)), os.getpid()})
    for engine in ("onnxruntime", "openvino"):
        for hint in ("latency", "throughput"):
            with Matting(os.path.join(sys.argv[1], engine), hint=hint, cache=False) as matting:
                found[f"{engine}, {hint}"] = matting.info.engine.threads
    with Matting(os.path.join(sys.argv[1], "openvino"), threads=2, cache=False) as matting:
        found["as asked"] = matting.info.engine.threads
    if importlib.util.find_spec("torch"):
        import torch
        found["torch"] = torch.get_num_threads()
    print(json.dumps(found))
"""


def test_a_quota_decides_everywhere(tmp_path: Path) -> None:
    """In a mount namespace of its own, with the files of a group that may use one and a half cores."""
    pytest.importorskip("onnx")
    if usable_cores() < 2:
        pytest.skip("one core is all there is")
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("no mount namespaces here")
    for engine in ENGINES:
        pytest.importorskip(engine)
        make_artefact(tmp_path / engine, engine)
    script = tmp_path / "quota.py"
    script.write_text(CODE)
    start = shlex.join([sys.executable, str(script), str(tmp_path)])
    inside = f"set -e; mount -t tmpfs tmpfs /sys/fs/cgroup; {LAYOUT}; {start}"
    environment = {name: value for name, value in os.environ.items() if not name.endswith(("_THREADS", "_THREADS_NUM"))}
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", inside], capture_output=True, text=True, check=False,
        env={**environment, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found.pop("as asked") == 2
    assert found == dict.fromkeys(found, 1)
