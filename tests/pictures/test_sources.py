"""Which pictures a run finds, and that no two of them ever share the name of a result."""

import os
import threading
import unicodedata
from pathlib import Path, PurePath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from p3m_edge import imageio
from p3m_edge.pictures.sources import Source, collect, output_names, with_pages

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


def link(path: Path, target: Path) -> None:
    path.symlink_to(target, target_is_directory=True)


def test_a_loop_of_links_ends(tmp_path):
    make(tmp_path, "in/a.png", "in/sub/b.png")
    link(tmp_path / "in/loop", tmp_path / "in")
    link(tmp_path / "in/sub/loop", Path("../sub"))
    link(tmp_path / "in/self", Path("self"))
    assert found(tmp_path, "in", recursive=True) == [("in/a.png", "."), ("in/sub/b.png", "sub")]
    assert collect([tmp_path / "in"], recursive=True).failures == ()


def test_linked_folders_are_followed_once(tmp_path):
    make(tmp_path, "in/m/a.png", "elsewhere/b.png", "elsewhere/deep/c.png", "third/d.png")
    link(tmp_path / "in/first", tmp_path / "in/m")  # what is there anyway
    link(tmp_path / "in/outside", tmp_path / "elsewhere")
    link(tmp_path / "in/outside-again", tmp_path / "elsewhere")
    link(tmp_path / "elsewhere/deep/on", tmp_path / "third")
    link(tmp_path / "elsewhere/back", tmp_path / "in")
    assert found(tmp_path, "in", recursive=True) == [
        ("in/m/a.png", "m"),
        ("in/outside/b.png", "outside"),
        ("in/outside/deep/c.png", "outside/deep"),
        ("in/outside/deep/on/d.png", "outside/deep/on"),
    ]
    assert found(tmp_path, "in") == []
    link(tmp_path / "linked", tmp_path / "in/m")
    assert found(tmp_path, "linked", recursive=True) == [("linked/a.png", ".")]


def test_a_link_to_the_folders_above_is_refused(tmp_path):
    make(tmp_path, "a.png", "in/b.png")
    link(tmp_path / "in/up", tmp_path)
    sources = collect([tmp_path / "in"], recursive=True)
    assert [source.path.name for source in sources.pictures] == ["b.png"]
    assert [(path.name, "not followed" in reason) for path, reason in sources.failures] == [("up", True)]


def test_pages_become_pictures_with_names_of_their_own(tmp_path):
    pages = [Image.new("RGB", (4, 4), (index, 0, 0)) for index in range(11)]
    pages[0].save(tmp_path / "scan.tif", save_all=True, append_images=pages[1:3])
    pages[0].save(tmp_path / "long.gif", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "scan-2.png")
    (tmp_path / "text.gif").write_text("no picture")
    sources = with_pages(collect([tmp_path]).pictures)
    names = [name.as_posix() for name in output_names(sources)]
    assert names == [
        *(f"long-{number:02}" for number in range(1, 12)), "scan-2.png", "scan-1", "scan.tif-2", "scan-3", "text",
    ]  # fmt: skip
    assert [source.page for source in sources if source.path.name == "scan.tif"] == [1, 2, 3]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_in_a_folder_is_found_and_not_waited_for(tmp_path):
    make(tmp_path, "a.jpg")
    os.mkfifo(tmp_path / "b.png")
    listing = threading.Thread(target=collect, args=([tmp_path],), daemon=True)
    listing.start()
    listing.join(30)
    assert not listing.is_alive()
    assert found(tmp_path, ".") == [("a.jpg", "."), ("b.png", ".")]
    assert [source.path.name for source in with_pages(collect([tmp_path]).pictures)] == ["a.jpg", "b.png"]


def test_own_outputs_in_a_folder_are_left_out_but_not_when_named(tmp_path):
    picture = np.zeros((4, 4, 3), np.uint8)
    imageio.write_png(tmp_path / "a.cutout.png", picture, result=True)
    imageio.write_png(tmp_path / "drawn.png", picture)  # as in a data set made by this project
    make(tmp_path, "a.png", "foreign.alpha.png")
    assert found(tmp_path, ".") == [("a.png", "."), ("drawn.png", "."), ("foreign.alpha.png", ".")]
    assert [path.name for path in collect([tmp_path]).own] == ["a.cutout.png"]
    assert found(tmp_path, "a.cutout.png") == [("a.cutout.png", ".")]
