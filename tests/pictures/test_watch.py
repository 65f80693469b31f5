"""Which pictures a watched folder gives, and when."""

from __future__ import annotations

import os
from pathlib import Path, PurePath

import pytest

from p3m_edge import imageio
from p3m_edge.errors import InputError
from p3m_edge.pictures.sources import Names, Sources
from p3m_edge.pictures.watch import watch
from tests.artefacts import picture


def names(found: Sources) -> list[str]:
    return [source.path.name for source in found.pictures]


def test_a_picture_is_given_when_two_looks_found_the_same_file_and_once(tmp_path: Path) -> None:
    looks = watch([tmp_path], every=0)
    assert names(next(looks)) == []
    half = tmp_path / "a.jpg"
    half.touch()
    assert names(next(looks)) == names(next(looks)) == []  # it is empty
    half.write_bytes(b"half")
    assert names(next(looks)) == []
    half.write_bytes(b"the whole")
    assert names(next(looks)) == []
    assert names(next(looks)) == ["a.jpg"]
    (tmp_path / "b.jpg.part").write_bytes(b"another")
    assert names(next(looks)) == names(next(looks)) == []
    (tmp_path / "b.jpg.part").rename(tmp_path / "b.jpg")
    next(looks)
    assert names(next(looks)) == ["b.jpg"]
    (tmp_path / "other").write_bytes(b"the other")  # of equal length
    os.utime(tmp_path / "other", ns=(0, half.stat().st_mtime_ns))
    (tmp_path / "other").rename(half)
    next(looks)
    assert names(next(looks)) == ["a.jpg"]
    assert names(next(looks)) == []


def test_results_and_sub_folders(tmp_path: Path) -> None:
    imageio.write_png(tmp_path / "a.alpha.png", picture(4, 4), result=True)
    (tmp_path / "below").mkdir()
    imageio.write_png(tmp_path / "below/c.png", picture(4, 4))
    looks = watch([tmp_path], recursive=True, every=0)
    next(looks)
    found = next(looks)
    assert [(source.path.name, source.folder) for source in found.pictures] == [("c.png", PurePath("below"))]
    assert [path.name for path in found.own] == ["a.alpha.png"]


def test_a_folder_that_goes_and_comes_back(tmp_path: Path) -> None:
    folders = [tmp_path / "x", tmp_path / "y"]
    for folder in folders:
        folder.mkdir()
    looks = watch(folders, every=0)
    assert next(looks) == Sources((), (), ())
    folders[0].rmdir()
    assert next(looks).failures == ((folders[0], "is gone, and waited for"),)
    assert next(looks).failures == ()
    folders[0].mkdir()
    for folder in folders:
        (folder / "a.jpg").write_bytes(b"whole")
    next(looks)
    assert [source.folder for source in next(looks).pictures] == [PurePath("x"), PurePath("y")]
    with pytest.raises(InputError, match="only folders can be watched"):
        watch([folders[0] / "a.jpg"])


def test_names_that_were_given_stay_and_no_two_are_alike(tmp_path: Path) -> None:
    found = Names()
    given: dict[str, PurePath] = {}
    for name in ("1.jpg", "1.png", "1.png.jpg", "2.jpg"):
        (tmp_path / name).write_bytes(b"whole")
        looks = watch([tmp_path], every=0)
        next(looks)
        now = {source.path.name: name for source, name in found.of(next(looks).pictures)}
        assert {key: now[key] for key in given} == given
        given = now
    assert given["1.jpg"] == PurePath("1")
    assert given["1.png"] == PurePath("1.png")
    assert given["2.jpg"] == PurePath("2")
    assert len(set(given.values())) == 4
