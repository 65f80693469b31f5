"""Files that are there whole or not at all."""

from pathlib import Path

import pytest

from p3m_edge.atomic import atomic_file, atomic_write, check_name, name_fault
from p3m_edge.errors import InputError, OutputError


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


IMPOSSIBLE = {
    "a component too long": "x" * 300,
    "a path too long": "x/" * 2500,
    "nul": "a\0b",
    "surrogate": "a\ud800b",
    "loop": "loop/x",
    "the loop itself": "loop",
}


@pytest.fixture
def with_loop(tmp_path, monkeypatch):
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_what_the_system_says_about_a_name_is_an_error_of_ours(name, with_loop):
    for kind in (InputError, OutputError):
        with pytest.raises(kind, match="is no name of a file: ") as caught:
            check_name(name, kind)
        told = str(caught.value)
        assert told.isprintable()
        assert len(told) < 200
    uses = (
        lambda: Path(name).lstat(), lambda: Path(name).stat(), lambda: Path(name).read_bytes(),
        lambda: Path(name).resolve(),
        lambda: Path(name).mkdir(), lambda: list(Path(name).iterdir()), lambda: Path(name).touch(),
    )  # fmt: skip
    found = 0
    for use in uses:
        try:
            use()
        except (OSError, ValueError, RuntimeError) as error:
            found += name_fault(error) is not None
    assert found >= (4 if name == "loop" else 5)


def test_names_that_are_possible_pass_whatever_is_there(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for name in ("file", "nothing", "file/below", "nothing/below", "x" * 255, "é☂", "a\udcffb", ""):
        assert check_name(tmp_path / name) == tmp_path / name
    for error in (FileNotFoundError(2, "No such file"), PermissionError(13, "denied"), ValueError("7"), KeyError("x")):
        assert name_fault(error) is None
