"""The benchmark of bulk runs; its figures are nobody's business here."""

import argparse

import pytest

from p3m_edge.benchmarks import quality
from p3m_edge.benchmarks.bulk import main, measure
from p3m_edge.errors import ArtefactError, InputError
from tests.artefacts import make_artefact
from tests.bulk.conftest import write_pictures


def test_too_few_pictures_are_told_before_anything_runs(tmp_path):
    pictures = write_pictures(tmp_path / "in", 3)
    with pytest.raises(InputError, match="holds 3 pictures, and --count 2 takes 4"):
        measure(tmp_path / "none", pictures, 2, 1, 1)


def test_an_error_is_one_line_and_an_exit_code(tmp_path, capsys):
    assert main([str(tmp_path / "none"), str(tmp_path / "absent")]) == InputError.exit_code
    assert capsys.readouterr().err.splitlines() == [
        f"error: {tmp_path / 'absent'} cannot be listed: No such file or directory"
    ]


def test_a_folder_that_is_no_artefact_is_told_before_anything_runs(tmp_path):
    pictures = write_pictures(tmp_path / "in", 2)
    with pytest.raises(ArtefactError, match="none"):
        measure(tmp_path / "none", pictures, 1, 1, 1)


def test_a_run_that_fails_says_why(tmp_path):
    pictures = write_pictures(tmp_path / "in", 2)
    (pictures / "0.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"a run with --executor local ended with 1: error: .*is not a picture"):
        measure(make_artefact(tmp_path / "net"), pictures, 1, 1, 1)


def test_ctrl_c_is_one_word_and_its_exit_code(capsys):
    def stopped(_arguments: argparse.Namespace) -> tuple[object, tuple[()]]:
        raise KeyboardInterrupt

    assert quality.run(quality.parser("A benchmark."), stopped, []) == 130
    assert capsys.readouterr().err == "interrupted\n"
