"""``p3m-edge export`` as far as the command line decides: options, errors, the plan. Real exports: tests/export."""

import json
import subprocess
import sys

import pytest

from p3m_edge.cli import main

pytest.importorskip("torch")

STANDIN = ["--arch", "r34", "--standin"]
INT8 = ["--target", "onnx-int8"]


def export(capsys, *arguments) -> tuple[int, str, str]:
    code = main(["export", *map(str, arguments)])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([*STANDIN, "--target", "onnx-fp23"], 2, "did you mean 'onnx-fp32'?"),
        ([*STANDIN, "--target", ","], 2, "no target"),
        ([*STANDIN], 2, "--target"),
        ([*STANDIN, "--target", "onnx-fp32", "--size", "500x512"], 2, "the nearest valid size is 512x512"),
        ([*STANDIN, "--target", "onnx-fp32", "--size", "0x512"], 2, "zero"),
        ([*STANDIN, "--target", "onnx-fp32", "--size", "99999x512"], 2, "more than 8192"),
        ([*STANDIN, "--target", "onnx-fp32", "--batch", "0"], 2, "whole number"),
        ([*STANDIN, "--target", "onnx-fp32", "--limit", "flip=1"], 2, "did you mean 'flips'?"),
        ([*STANDIN, "--target", "onnx-fp32", "--limit", "flips=x"], 2, "not a number"),
        ([*STANDIN, "--target", "onnx-fp32", "--unpool", "scatter"], 2, "invalid choice"),
        ([*STANDIN, "--target", "openvino-fp32", "--unpool", "native"], 2, "native"),
        (["--arch", "mobile", "--standin", "--target", "onnx-fp32", "--unpool", "native"], 2, "mobile unpools nothing"),
        (["--target", "onnx-fp32", "--unpool", "nearest"], 2, "mobile unpools nothing, so it has no form 'nearest'"),
        (["--arch", "swin-t", "--standin", "--target", "onnx-fp32", "--dynamic"], 2, "swin-t has no dynamic size"),
        ([*STANDIN, "--target", "onnx-fp32", "--parity-images", "absent.png"], 1, "absent.png does not exist"),
        (["--arch", "r35", "--standin", "--target", "onnx-fp32"], 2, "did you mean 'r34'?"),
        (["--standin", "--target", "onnx-fp32"], 2, "need an architecture"),
        (["--arch", "r34", "--target", "onnx-fp32"], 2, "no weights of r34: only of mobile"),
        (["--checkpoint", "f.pth", "--standin", "--target", "onnx-fp32"], 2, "exclude each other"),
        ([*INT8, "--calib-count", "0"], 2, "whole number"),
        ([*INT8, "--calib-count", "31"], 2, "at least 32 pictures, not 31"),
        ([*INT8, "--seed", "-1"], 2, "whole number"),
        ([*INT8, "--seed", "1000000000"], 2, "whole number from 0 to 999999999"),
        ([*INT8, "--max-drop", "-0.1"], 2, "not a share"),
        ([*INT8, "--max-drop", "nan"], 2, "not a share"),
        ([*INT8, "--max-drop", "5%"], 2, "not a share"),
        ([*INT8, "--qdq", "u4s8"], 2, "invalid choice"),
        *(([*INT8, f"--budget={text}"], 2, "--budget") for text in ("-1", "nan", "soon")),
        ([*INT8, "--budget", "0"], 2, "not a number of minutes above 0"),
        ([*INT8, "--attempts", "0"], 2, "whole number"),
        (["--target", "openvino-int8", "--qdq", "s8s8"], 2, "--qdq is for onnx-int8, not for openvino-int8"),
    ],
)
def test_bad_requests_fail_before_anything_is_built(arguments, code, message, tmp_path, capsys):
    out = tmp_path / "out"
    found, stdout, stderr = export(capsys, *arguments, "--out", out, "--dry-run")
    assert found == code
    assert message in stderr
    assert stderr.startswith("error: ")
    assert "Traceback" not in stderr
    assert stdout == ""
    assert not out.exists()


