"""The benchmark of bulk runs; its figures are nobody's business here."""

import pytest

from p3m_edge.benchmarks.bulk import main, measure
from p3m_edge.errors import InputError
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
