"""``p3m-edge demo``: its folder, and (in the full tier) the whole path twice."""

import json
import subprocess
import sys

import pytest

from p3m_edge import manifest, shipped
from p3m_edge.cli import main
from p3m_edge.cli.verbs import demo
from p3m_edge.errors import OutputError
from p3m_edge.imageio import read_image


def test_it_takes_a_new_folder_an_empty_one_and_its_own(tmp_path):
    for folder in (tmp_path / "new/below", tmp_path):
        demo.claim(folder)
        (folder / "kept.txt").write_text("mine")
        demo.claim(folder)
        assert (folder / "kept.txt").read_text() == "mine"
        (folder / "kept.txt").unlink()
        if folder != tmp_path:
            with pytest.raises(OutputError, match="it holds new"):
                demo.claim(tmp_path)
            folder.joinpath(".p3m-edge-demo").unlink()
            folder.rmdir()
            folder.parent.rmdir()


def test_a_folder_of_somebody_else_is_left_alone(tmp_path, capsys):
    (tmp_path / "onnx-fp32").mkdir()
    (tmp_path / "onnx-fp32/model.onnx").write_text("mine")
    assert main(["demo", "--out", str(tmp_path), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert "it holds onnx-fp32" in document["error"]["message"]
    assert [path.name for path in tmp_path.iterdir()] == ["onnx-fp32"]
    (tmp_path / "file").touch()
    assert main(["demo", "--out", str(tmp_path / "file")]) == 1


@pytest.mark.full
def test_the_whole_demo_twice(tmp_path):
    for _ in range(2):
        command = [sys.executable, "-m", "p3m_edge", "demo", "--out", str(tmp_path / "demo"), "--json"]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=900)
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert report["model"]["trained"]
        assert report["model"]["checkpoint_sha256"] == manifest.sha256(shipped.weights_path())
        assert json.loads((tmp_path / "demo/report.json").read_bytes()) == report
        assert [artefact["status"] for artefact in report["artefacts"]] == ["verified", "verified"]
        assert [verdict["status"] for verdict in report["verified"]] == ["passed", "passed"]
        assert {row["status"] for row in report["benchmark"]["rows"]} == {"ok"}
        names = {path.name for path in (tmp_path / "demo").iterdir() if not path.name.startswith(".")}
        assert names == {
            "onnx-fp32", "openvino-fp16", "alpha.png", "composite.png", "portrait.jpg", "report.json", "report.md",
        }  # fmt: skip
        assert names == {"onnx-fp32", "openvino-fp16", *report["files"]}
        row = read_image(tmp_path / "demo/portrait.jpg").rgb
        assert row.shape == (422, 1204, 3)
        assert (tmp_path / "demo/portrait.jpg").stat().st_size <= 200_000
        text = (tmp_path / "demo/report.md").read_text(encoding="utf-8")
        assert "NOT TRAINED" not in text
        assert report["model"]["provenance"] in text
        assert "| openvino-fp16 | verified | passed |" in text
        (tmp_path / "demo/alpha.png").write_text("damaged")
