"""Which pictures a run finds, and that no two of them ever share the name of a result."""

import os
import unicodedata
from pathlib import Path, PurePath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p3m_edge import imageio
from p3m_edge.cli.sources import Source, collect, output_names

STEMS = st.sampled_from(["1", "2", "A", "a", "1.jpg", "1-2", "é", "e\u0301", ".hidden", "1.jpg-2"])
PATHS = st.builds(
    lambda folder, stem, suffix: Path("/pictures") / folder / f"{stem}{suffix}",
    st.sampled_from(["", "a", "b", "a/c", "A"]),
    STEMS,
    st.sampled_from([".jpg", ".png", ".JPG", ""]),
)


def key(name: PurePath) -> str:
    return unicodedata.normalize("NFC", name.as_posix()).casefold()


@given(st.lists(PATHS, unique=True, max_size=12), st.sampled_from([True, False]))
def test_names_are_unique_on_every_file_system_and_stay_below_the_output(paths, flat):
    sources = [Source(path, PurePath() if flat else PurePath(*path.parent.parts[2:])) for path in paths]
    names = output_names(sources)
    assert len({key(name) for name in names}) == len(paths)
    assert not any(name.is_absolute() or ".." in name.parts for name in names)
    for path, name in zip(paths, names, strict=True):
        assert name.name.startswith(path.stem)


@given(st.lists(PATHS, unique=True, max_size=6), st.randoms())
def test_names_do_not_depend_on_the_order_unless_only_a_number_tells_them_apart(paths, random):
    shuffled = paths.copy()
    random.shuffle(shuffled)
    one = dict(zip(paths, output_names([Source(path, PurePath()) for path in paths]), strict=True))
    other = dict(zip(shuffled, output_names([Source(path, PurePath()) for path in shuffled]), strict=True))
    if len({key(PurePath(*path.parts)) for path in paths}) == len(paths):
        assert one == other


def test_the_suffix_stays_only_on_a_clash():
    paths = [Path("/p/1.jpg"), Path("/p/1.png"), Path("/p/2.png")]
    names = output_names([Source(path, PurePath()) for path in paths])
    assert [name.as_posix() for name in names] == ["1.jpg", "1.png", "2"]


def make(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"a picture, perhaps")


def found(root: Path, *inputs: str, recursive=False) -> list[tuple[str, str]]:
    sources = collect([root / name for name in inputs], recursive=recursive)
    return [(s.path.relative_to(root).as_posix(), s.folder.as_posix()) for s in sources.pictures]


def test_a_folder_gives_its_pictures_and_recursively_those_below(tmp_path):
    make(tmp_path, "in/b.png", "in/a.jpg", "in/notes.txt", "in/sub/c.png", "in/sub/d/e.png")
    assert found(tmp_path, "in") == [("in/a.jpg", "."), ("in/b.png", ".")]
    assert found(tmp_path, "in", recursive=True) == [
        ("in/a.jpg", "."),
        ("in/b.png", "."),
        ("in/sub/c.png", "sub"),
        ("in/sub/d/e.png", "sub/d"),
    ]


def test_several_folders_keep_their_names_and_nothing_comes_twice(tmp_path):
    make(tmp_path, "x/1.png", "y/1.png", "z.png")
    inputs = ("x", "y", "x/1.png", "z.png", "./x/../z.png")
    assert found(tmp_path, *inputs) == [("x/1.png", "x"), ("y/1.png", "y"), ("z.png", ".")]


def test_folders_without_pictures_are_named(tmp_path):
    make(tmp_path, "in/sub/a.png", "other/notes.txt")
    (tmp_path / "empty").mkdir()
    sources = collect([tmp_path / "in", tmp_path / "empty"])
    assert [path.name for path, _ in sources.failures] == ["in", "empty"]
    assert "--recursive" in sources.failures[0][1]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs permissions that bind")
def test_a_folder_that_cannot_be_listed_is_named(tmp_path):
    make(tmp_path, "in/a.png", "in/locked/b.png")
    (tmp_path / "in/locked").chmod(0)
    sources = collect([tmp_path / "in"], recursive=True)
    (tmp_path / "in/locked").chmod(0o700)
    assert [path.name for path, _ in sources.failures] == ["locked"]
    assert [source.path.name for source in sources.pictures] == ["a.png"]


def test_a_loop_of_links_ends(tmp_path):
    make(tmp_path, "in/a.png")
    (tmp_path / "in/loop").symlink_to(tmp_path / "in", target_is_directory=True)
    assert found(tmp_path, "in", recursive=True) == [("in/a.png", ".")]


def test_own_outputs_in_a_folder_are_left_out_but_not_when_named(tmp_path):
    picture = np.zeros((4, 4, 3), np.uint8)
    imageio.write_png(tmp_path / "a.cutout.png", picture, result=True)
    imageio.write_png(tmp_path / "drawn.png", picture)  # as in a data set made by this project
    make(tmp_path, "a.png", "foreign.alpha.png")
    assert found(tmp_path, ".") == [("a.png", "."), ("drawn.png", "."), ("foreign.alpha.png", ".")]
    assert [path.name for path in collect([tmp_path]).own] == ["a.cutout.png"]
    assert found(tmp_path, "a.cutout.png") == [("a.cutout.png", ".")]
