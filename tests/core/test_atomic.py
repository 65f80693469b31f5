"""Files that are there whole or not at all."""

import pytest

from p3m_edge.atomic import atomic_file, atomic_write
from p3m_edge.errors import OutputError


def test_an_exception_of_the_block_comes_through_and_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "kept.txt"
    path.write_bytes(b"before")
    with pytest.raises(UnicodeEncodeError), atomic_file(path) as stream:
        stream.writelines(text.encode() for text in ("half", "\udc80"))
    assert path.read_bytes() == b"before"
    assert [file.name for file in tmp_path.iterdir()] == ["kept.txt"]


@pytest.mark.parametrize("parents", [False, True])
@pytest.mark.parametrize("name", ["a\0b", "a\ud800b", "new/a\0b", "a\0b/new"])
def test_a_name_that_no_file_can_have_is_one_clear_error(name, parents, tmp_path):
    with pytest.raises(OutputError, match=r"^the table .* cannot be written: .*(null byte|surrogates)"):
        atomic_write(tmp_path / name, b"1", what="the table", parents=parents)
    assert not list(tmp_path.iterdir())