@pytest.mark.parametrize(
    "given",
    ["--calib x", "--calib-count 64", "--measure x", "--seed 0", "--max-drop 0.05", "--qdq u8s8", "--budget 5"],
)
def test_what_is_for_int8_is_refused_without_such_a_target(given, tmp_path, capsys):
    line = ["--target", "onnx-fp32,openvino-fp16", *given.split(), "--out", tmp_path / "out", "--dry-run"]
    code, stdout, stderr = export(capsys, *line)
    assert code == 2
    first = stderr.splitlines()[0]
    assert first.startswith(f"error: {given.split()[0]} is for ")
    assert "int8" in first.lower()
    assert first.endswith(", not for onnx-fp32, openvino-fp16")
    assert stdout == ""
    line[1] += ",onnx-int8"
    code, stdout, _ = export(capsys, *line, "--json")
    assert code == 0
    assert len(json.loads(stdout)["planned"]) == 3


def test_a_dry_run_says_what_would_be_done_and_does_nothing(tmp_path, capsys):
    arguments = [*STANDIN, "--target", "onnx-fp32", "--target", "openvino-fp16,onnx-fp32", "--out", tmp_path / "out"]
    code, stdout, stderr = export(capsys, *arguments, "--dry-run", "--json")
    assert code == 0
    assert "NOT TRAINED" in stderr
    planned = json.loads(stdout)["planned"]
    assert [artefact["target"] for artefact in planned] == ["onnx-fp32", "openvino-fp16"]
    assert planned[0]["folder"] == str(tmp_path / "out/onnx-fp32")
    assert planned[0]["stages"]
    code, stdout, _ = export(capsys, *arguments, "--dry-run")
    assert code == 0
    assert "openvino-fp16" in stdout
    assert not (tmp_path / "out").exists()


def test_without_a_checkpoint_the_weights_of_the_package_are_meant(tmp_path, capsys):
    for arch in ([], ["--arch", "mobile"]):
        arguments = [*arch, "--target", "openvino-fp32", "--out", tmp_path / "out", "--dry-run", "--json"]
        code, stdout, stderr = export(capsys, *arguments)
        assert code == 0, stderr
        assert stderr == ""
        assert [artefact["target"] for artefact in json.loads(stdout)["planned"]] == ["openvino-fp32"]


def test_an_installation_without_its_weights(damaged_installation, tmp_path):
    command = [sys.executable, "-m", "p3m_edge", "export", "--target", "onnx-fp32", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=damaged_installation, capture_output=True, encoding="utf-8", timeout=300)
    assert done.returncode == 5
    first, hint = done.stderr.splitlines()
    assert "mobile.safetensors is missing: this installation is damaged" in first
    assert hint == "hint: install p3m-edge again"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [None, b"", b"this is no checkpoint", b"PK\x03\x04 cut short"])
def test_a_checkpoint_that_is_none(content, tmp_path, capsys):
    path = tmp_path / "weights.pth"
    if content is not None:
        path.write_bytes(content)
    code, stdout, stderr = export(capsys, "--checkpoint", path, "--target", "onnx-fp32", "--out", tmp_path / "out")
    assert code == 5
    assert "weights.pth" in stderr
    assert "internal error" not in stderr
    assert stdout == ""
    assert not (tmp_path / "out/onnx-fp32").exists()


def test_without_torch_it_names_the_extra(tmp_path):
    arguments = ["export", *STANDIN, "--target", "onnx-fp32", "--out", str(tmp_path / "out")]
    code = f"import sys; sys.modules['torch'] = None; from p3m_edge.cli import main; sys.exit(main({arguments!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=300)
    assert done.returncode == 4
    assert 'hint: pip install "p3m-edge[torch]"' in done.stderr
    assert done.stdout == ""
