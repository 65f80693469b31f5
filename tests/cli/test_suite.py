"""The speed suite: small here, for its fields and files; its figures belong to docs/benchmarks.md."""

import json

import pytest

from p3m_edge.cli import main


def test_an_unknown_architecture_is_a_usage_error(tmp_path, capsys):
    assert main(["suite", "--arch", "r43", "--out", str(tmp_path)]) == 2
    assert "did you mean 'r34'?" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


@pytest.mark.full
def test_the_suite_of_one_architecture(tmp_path, capsys):
    arguments = ["suite", "--arch", "swin-t", "--size", "64x64", "--rounds", "1", "--iterations", "1", "--threads", "1"]
    assert main([*arguments, "--out", str(tmp_path), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert json.loads((tmp_path / "suite.json").read_text()) == printed
    assert [row["label"] for row in printed["reports"][0]["rows"]] == ["eager", "openvino-fp32"]
    goal = printed["goals"][0]
    assert goal["arch"] == "swin-t"
    assert goal["met"] == (goal["value"] >= 1.45)
    assert "## swin-t" in (tmp_path / "suite.md").read_text()
