"""A Core ML artefact bundled, measured on what says to be a Mac, and its result brought back into the manifest.

No Mac has a part in this: behind coremltools' interface stands ONNX Runtime (``helpers/mac``). All else is real.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from p3m_edge import manifest as manifests
from p3m_edge.benchmarks.device.bundle import make_bundle
from p3m_edge.benchmarks.report import files, schema
from p3m_edge.benchmarks.report.schema import BenchmarkReport, MeasureOptions
from p3m_edge.benchmarks.rows import artefact_rows
from p3m_edge.cli import main
from p3m_edge.runtimes import golden
from tests.artefacts import make_artefact, rehash, scale_constant

MAC = Path(__file__).parent / "helpers" / "mac"
UNITS = ("CPU", "GPU", "NE", "ALL")
OPTIONS = MeasureOptions(rounds=3, iterations=1, warmup=0, frame_width=64, frame_height=48, throughput=False)
pytestmark = pytest.mark.skipif(sys.platform == "darwin", reason="here, Core ML itself would be at work")


def run_bundle(bundle: Path, *arguments: str, mac: bool = True) -> subprocess.CompletedProcess[str]:
    paths = [str(MAC)] if mac else []
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, str(bundle / "run_bench.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=300)


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unchanged by every test; for the graphics processor there is no compute plan."""
    made = make_artefact(tmp_path_factory.mktemp("artefacts") / "coreml-fp32", "coreml", (32, 32), level="program")
    (made / "model.mlpackage" / "CPU_AND_GPU.no-plan").touch()
    rehash(made)
    return made


