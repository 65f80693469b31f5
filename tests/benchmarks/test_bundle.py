"""A bundle: made here, run as on another machine, and its result brought back."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

import p3m_edge
from p3m_edge.benchmarks.device.bundle import make_bundle
from p3m_edge.benchmarks.device.results import import_results
from p3m_edge.benchmarks.device.run import read_plan
from p3m_edge.benchmarks.report import files
from p3m_edge.benchmarks.report.schema import MeasureOptions
from p3m_edge.benchmarks.rows import ArtefactRow, artefact_rows
from p3m_edge.errors import ArtefactError, InputError, OutputError, UsageError
from tests.artefacts import make_artefact, rehash, scale_constant

OPTIONS = MeasureOptions(rounds=2, iterations=1, warmup=0, frame_width=64, frame_height=48)


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    home = tmp_path_factory.mktemp("artefacts")
    return make_artefact(home / "plain", size=(32, 32)), make_artefact(home / "vino", "openvino", size=(32, 32))


@pytest.fixture(scope="module")
def bundle(artefacts: tuple[Path, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundles") / "bundle", artefact_rows(artefacts), OPTIONS)


def _run(bundle: Path, elsewhere: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the script as a stranger would: from another folder, isolated, where importing torch is an error."""
    (elsewhere / "path").mkdir(parents=True)
    (elsewhere / "path" / "torch.py").write_text("raise AssertionError('torch was imported')\n", encoding="utf-8")
    (elsewhere / "home").mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "P3M_"))}
    environment |= {"PYTHONPATH": str(elsewhere / "path"), "HOME": str(elsewhere / "home")}
    command = [sys.executable, "-I", str(bundle / "run_bench.py"), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=elsewhere, env=environment, timeout=300
    )


