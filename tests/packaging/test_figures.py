"""The tools for the project's own figures: small here, for their fields and files; figures belong to the docs."""

import json

import pytest

from p3m_edge.cli import main
from tests.tools import TOOLS, load_tool

pytest.importorskip("torch")
suite, mobile_figures = load_tool("suite"), load_tool("mobile_figures")


@pytest.mark.parametrize(
    "name", ["suite", "ablate_cp", "mobile_figures", "beside_others", "find_faces", "measure_anonymising"]
)
def test_the_help_and_the_examples(name, capsys):
    tool = load_tool(name)
    assert main(["--help"], tool=tool) == 0
    shown = capsys.readouterr().out
    for line in tool.EXAMPLES.strip().splitlines():
        program, *words = line.split()[1:]
        assert (TOOLS.parent / program).is_file()
        assert line in shown
        assert main([*words, "--help"], tool=tool) == 0


def test_an_unknown_architecture_is_a_usage_error(tmp_path, capsys):
    assert main(["--arch", "r43", "--out", str(tmp_path)], tool=suite) == 2
    assert "did you mean 'r34'?" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


@pytest.mark.full
def test_the_suite_of_one_architecture(tmp_path, capsys):
    arguments = ["--arch", "swin-t", "--size", "64x64", "--rounds", "1", "--iterations", "1", "--threads", "1"]
    assert main([*arguments, "--out", str(tmp_path), "--json"], tool=suite) == 0
    printed = json.loads(capsys.readouterr().out)
    assert json.loads((tmp_path / "suite.json").read_text()) == printed
    assert [row["label"] for row in printed["reports"][0]["rows"]] == ["eager", "openvino-fp32"]
    goal = printed["goals"][0]
    assert goal["arch"] == "swin-t"
    assert goal["met"] == (goal["value"] >= 1.45)
    assert "## swin-t" in (tmp_path / "suite.md").read_text()


@pytest.mark.parametrize("name", mobile_figures.VARIANTS)
def test_every_variant_of_the_mobile_network_has_its_own_shape(name):
    shapes, shipped = (
        {key: value.shape for key, value in mobile_figures.variant(plan).state_dict().items()}
        for plan in (mobile_figures.VARIANTS[name], mobile_figures.VARIANTS[mobile_figures.SHIPPED])
    )
    assert (shapes == shipped) == (name == mobile_figures.SHIPPED)


@pytest.mark.full
def test_the_variants_are_measured_beside_the_large_network(tmp_path, capsys):
    arguments = ["--size", "64x64", "--rounds", "2", "--iterations", "1", "--threads", "1"]
    assert main([*arguments, "--out", str(tmp_path), "--json"], tool=mobile_figures) == 0
    first, second, *others = json.loads(capsys.readouterr().out)["choices"]
    assert [each["name"] for each in (first, second, *others)] == [mobile_figures.LARGE, *mobile_figures.VARIANTS]
    assert first["parameters"] > 9 * second["parameters"]
    assert all(each["latency"]["minimum"] > 0 for each in (first, second, *others))
