"""``p3m-edge run`` without an artefact: made once from the weights of the package, by real processes, and kept; where
that cannot be, the package's own one.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from p3m_edge import imageio, manifest, shipped
from p3m_edge.cli import main
from p3m_edge.runtimes import default
from tests.artefacts import picture

for package in ("torch", "onnxscript", "onnxruntime", "openvino"):
    pytest.importorskip(package)

SIZE = ("--size", "64x64")


def command(*arguments: object, hidden: tuple[str, ...] = ()) -> list[str]:
    """The command line, in a process where some packages cannot be imported."""
    code = f"import sys; sys.modules.update(dict.fromkeys({hidden!r})); from p3m_edge.cli import main; sys.exit(main())"
    return [sys.executable, "-c", code, "run", *map(str, arguments)]


@pytest.fixture
def here(command_line, monkeypatch):
    """The command line in this process, with all that is installed."""

    def call(cache: Path, *arguments: object):
        monkeypatch.setenv("P3M_EDGE_CACHE", str(cache))
        done = command_line("run", *arguments, *SIZE, "--json")
        return done.returncode, json.loads(done.stdout), done.stderr

    return call


def run(cache: Path, *arguments: object, hidden: tuple[str, ...] = (), size: tuple[str, ...] = SIZE, **options: Any):
    environment = os.environ | {"P3M_EDGE_CACHE": str(cache)}
    words = command(*arguments, *size, "--json", hidden=hidden)
    done = subprocess.run(words, env=environment, capture_output=True, encoding="utf-8", timeout=300, **options)
    return done.returncode, json.loads(done.stdout), done.stderr


def exports(stderr: str) -> int:
    """How many artefacts were made."""
    return stderr.count("] seal: ")


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    path: Path = tmp_path_factory.mktemp("source") / "a.png"
    imageio.write_png(path, picture(40, 60))
    return path


@pytest.fixture(scope="module")
def first(source, tmp_path_factory):
    """The cache after two first runs at once, and what they said; tests must not change it."""
    folder = tmp_path_factory.mktemp("first")
    environment = os.environ | {"P3M_EDGE_CACHE": str(folder / "cache")}
    processes = [
        subprocess.Popen(
            command(source, "--out", folder / f"out{index}", *SIZE, "--json"),
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
        )
        for index in range(2)
    ]  # fmt: skip
    answers = [process.communicate(timeout=300) for process in processes]
    codes = [process.returncode for process in processes]
    return folder / "cache", [(code, json.loads(out), err) for code, (out, err) in zip(codes, answers, strict=True)]


@pytest.fixture
def cache(first, tmp_path) -> Path:
    """A copy of that cache."""
    return Path(shutil.copytree(first[0], tmp_path / "cache"))


def artefact(cache: Path) -> Path:
    (found,) = cache.glob("artefacts/*/openvino-fp32")
    return found


def test_the_first_run_exports_the_weights_of_the_package(first):
    cache, answers = first
    code, report, stderr = max(answers, key=lambda answer: exports(answer[2]))
    assert code == 0, stderr
    assert exports(stderr) == 1
    assert stderr.count(str(artefact(cache))) == 1
    assert (report["artefact"], report["target"]) == (str(artefact(cache)), "openvino-fp32")
    assert [report[name] for name in ("trained", "done", "failed")] == [True, 1, 0]
    assert [Path(path).name for path in report["pictures"][0]["outputs"]] == ["a.alpha.png", "a.cutout.png"]
    made, weights = manifest.read(artefact(cache)), shipped.read_header()
    assert (made.model.arch, made.input.width, made.input.height) == ("mobile", 64, 64)
    assert made.model.checkpoint_sha256 == manifest.sha256(shipped.weights_path())
    assert (made.model.licence, made.model.provenance) == (weights.licence, weights.provenance)
    assert made.verified.level == "device"


def test_later_runs_use_it_without_torch(cache, source, tmp_path):
    code, report, stderr = run(cache, source, "--out", tmp_path / "out", hidden=("torch", "onnx"))
    assert (code, report["done"], exports(stderr)) == (0, 1, 0), stderr
    assert report["artefact"] == str(artefact(cache))


def test_everything_that_is_no_artefact_is_an_input(cache, source, tmp_path, here):
    shutil.copy(source, tmp_path / "b.png")
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(source, folder / "c.png")
    code, report, stderr = here(cache, folder, tmp_path / "b.png", "--out", tmp_path / "out", source)
    assert (code, report["done"], exports(stderr)) == (0, 3, 0), stderr
    code, report, _ = here(cache, tmp_path / "absent", source, "--out", tmp_path / "out", "--force")
    assert (code, report["done"], report["failed"]) == (1, 1, 1)
    assert report["error"]["message"] == "1 of 2 inputs failed"


def test_a_damaged_one_is_made_again(cache, source, tmp_path, here):
    (artefact(cache) / "manifest.json").unlink()
    code, _, stderr = here(cache, source, "--out", tmp_path / "out")
    assert (code, exports(stderr)) == (0, 1), stderr
    (line,) = [line for line in stderr.splitlines() if "the artefact in the cache is damaged" in line]
    assert "holds no manifest.json" in line
    manifest.check_files(manifest.read(artefact(cache)), artefact(cache))


def test_a_damaged_one_without_torch(cache, source, tmp_path):
    model = artefact(cache) / "model.bin"
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(data)
    code, document, _ = run(cache, source, "--out", tmp_path / "out", hidden=("torch",))
    assert code == document["error"]["exit_code"] == 4
    assert "model.bin was changed" in document["error"]["message"]
    assert model.read_bytes() == data


def test_without_torch_and_without_an_artefact(source, tmp_path):
    code, document, _ = run(tmp_path / "cache", source, "--out", tmp_path / "out", hidden=("torch",))
    assert code == document["error"]["exit_code"] == 4
    assert "does not exist" in document["error"]["message"]
    assert 'pip install "p3m-edge[torch]"' in document["error"]["hint"]
    assert "exported elsewhere: p3m-edge run ARTEFACT" in document["error"]["hint"]
    assert not (tmp_path / "cache").exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.full
def test_the_engine_is_one_that_is_installed(cache, source, tmp_path):
    code, report, stderr = run(cache, source, "--out", tmp_path / "out", hidden=("openvino",))
    assert (code, report["target"], exports(stderr)) == (0, "onnx-fp32", 1), stderr


def test_no_engine_is_installed(source, tmp_path):
    code, document, _ = run(tmp_path / "cache", source, "--out", tmp_path / "out", hidden=("openvino", "onnxruntime"))
    assert code == document["error"]["exit_code"] == 4
    assert document["error"]["hint"] == 'pip install "p3m-edge[onnx]"'


@pytest.mark.parametrize("hidden", [("torch", "onnx"), ("openvino",)], ids=["no torch", "no OpenVINO"])
def test_the_one_of_the_package(hidden, source, tmp_path):
    code, report, stderr = run(tmp_path / "cache", source, "--out", tmp_path / "out", hidden=hidden, size=())
    assert (code, report["done"], exports(stderr)) == (0, 1, 0), stderr
    assert (report["artefact"], report["target"], report["trained"]) == (str(default.bundled()), "onnx-fp16", True)
    assert not (tmp_path / "cache").exists()


def test_two_at_once_make_it_once(first):
    _, answers = first
    assert [(code, report["done"]) for code, report, _ in answers] == [(0, 1), (0, 1)], answers
    assert sum(exports(stderr) for _, _, stderr in answers) == 1


def test_a_cache_that_cannot_be_written(source, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("P3M_EDGE_CACHE", str(tmp_path / "file/cache"))
    code = main(["run", str(source), "--out", str(tmp_path / "out"), "--json"])
    document = json.loads(capsys.readouterr().out)
    assert code == document["error"]["exit_code"] == 1
    assert "cannot be written" in document["error"]["message"]
    assert "P3M_EDGE_CACHE" in document["error"]["hint"]
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everything")
def test_a_cache_that_may_only_be_read(source, tmp_path):
    (tmp_path / "cache").mkdir(mode=0o500)
    code, document, _ = run(tmp_path / "cache", source, "--out", tmp_path / "out")
    assert (code, "cannot be written" in document["error"]["message"]) == (1, True)


def test_nothing_is_made_for_inputs_that_do_not_exist(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("P3M_EDGE_CACHE", str(tmp_path / "cache"))
    assert main(["run", str(tmp_path / "absent.jpg"), "--out", str(tmp_path / "out")]) == 1
    shown = capsys.readouterr()
    assert "absent.jpg does not exist" in shown.err
    assert exports(shown.err) == 0
    assert not (tmp_path / "cache").exists()


def test_an_installation_without_its_weights(damaged_installation, source, tmp_path):
    arguments = ("--out", tmp_path / "out")
    code, document, _ = run(tmp_path / "cache", source, *arguments, cwd=damaged_installation)
    assert code == document["error"]["exit_code"] == 5
    assert "this installation is damaged" in document["error"]["message"]
    code, document, _ = run(tmp_path / "cache", source, *arguments, cwd=damaged_installation, size=())
    assert code == document["error"]["exit_code"] == 5
    assert "this installation is damaged" in document["error"]["message"]
