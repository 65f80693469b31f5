"""LiteRT artefacts on Android: the bundle's script with stand-ins for adb and LiteRT's tool, and the way back.

No device takes part. The stand-in of ``benchmark_model`` computes with LiteRT, writes its outputs as the tool does, and
prints ``PRINTED``, which is written here in the form that the tool is documented to have.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from p3m_edge.benchmarks.device import android
from p3m_edge.benchmarks.device.bundle import make_bundle
from p3m_edge.benchmarks.device.results import import_results
from p3m_edge.benchmarks.report import files
from p3m_edge.benchmarks.report.schema import MeasureOptions
from p3m_edge.benchmarks.rows import artefact_rows
from p3m_edge.errors import ArtefactError, InputError
from tests.artefacts import make_artefact

pytest.importorskip("ai_edge_litert")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the script is for sh")

PRINTED = """\
INFO: STARTING!
INFO: Log parameter values verbosely: [0]
INFO: Min num runs: [1]
INFO: Num threads: [2]
INFO: Graph: [/data/local/tmp/p3m-edge/0.tflite]
INFO: #threads used for CPU inference: [2]
INFO: Use xnnpack: [1]
INFO: Loaded model /data/local/tmp/p3m-edge/0.tflite
INFO: Explicitly applied XNNPACK delegate, and the model graph will be completely executed by the delegate.
INFO: The input model file size (MB): 13.6952
INFO: Initialized session in 25.345ms.
INFO: Running benchmark for at least 1 iterations and at least 0 seconds but terminate if exceeding 150 seconds.
INFO: count=1 curr=41233 p5=41233 median=41233 p95=41233

INFO: Running benchmark for at least 1 iterations and at least 0 seconds but terminate if exceeding 150 seconds.
INFO: count=5 first=36100 curr=36212 min=35821 max=37112 avg=36199.3 std=243 p5=35821 median=36180 p95=37112

