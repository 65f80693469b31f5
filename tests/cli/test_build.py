"""``p3m-edge build`` as a user meets it: built, built again, interrupted, killed, with bad input, with nothing here."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from p3m_edge import folder as folders
from p3m_edge import manifest as manifests
from p3m_edge.cli import build_parser, load, main
from p3m_edge.cli.options.export import capabilities
from p3m_edge.cli.verbs.build import Arguments
from p3m_edge.errors import OutputError, UsageError
from p3m_edge.manifest_schema import VerifiedRecord
from tests.typed import change, gpu_machine, make_typed

pytest.importorskip("onnx")
RTX = ["--flavour", "tensorrt-rtx", "--sm", "89"]
BARE = ["golden.npz", "manifest.json", "model.onnx"]
rtx = pytest.mark.skipif(find_spec("tensorrt_rtx_bindings") is None, reason="TensorRT for RTX is not installed")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "p3m_edge", "build", *arguments]


def run(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, encoding="utf-8", timeout=300, **options)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@rtx
def test_built_and_built_again(tmp_path):
    one, other = (make_typed(tmp_path / name, "fp16") for name in ("trt-fp16", "link to"))
    (tmp_path / "link").symlink_to(other)
    done = run(str(one), str(tmp_path / "link"), *RTX, "--json")
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)["results"]
    assert [Path(result["folder"]).name for result in results] == ["trt-fp16", "link"]
    for folder, result in zip((one, other), results, strict=True):
        manifest = manifests.read(folder)
        manifests.check_files(manifest, folder)
        assert manifest.engine.status == "built"
        assert result["build"] == json.loads((folder / "manifest.json").read_bytes())["engine"]["build"]
        assert result["bytes"] == (folder / "model.engine").stat().st_size
        assert result["build"]["compute_capabilities"] == ["8.9"]
    assert names(tmp_path) == ["link", "link to", "trt-fp16"]
    assert (tmp_path / "link").is_symlink()
    assert re.search(r"trt-fp16: [A-Z].*: \d+%", done.stderr)

    done = run(str(one), *RTX)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{one} has an engine" in done.stderr
    assert "--force" in done.stderr
    change(one, verified=VerifiedRecord("device", {"cpu": "other"}))
    done = run(str(one), *RTX, "--force", "--opt-level", "0")
    assert done.returncode == 0, done.stderr
    assert "not run on a device yet" in done.stdout
    manifest = manifests.read(one)
    manifests.check_files(manifest, one)
    assert manifest.engine.build is not None
    assert manifest.engine.build.level == 0
    assert manifest.verified.level == "typed"  # what was shown on a device was another engine


@rtx
def test_the_first_that_fails_ends_it_and_what_was_built_is_said(tmp_path):
    good, bad = make_typed(tmp_path / "good"), make_typed(tmp_path / "bad", "fp16", None)
    done = run(str(good), str(bad), *RTX, "--json")
    document = json.loads(done.stdout)
    assert done.returncode == document["error"]["exit_code"] == 2
    assert [Path(result["folder"]).name for result in document["results"]] == ["good"]
    assert "open size" in document["error"]["message"]
    assert names(bad) == BARE


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_interrupted_and_killed(number, tmp_path):
    calls = tmp_path / "calls"
    out = tmp_path / "out"
    folder = make_typed(out / "trt-fp16")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    process = subprocess.Popen(
        command(str(folder)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
        env=os.environ | gpu_machine("11", calls, "slow"),
    )  # fmt: skip
    try:
        assert process.stderr is not None
        next(line for line in process.stderr if "Building" in line)
        with pytest.raises(OutputError, match="another process"), folders.workspace(out, "trt-fp16", force=True):
            pass
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=300)
    finally:
        process.kill()
        process.wait()
    assert stdout == ""
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    if number == signal.SIGKILL:
        with folders.workspace(out, "trt-fp16", force=True) as partial:  # the next one takes away what is left
            assert list(partial.iterdir()) == []
    else:
        assert process.returncode == 130
        assert "interrupted" in stderr
        assert "Traceback" not in stderr
    assert names(out) == ["trt-fp16"]
    deadline = time.monotonic() + 60
    while '"stopped"' not in calls.read_text():  # by itself, also where nobody could tell it to
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_nothing_here_can_build(tmp_path):
    folder = make_typed(tmp_path / "trt-fp16")
    for name in ("tensorrt", "tensorrt_rtx"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('libnvinfer.so.11: cannot open shared object file')")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    done = run(str(folder), "--json", env=environment)
    error = json.loads(done.stdout)["error"]
    assert done.returncode == error["exit_code"] == 4
    assert "TensorRT cannot be imported: ImportError: libnvinfer.so.11" in error["message"]
    assert "TensorRT for RTX cannot be imported" in error["message"]
    assert error["hint"] == 'pip install "p3m-edge[tensorrt-rtx]"'
    assert names(folder) == BARE


def test_what_cannot_be_built(tmp_path, artefact, capsys):
    def failing(*arguments: str) -> tuple[int, str]:
        code = main(["build", *arguments])
        return code, capsys.readouterr().err

    code, message = failing(str(tmp_path / "nowhere"))
    assert (code, "does not exist" in message) == (5, True)
    assert names(tmp_path) == []
    code, message = failing(str(artefact))
    assert (code, "is for onnxruntime" in message) == (2, True)

    folder = make_typed(tmp_path / "trt-fp16")
    (folder / manifests.TYPED).write_bytes(b"another graph")
    code, message = failing(str(folder), *RTX)
    assert (code, "model.onnx has 13 bytes" in message) == (5, True)
    manifest = manifests.read(folder)
    (folder / manifests.TYPED).unlink()
    change(folder, files={name: record for name, record in manifest.files.items() if name != manifests.TYPED})
    code, message = failing(str(folder), *RTX)
    assert (code, "model.onnx is missing" in message) == (5, True)
    assert names(tmp_path) == ["trt-fp16"]

    code, message = failing(str(folder), "--opt", "64x64")
    assert (code, "--min, --max is missing" in message) == (2, True)
    code, message = failing(str(folder), "--opt-level", "6")
    assert (code, "--opt-level" in message) == (2, True)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(tmp_path, capsys):
    folder = make_typed(tmp_path / "trt-fp16")
    tmp_path.chmod(0o500)
    try:
        assert main(["build", str(folder), *RTX]) == 1
    finally:
        tmp_path.chmod(0o700)
    assert "cannot be written" in capsys.readouterr().err


def test_options_as_the_builder_has_them():
    parser = build_parser("build", load("build"))
    sizes = ["--min", "64x32", "--opt", "96x64", "--max", "128x96"]
    more = ["--hw-compat", "same-cc", "--version-compat", "--workspace", "512", "--timing-cache", "a.cache"]
    parsed = parser.parse(["DIR", *sizes, *more, "--opt-level", "5", "--sm", "sm_86,8.9,120,86"])
    assert isinstance(parsed, Arguments)
    options = parsed.engine.options()
    assert options.compute_capabilities == ("8.6", "8.9", "12.0")
    assert options.profile is not None
    assert dataclasses.astuple(options.profile) == ((64, 32), (96, 64), (128, 96))
    assert (options.hardware_compatibility, options.version_compatible) == ("same-cc", True)
    assert (options.level, options.workspace_mb, options.timing_cache) == (5, 512, Path("a.cache"))


@pytest.mark.parametrize("text", ["", "8", "ampere", "8.6.1", "1234", "86,,89", "90a", "current,86"])
def test_what_is_no_compute_capability(text):
    with pytest.raises(UsageError):
        capabilities(text)


@pytest.mark.parametrize(
    "option", [["--sm", "89"], ["--opt-level", "0"], ["--require-engine"], ["--fp16-backend", "own"]]
)  # fmt: skip
def test_export_takes_them_for_tensorrt_targets_alone(option, tmp_path, capsys):
    pytest.importorskip("torch")
    assert main(["export", "--target", "onnx-fp32", "--out", str(tmp_path), *option]) == 2
    assert f"{option[0]} is for TensorRT targets, not for onnx-fp32" in capsys.readouterr().err
    assert names(tmp_path) == []