@pytest.fixture(scope="module")
def result(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The result of the bundle, run on a copy of it."""
    home = tmp_path_factory.mktemp("device")
    copied = shutil.copytree(bundle, home / "bundle")
    before = {path.relative_to(copied) for path in copied.rglob("*")}
    done = _run(copied, home / "elsewhere", "--threads", "1")
    assert done.returncode == 0, done.stderr
    assert "| plain |" in done.stdout
    after = {path.relative_to(copied) for path in copied.rglob("*")}
    assert after - before == {Path("result.json")}
    left = {path.relative_to(home / "elsewhere") for path in (home / "elsewhere").rglob("*")}
    assert left == {Path("path"), Path("home"), Path("path/torch.py")}
    return copied / "result.json"


def test_it_holds_what_is_needed_and_no_torch(bundle: Path, artefacts: tuple[Path, ...]) -> None:
    names = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    inside = {f"artefacts/{a.name}/{p.name}" for a in artefacts for p in a.iterdir()}
    assert names == {"run_bench.py", "README.txt", "bundle.json", "p3m_edge.zip"} | inside
    for artefact in artefacts:
        for path in artefact.iterdir():
            assert (bundle / "artefacts" / artefact.name / path.name).read_bytes() == path.read_bytes()
    needed = json.loads((bundle / "bundle.json").read_bytes())["needed"]
    assert {"numpy", "cv2", "filelock", "PIL", "onnxruntime", "openvino"} <= needed.keys()
    assert "torch" not in needed
    text = "".join((bundle / name).read_text(encoding="utf-8") for name in ("README.txt", "bundle.json"))
    assert str(bundle.parent) not in text
    assert str(artefacts[0].parent) not in text


def test_it_holds_the_whole_package_and_that_can_be_imported_alone(bundle: Path, tmp_path: Path) -> None:
    packed = bundle / "p3m_edge.zip"
    root = Path(p3m_edge.__file__).parent
    files_here = {path.relative_to(root.parent).as_posix() for path in root.rglob("*") if path.is_file()}
    with zipfile.ZipFile(packed) as archive:
        assert archive.testzip() is None
        names = set(archive.namelist())
    assert names == {name for name in files_here if "__pycache__" not in name}
    assert "p3m_edge/py.typed" in names
    needed = json.loads((bundle / "bundle.json").read_bytes())["needed"]
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); own = sys.argv[2:]\n"
        "class Bare:\n"  # a Python that has only what the bundle asks for
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] not in {*own, 'p3m_edge', *sys.stdlib_module_names}:\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Bare())\n"
        "import p3m_edge.runtimes, p3m_edge.benchmarks.worker, p3m_edge.imageio, p3m_edge.benchmarks.device.run as r\n"
        "assert r.__file__.startswith(sys.argv[1]); print('torch' in sys.modules)"
    )
    command = [sys.executable, "-I", "-c", script, str(packed), *needed]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.stdout.strip(), done.stderr) == ("False", "")


def test_its_script_can_be_parsed_by_old_pythons() -> None:
    import ast

    from p3m_edge.benchmarks.device import run_bench

    ast.parse(Path(run_bench.__file__).read_text(encoding="utf-8"), feature_version=(3, 7))


def test_the_result_comes_back(result: Path, artefacts: tuple[Path, ...]) -> None:
    (found,) = import_results([result], artefacts)
    assert found == files.read(result)
    assert [(row.label, row.status) for row in found.rows] == [("plain", "ok"), ("vino", "ok")]
    assert all(row.parity is not None and row.parity.passed for row in found.rows)
    assert found.options == replace(OPTIONS, threads=1)
    assert import_results([result], []) == (found,)
    text = result.read_text(encoding="utf-8")
    assert str(result.parent.parent) not in text


def test_a_result_about_other_artefacts_is_refused(result: Path, artefacts: tuple[Path, ...], tmp_path: Path) -> None:
    other = make_artefact(tmp_path / "other", size=(32, 32), seed=5)
    with pytest.raises(ArtefactError, match="vino"):
        import_results([result], [artefacts[0], other])


def test_a_result_given_twice_missing_or_torn_is_refused(result: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="given already"):
        import_results([result, result], [])
    with pytest.raises(InputError, match="cannot be read"):
        import_results([tmp_path / "none.json"], [])
    torn = tmp_path / "torn.json"
    torn.write_bytes(result.read_bytes()[:500])
    with pytest.raises(ArtefactError, match=r"torn\.json"):
        import_results([torn], [])


def test_reports_within_reports_are_unfolded(result: Path, tmp_path: Path) -> None:
    found = files.read(result)
    nested = replace(found, created="2026-01-01T00:00:00+00:00", imported=(found,))
    path = tmp_path / "report.json"
    path.write_bytes(files.encode(nested))
    assert import_results([path], []) == (replace(nested, imported=()), found)


def test_a_failed_self_test_on_the_device_is_exit_code_3(tmp_path: Path) -> None:
    wrong = make_artefact(tmp_path / "wrong", size=(32, 32), breaking=scale_constant("stem.weight", 2.0))
    made = make_bundle(tmp_path / "bundle", artefact_rows([wrong]), OPTIONS)
    done = _run(made, tmp_path / "elsewhere")
    assert done.returncode == 3
    assert files.read(made / "result.json").rows[0].status == "parity-failed"


def test_the_script_says_what_is_wrong(bundle: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(bundle, tmp_path / "bundle")
    plan = json.loads((copied / "bundle.json").read_bytes())
    plan["needed"]["engine_of_tomorrow"] = "engine-of-tomorrow>=3"
    (copied / "bundle.json").write_text(json.dumps(plan), encoding="utf-8")
    done = _run(copied, tmp_path / "a")
    assert done.returncode == 4
    assert 'pip install "engine-of-tomorrow>=3"' in done.stderr
    (copied / "bundle.json").write_text("{", encoding="utf-8")
    done = _run(copied, tmp_path / "b")
    assert done.returncode == 5
    assert "copy the bundle again" in done.stderr
    shutil.copyfile(bundle / "bundle.json", copied / "bundle.json")
    with (copied / "artefacts" / "plain" / "golden.npz").open("ab") as stream:
        stream.write(b"x")
    done = _run(copied, tmp_path / "c")
    assert done.returncode == 5
    assert "golden.npz" in done.stderr
    assert not (copied / "result.json").exists()


def test_an_exchanged_artefact_is_noticed(bundle: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(bundle, tmp_path / "bundle")
    golden = copied / "artefacts" / "plain" / "golden.npz"
    golden.write_bytes(golden.read_bytes() + b"x")
    rehash(golden.parent)
    with pytest.raises(ArtefactError, match="not the artefact that was bundled"):
        read_plan(copied)


def test_a_folder_in_use_and_damaged_artefacts_are_refused(artefacts: tuple[Path, ...], tmp_path: Path) -> None:
    rows = artefact_rows(artefacts)
    used = tmp_path / "used"
    used.mkdir()
    (used / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match="not an empty folder"):
        make_bundle(used, rows, OPTIONS)
    with pytest.raises(UsageError, match="at least one artefact"):
        make_bundle(tmp_path / "none", [], OPTIONS)
    with pytest.raises(UsageError, match="share a folder"):
        make_bundle(tmp_path / "same", [ArtefactRow("a b", artefacts[0]), ArtefactRow("a_b", artefacts[1])], OPTIONS)
    torn = shutil.copytree(artefacts[0], tmp_path / "torn")
    (torn / "model.onnx").write_bytes(b"")
    with pytest.raises(ArtefactError, match=r"model\.onnx"):
        make_bundle(tmp_path / "broken", artefact_rows([torn]), OPTIONS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["torn", "used"]
    empty = tmp_path / "empty"
    empty.mkdir()
    assert make_bundle(empty, rows[:1], OPTIONS) == empty
    assert (empty / "run_bench.py").is_file()