INFO: Inference timings in us: Init: 25345, First inference: 41233, Warmup (avg): 41233, Inference (avg): 36199.3
INFO: Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE to the actual \
memory footprint of the model at runtime. Take the information at your discretion.
INFO: Memory footprint delta from the start of the tool (MB): init=13.25 overall=25.5
"""
ADB = """\
#!/bin/sh
set -eu
there() { echo "$1" | sed "s|/data/local/tmp|$DEVICE|g"; }
case "$*" in
    "shell getprop ro.product.manufacturer") echo Example ;;
    "shell getprop ro.product.model") echo Phone 8 ;;
    "shell getprop ro.soc.model") echo SM0000 ;;
    "shell getprop ro.build.version.release") echo 16 ;;
    "shell uname -m") echo aarch64 ;;
    "shell nproc") echo 8 ;;
    "shell cat /proc/meminfo") printf 'MemTotal:        7800000 kB\\nMemFree: 1 kB\\n' ;;
    shell*) shift; sh -c "$(there "$*")" ;;
    pull*) cp "$(there "$2")" "$3" ;;
    push*) shift; for last; do :; done
        while [ $# -gt 1 ]; do cp "$1" "$(there "$last")"; shift; done ;;
esac
"""
TOOL = f"""\
#!{sys.executable}
import os, re, sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter
given = dict(word.removeprefix("--").split("=", 1) for word in sys.argv[1:])
interpreter = Interpreter(given["graph"])
interpreter.allocate_tensors()
(entry,) = interpreter.get_input_details()
picture = np.fromfile(given["input_layer_value_files"].removeprefix("image:"), np.uint8)
interpreter.set_tensor(entry["index"], picture.reshape([int(side) for side in given["input_layer_shape"].split(",")]))
interpreter.invoke()
with open(given["output_filepath"], "wb") as out:
    for each in interpreter.get_output_details():
        out.write(interpreter.get_tensor(each["index"]).tobytes())
print({PRINTED!r})
"""
OPTIONS = MeasureOptions(rounds=3, iterations=1, warmup=0)


@pytest.fixture(scope="module")
def artefact(tmp_path_factory):
    return make_artefact(tmp_path_factory.mktemp("artefacts") / "phone", "litert", (32, 32))


@pytest.fixture(scope="module")
def result(artefact, tmp_path_factory):
    """What the script of a bundle writes."""
    home = tmp_path_factory.mktemp("android")
    plain = make_artefact(home / "plain", size=(32, 32))
    bundle = make_bundle(home / "bundle", artefact_rows([plain, artefact]), OPTIONS)
    assert android.SCRIPT in (bundle / "README.txt").read_text(encoding="utf-8")
    (home / "bin").mkdir()
    (home / "device").mkdir()
    for path, text in ((home / "bin" / "adb", ADB), (home / "benchmark_model", TOOL)):
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)
    environment = os.environ | {"PATH": f"{home / 'bin'}:{os.environ['PATH']}", "DEVICE": str(home / "device")}
    command = ["sh", str(bundle / android.SCRIPT), str(home / "benchmark_model"), "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=300, cwd=home)
    assert done.returncode == 0, done.stderr
    assert not list((home / "device").iterdir())
    return bundle / android.RESULT


def test_a_bundle_without_litert_has_no_script(tmp_path):
    plain = make_artefact(tmp_path / "plain", size=(32, 32))
    bundle = make_bundle(tmp_path / "bundle", artefact_rows([plain]), OPTIONS)
    assert not (bundle / android.SCRIPT).exists()
    assert "adb" not in (bundle / "README.txt").read_text(encoding="utf-8")


def test_the_result_comes_back(result, artefact, tmp_path):
    (found,) = import_results([result], [artefact])
    (row,) = found.rows
    assert (row.label, row.status, found.machine.name) == ("phone", "ok", "Example Phone 8")
    assert (found.machine.system, found.machine.memory_bytes) == ("Android 16", 7800000 * 1024)
    assert row.parity is not None
    assert row.parity.passed
    assert row.parity.items
    assert row.measured is not None
    assert row.measured.latency.rounds == (36.18,) * 3
    start, memory = row.measured.cold_start, row.measured.memory
    assert (start.load_ms, start.first_ms) == (25.345, 41.233)
    assert (memory.cold, memory.running) == (13.25 * 2**20, 25.5 * 2**20)
    assert "benchmark_model" in found.conditions.warnings[0]
    (tmp_path / "report.json").write_bytes(files.encode(found))
    assert files.read(tmp_path / "report.json") == found


def repacked(result: Path, out: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """A copy of an archive; a file for which there is None is left out."""
    with tarfile.open(result) as archive, tarfile.open(out, "w") as copy:
        for member in archive:
            content = archive.extractfile(member)
            changed = None if content is None else change(member.name.removeprefix("./"), content.read())
            if changed is not None:
                member.size = len(changed)
                copy.addfile(member, io.BytesIO(changed))
    return out


def test_a_wrong_matte_is_not_a_result(result, artefact, tmp_path):
    def wrong(name: str, content: bytes) -> bytes:
        return (1 - np.frombuffer(content, "<f4")).tobytes() if name == "0-0.f32" else content

    changed = repacked(result, tmp_path / "android.tar", wrong)
    (found,) = import_results([changed], [artefact])
    assert (found.rows[0].status, found.rows[0].measured, found.rankings) == ("parity-failed", None, ())
    assert "golden 0" in str(found.rows[0].reason)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda name, content: None if name == "device.txt" else content, "'device.txt' is missing"),
        (lambda name, content: None if name == "0-0.f32" else content, "'0-0.f32' is missing"),
        (lambda name, content: content[:100] if name == "0-0.f32" else content, "25 values instead of"),
        (lambda name, content: content[:400] if name == "0-0.log" else content, "did not print First inference, Init"),
        (lambda name, content: None if name.endswith(".log") else content, "no run"),
        (lambda name, content: content.replace(b"cores=8", b"cores=x"), "'x'"),
    ],
)
def test_what_is_no_whole_result_is_refused(change, message, result, artefact, tmp_path):
    changed = repacked(result, tmp_path / "android.tar", change)
    with pytest.raises(ArtefactError, match=message) as caught:
        import_results([changed], [artefact])
    assert "\n" not in str(caught.value)


def test_what_is_no_archive_is_refused(result, artefact, tmp_path):
    for number, content in enumerate([b"", b"no archive" * 100, result.read_bytes()[:1500]]):
        (tmp_path / f"{number}.tar").write_bytes(content)
        with pytest.raises(ArtefactError, match="tar"):
            import_results([tmp_path / f"{number}.tar"], [artefact])
    for path in (tmp_path / "none.tar", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            android.read(path, [artefact])


def test_an_archive_of_more_than_a_result_has_is_refused(result, artefact, monkeypatch):
    with tarfile.open(result) as archive:
        sizes = [member.size for member in archive]
    monkeypatch.setattr(android, "_MOST", sum(sizes))
    assert import_results([result], [artefact])
    monkeypatch.setattr(android, "_MOST", max(sizes))  # each file alone would do
    with pytest.raises(ArtefactError, match="unpacks to more than"):
        import_results([result], [artefact])


def test_another_artefact_is_refused(result, artefact, tmp_path):
    other = make_artefact(tmp_path / "other", "litert", (32, 32), seed=5)
    for given in ([], [other]):
        with pytest.raises(ArtefactError, match="an artefact that is not given"):
            import_results([result], given)


def test_the_script_is_one_of_plain_sh(artefact, tmp_path):
    bundle = make_bundle(tmp_path / "bundle", artefact_rows([artefact]), OPTIONS)
    shell = shutil.which("dash") or "sh"
    done = subprocess.run([shell, str(bundle / android.SCRIPT)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "usage: sh run_android.sh BENCHMARK_MODEL" in done.stderr
