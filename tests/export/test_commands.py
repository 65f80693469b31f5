"""``p3m-edge export`` as a user meets it: interrupted, killed, twice at once, rejected, with bad input."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from p3m_edge import folder as folders
from p3m_edge import manifest as manifests
from p3m_edge import shipped
from p3m_edge.cli import main
from p3m_edge.errors import ArtefactError, OutputError
from p3m_edge.runtimes import Matting
from tests.export.conftest import export_to_a_full_disc

STANDIN = ["--arch", "mobile", "--standin", "--size", "64x64"]


def arguments(out: Path, *options: str) -> list[str]:
    target = [] if "--target" in options else ["--target", "onnx-fp32"]
    return ["export", *STANDIN, *target, "--out", str(out), *options]


def start_and_wait(out: Path, *options: str) -> subprocess.Popen[str]:
    """Start an export and return when it has begun to write."""
    command = [sys.executable, "-m", "p3m_edge", *arguments(out, *options)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (out / ".onnx-fp32.partial").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def test_interrupted_killed_and_finished(mobile_artefacts, tmp_path, capfd, command_line):
    out = tmp_path / "out"
    process = start_and_wait(out)
    try:
        assert main(["export", *STANDIN, "--target", "onnx-fp32", "--out", str(out)]) == 1
        assert "another process is writing" in capfd.readouterr().err
        with pytest.raises(OutputError, match="another process"), folders.workspace(out, "onnx-fp32", force=False):
            pass  # the one that was refused has not removed the other's lock
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    # Killed by the signal, in the end, if it fell into Python code that a C library ran: 130 for a shell as well.
    assert process.returncode in (130, -signal.SIGINT)
    assert stdout == ""
    assert "Traceback" not in stderr
    assert list(out.iterdir()) == []

    older = out / "onnx-fp32"
    older.mkdir()
    shutil.copy(mobile_artefacts / "onnx-fp32/manifest.json", older)
    (older / "left-over").touch()
    process = start_and_wait(out, "--force")
    process.kill()
    process.communicate(timeout=60)
    assert (out / ".onnx-fp32.partial").exists()
    assert (older / "left-over").exists()

    done = command_line(*arguments(out, "--force", "--json", "--target", "onnx-fp32,openvino-fp32"))
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)["results"]
    assert [result["status"] for result in results] == ["verified", "verified"]
    assert sorted(path.name for path in out.iterdir()) == ["onnx-fp32", "openvino-fp32"]
    assert not (older / "left-over").exists()
    # Not model.xml: OpenVINO numbers the nodes that it adds through the whole process.
    for file in ("onnx-fp32/model.onnx", "openvino-fp32/model.bin"):
        assert manifests.sha256(out / file) == manifests.sha256(mobile_artefacts / file), file


def test_a_rejected_artefact(tmp_path, command_line):
    zero = [f"--limit={name}=0" for name in ("local_mean", "pixel_tolerance", "pixel_share", "flips")]
    options = ("--arch", "r34", "--unpool", "nearest", "--json", "--limit=logits_mean=1", *zero)
    done = command_line(*arguments(tmp_path, *options))
    assert done.returncode == 3, done.stderr
    document = json.loads(done.stdout)
    assert document["results"][0]["status"] == "rejected"
    assert document["error"]["exit_code"] == 3
    assert document["error"]["message"] == "1 of 1 artefacts did not pass their gates: onnx-fp32"
    assert [path.name for path in tmp_path.iterdir()] == ["onnx-fp32.rejected"]
    folder = tmp_path / "onnx-fp32.rejected"
    manifest = manifests.read(folder, allow_rejected=True)
    assert manifest.unpool == "nearest"
    assert manifest.verified.level == "none"
    assert manifest.parity is not None
    assert manifest.parity.failures
    assert manifest.parity.loosened == ("logits_mean: 1 instead of 1e-05",)
    with pytest.raises(ArtefactError, match="rejected"):
        Matting(folder)
    folder.rename(tmp_path / "renamed")
    with pytest.raises(ArtefactError, match="failed its gate"):
        Matting(tmp_path / "renamed")


def test_a_full_disc_leaves_nothing(tmp_path):
    assert "cannot be written" in export_to_a_full_disc(tmp_path, [*STANDIN, "--target", "onnx-fp32"], 2**20)


def test_a_checkpoint_of_another_architecture_and_a_truncated_one(tmp_path, capsys):
    words = ["export", "--target", "onnx-fp32", "--out", str(tmp_path / "out"), "--checkpoint"]
    assert main([*words, str(shipped.weights_path()), "--arch", "swin-t"]) == 2
    assert "is a mobile, not a swin-t" in capsys.readouterr().err
    cut = tmp_path / "cut.safetensors"
    shutil.copy(shipped.weights_path(), cut)
    os.truncate(cut, cut.stat().st_size // 2)
    assert main([*words, str(cut)]) == 5
    assert "cut.safetensors" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("force", [False, True])
def test_what_is_there_is_not_replaced(force, tmp_path, capsys):
    foreign = tmp_path / "onnx-fp32"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("the only copy")
    options = ["--force"] if force else []
    assert main(["export", *STANDIN, "--target", "onnx-fp32", "--out", str(tmp_path), *options]) == 1
    assert ("is not an artefact" if force else "exists") in capsys.readouterr().err
    assert (foreign / "thesis.txt").read_text() == "the only copy"


def test_an_output_below_a_file(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["export", *STANDIN, "--target", "onnx-fp32", "--out", str(tmp_path / "file/out")]) == 1
    error = capsys.readouterr().err
    assert "cannot be written" in error
    assert "internal error" not in error