@pytest.fixture(scope="module")
def bundle(artefact: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundles") / "bundle", artefact_rows([artefact]), OPTIONS)


@pytest.fixture(scope="module")
def result(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copied = shutil.copytree(bundle, tmp_path_factory.mktemp("mac") / "bundle")
    done = run_bundle(copied)
    assert done.returncode == 0, done.stderr
    assert "| coreml-fp32 NE | 15 | 12 (80.0%) | - | 3 (20.0%) | - |" in done.stdout
    assert not (copied / ".scratch").exists()
    return copied / "result.json"


@pytest.fixture
def own(artefact: Path, tmp_path: Path) -> Path:
    """A copy of the artefact, to record in."""
    return shutil.copytree(artefact, tmp_path / "own" / artefact.name)


def test_the_bundle_holds_the_package_and_what_a_mac_needs(bundle: Path, artefact: Path) -> None:
    inside = {path.relative_to(artefact) for path in artefact.rglob("*") if path.is_file()}
    home = bundle / "artefacts" / artefact.name
    assert {path.relative_to(home) for path in home.rglob("*") if path.is_file()} == inside
    needed = json.loads((bundle / "bundle.json").read_bytes())["needed"]
    assert needed["coremltools"].startswith("coremltools>=")
    assert needed["PIL"].startswith("pillow")
    assert "torch" not in needed
    text = (bundle / "README.txt").read_text(encoding="utf-8")
    assert needed["coremltools"] in text
    assert "copy this folder to a Mac" in text


def test_elsewhere_the_script_says_so_in_one_line(bundle: Path) -> None:
    done = run_bundle(bundle, mac=False)
    assert (done.returncode, done.stdout) == (4, "")
    (line,) = done.stderr.splitlines()
    assert "Apple's systems alone" in line
    assert not (bundle / "result.json").exists()


def test_each_unit_is_a_row_with_figures_and_a_plan(result: Path) -> None:
    report = files.read(result)
    assert [(row.label, row.device, row.status) for row in report.rows] == [
        (f"coreml-fp32 {unit}", unit, "ok") for unit in UNITS
    ]
    assert report.machine.system.startswith("macOS 15.1")
    for row in report.rows:
        assert row.used is not None
        assert row.used.device == row.device
        assert row.measured is not None
        assert row.measured.latency.count == 3
        assert row.parity is not None
        assert len(row.parity.items) == 2
        assert row.parity.worst == golden.worst(row.parity.items)
        assert row.placement is not None
        if row.device == "GPU":
            assert row.placement.reason == "ValueError: MLComputePlan is not supported."
            continue
        assert len(row.placement.operators) == 15
        conv = next(one for one in row.placement.operators if one.kind == "ios16.conv")
        assert (conv.name, conv.device) == ("stem", "CPU" if row.device == "CPU" else "NE")
        assert conv.cost == pytest.approx(1 / 15)
        assert "const" not in {one.kind for one in row.placement.operators}


def test_what_passed_is_recorded_and_shown(
    own: Path, result: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # else tables fold
    before = manifests.read(own)
    page = own.parent / "page.html"
    assert main(["bench", "--import", str(result), str(own), "--html", str(page)]) == 0
    assert "Off the Neural Engine" in page.read_text(encoding="utf-8")
    out, err = capsys.readouterr()
    shown = " ".join(out.split())
    assert "Compute plan" in shown
    assert "ios16.sigmoid CPU 1 (6.7%) 0 local_alpha" in shown
    assert "coreml-fp32 GPU: no compute plan: ValueError" in shown
    assert "verified on" in err
    after = manifests.read(own)
    report = files.read(result)
    assert after.verified.level == "device"
    assert after.verified.machine["system"] == report.machine.system
    assert after.verified.versions == report.machine.packages
    worst = [row.parity.worst for row in report.rows if row.parity is not None]
    assert [(unit.unit, unit.errors) for unit in after.verified.units] == list(zip(UNITS, worst, strict=True))
    assert replace(after, verified=before.verified) == before
    assert sorted(p.name for p in own.iterdir()) == ["golden.npz", "manifest.json", "model.mlpackage"]
    assert main(["inspect", str(own)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "device on" in shown
    assert "units: CPU, GPU, NE, ALL" in shown
    assert "largest errors, NE" in shown


def test_a_unit_that_computes_something_else_leaves_the_manifest(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = own / "model.mlpackage"
    model = onnx.load(package / "model.onnx")
    scale_constant("local.weight", 2.0)(model)
    onnx.save(model, package / "CPU_AND_NE.onnx")
    rehash(own)
    made = make_bundle(tmp_path / "bundle", artefact_rows([own]), OPTIONS)
    assert run_bundle(made, "--device", "NE").returncode == 3
    before = (own / manifests.MANIFEST).read_bytes()
    assert main(["bench", "--import", str(made / "result.json"), str(own)]) == 3
    assert "nothing is recorded" in " ".join(capsys.readouterr().err.split())
    assert (own / manifests.MANIFEST).read_bytes() == before


def test_what_was_not_measured_is_not_claimed(own: Path, result: Path) -> None:
    """As with ``--device NE``: the manifest names that unit alone."""
    report = files.read(result)
    (row,) = (row for row in report.rows if row.device == "NE")
    alone = result.with_name("alone.json")
    alone.write_bytes(files.encode(_report(report, replace(row, device=None))))
    assert main(["bench", "--import", str(alone), str(own)]) == 0
    assert [unit.unit for unit in manifests.read(own).verified.units] == ["NE"]


def _report(report: BenchmarkReport, row: schema.RowResult) -> BenchmarkReport:
    ranking = schema.Ranking(row.shape, ((row.label,),))
    return replace(report, rows=(row,), rankings=(ranking,))


Tree = dict[str, Any]


def _items(row: Tree, **changes: object) -> None:
    row["parity"]["items"][0].update(changes)


FORGED: dict[str, tuple[Callable[[Tree], object], str]] = {
    "figures above the limits": (lambda t: _items(t["rows"][2], local_mean=0.5), "not that of its figures"),
    "a negative error": (lambda t: _items(t["rows"][2], alpha_mean=-1e-9), "negative"),
    "worst figures made smaller": (lambda t: t["rows"][2]["parity"]["worst"].update(local_mean=0.0), "largest errors"),
    "no figures": (lambda t: t["rows"][2]["parity"].update(items=[]), "without the figures"),
    "no limits": (lambda t: t["rows"][2]["parity"].update(limits=None), "not that of its figures"),
    "wider limits": (lambda t: t["rows"][2]["parity"]["limits"].update(local_mean=0.9), "other limits"),
    "percentiles in disorder": (lambda t: t["rows"][2]["measured"]["latency"].update(p95=1e-9), "not a distribution"),
    "not a number": (lambda t: t["rows"][2]["measured"]["latency"].update(mean=None), "not a benchmark result"),
    "a load before it began": (lambda t: t["rows"][2]["measured"]["cold_start"].update(load_ms=-1.0), "load_ms"),
    "another system": (lambda t: t["machine"].update(system="Linux 6.6"), "does not run on Linux"),
    "another engine": (lambda t: t["rows"][2].update(engine="onnxruntime"), "of onnxruntime"),
    "costs that are no shares": (lambda t: t["rows"][2]["placement"]["operators"][0].update(cost=0.9), "no shares"),
    "neither plan nor reason": (lambda t: t["rows"][2]["placement"].update(operators=[]), "a reason"),
    "an unknown device": (lambda t: t["rows"][2]["placement"]["operators"][0].update(device="TPU"), "TPU"),
    "another artefact": (lambda t: t["rows"][2].update(identity="0" * 64), "another artefact"),
    "another schema": (lambda t: t.update(schema=7), "schema 7"),
}


@pytest.mark.parametrize("name", FORGED)
def test_what_contradicts_itself_is_refused(
    name: str, own: Path, result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, message = FORGED[name]
    tree = json.loads(result.read_bytes())
    change(tree)
    forged = tmp_path / "forged.json"
    forged.write_text(json.dumps(tree), encoding="utf-8")
    _refused(forged, own, message, capsys)


def test_a_cut_result_is_refused(own: Path, result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cut = tmp_path / "cut.json"
    cut.write_bytes(result.read_bytes()[:-100])
    _refused(cut, own, "not a benchmark result", capsys)


def test_an_artefact_that_changed_since_is_not_recorded(
    own: Path, result: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (own / "golden.npz").write_bytes(b"other")
    _refused(result, own, "golden.npz", capsys)


def _refused(result: Path, own: Path, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = (own / manifests.MANIFEST).read_bytes()
    assert main(["bench", "--import", str(result), str(own)]) == 5
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    assert message in line
    assert (own / manifests.MANIFEST).read_bytes() == before
