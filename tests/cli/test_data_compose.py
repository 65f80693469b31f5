"""``p3m-edge data compose``: the set, resuming after Ctrl-C, bad files, JSON, errors."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest

from p3m_edge.data.sets import open_set, read
from p3m_edge.imageio import read_image, write_png
from tests.portraits import portrait, write_set


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "p3m_edge", "data", "compose", *map(str, arguments)]


@pytest.fixture
def call(command_line, here):
    return partial(command_line, "data", "compose", "--workers", 1, cwd=here)


@pytest.fixture
def here(tmp_path):
    """A folder with the sets ``a`` (with colours and face masks) and ``b`` (alphas alone), and ``places``."""
    parts = {"foreground": "fg", "background": "bg", "face_mask": "facemask"}
    write_set(tmp_path / "a", [portrait(seed=i) for i in range(3)], **parts)
    write_set(tmp_path / "b", [portrait(seed=i) for i in range(3, 5)])
    (tmp_path / "places").mkdir()
    for i in range(4):
        write_png(tmp_path / "places" / f"{i}.png", portrait(90, 70, seed=10 + i).image)
    return tmp_path


BASIC = ("--portraits", "a", "--backgrounds", "places", "--size", "96x64")


def test_a_set_is_the_same_on_any_number_of_cores(here, call):
    pytest.importorskip("pymatting")
    options = (*BASIC, "--portraits", "b:0.5", "-n", 16, "--whole", "0.3", "--empty", 0.2, "--json")
    for workers in (1, 2):
        done = call(here / str(workers), *options, "--workers", workers)
        assert done.returncode == 0, done.stderr
        document = json.loads(done.stdout)
        assert (document["made"], document["kept"], document["skipped"]) == (16, 0, [])
    files = [file.relative_to(here / "1") for file in (here / "1").rglob("*.*")]
    assert len(files) >= 3 * 16 + 2 + 1
    for file in files:
        assert (here / "1" / file).read_bytes() == (here / "2" / file).read_bytes(), file
    found = open_set(here / "1")
    assert [item.name for item in found.items] == [f"{i:08d}" for i in range(16)]
    assert {read(item).image.shape for item in found.items} == {(64, 96, 3)}
    rows = list(csv.DictReader((here / "1" / "composed.csv").read_text().splitlines()))
    assert [row["name"] for row in rows] == [item.name for item in found.items]
    assert {row["set"] for row in rows} == {"a", "b", ""}
    assert {row["kind"] for row in rows} == {"composed", "whole", "empty"}
    for row in rows:
        assert (row["portrait"] == row["set"] == "") == (row["kind"] == "empty")
        assert not row["set"] or (here / row["set"] / "image" / f"{row['portrait']}.png").exists()
        assert row["background"] in ("" if row["kind"] == "whole" else ("", "0.png", "1.png", "2.png", "3.png"))


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
def test_it_goes_on_after_ctrl_c(here, call):
    arguments = (here / "out", *BASIC, "-n", 300, "--workers", 2)
    process = subprocess.Popen(
        command(*arguments), stderr=subprocess.PIPE, encoding="utf-8", start_new_session=True, cwd=here
    )
    images = here / "out" / "image"
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and not (images.is_dir() and len(list(images.glob("*.jpg"))) > 3):
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130
    assert errors.strip() == "interrupted"
    assert not list((here / "out").rglob("*.tmp"))
    there = len(list(images.glob("*.jpg")))
    assert 3 < there < 300
    assert len((here / "out" / "composed.csv").read_text().splitlines()) >= 4
    done = call(here / "out", *BASIC, "-n", there + 2, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kept"] + json.loads(done.stdout)["made"] == there + 2
    assert json.loads(done.stdout)["made"] <= 6
    assert len((here / "out" / "composed.csv").read_text().splitlines()) >= there + 3


def test_bad_files_do_not_stop_the_others(here, call):
    good = (here / "places" / "1.png").read_bytes()
    (here / "places" / "1.png").write_bytes(good[: len(good) // 2])
    (here / "a" / "alpha" / "portrait2.png").write_text("no picture")
    (here / "places" / "2.png").unlink()
    (here / "places" / "2.png").symlink_to("nowhere")
    done = call("out", *BASIC, "-n", 20, "--json")
    assert done.returncode == 1
    document = json.loads(done.stdout)
    reasons = [one["reason"] for one in document["skipped"]]
    assert len(reasons) == 3
    for words in ("portrait2.png", "1.png is damaged", "2.png does not exist"):
        assert any(words in reason for reason in reasons)
    missing = sum(one["pictures"] for one in document["skipped"])
    assert document["error"]["message"] == f"{missing} of 20 pictures are missing"
    assert document["made"] == 20 - missing > 0
    assert len(open_set(here / "out").items) == 20 - missing
    assert len((here / "out" / "composed.csv").read_text().splitlines()) == 21 - missing
    again = call("out", *BASIC, "-n", 20)  # a kept picture is not made again, a missing one tried
    assert again.returncode == 1
    assert "left out" in again.stdout
    assert f"{20 - missing} were there" in again.stdout


def test_empty_pictures(here, command_line, call):
    done = call("out", *BASIC, "-n", 3, "--empty", 1, "--png")
    assert done.returncode == 0, done.stderr
    assert command_line("data", "check", "out", cwd=here).returncode == 0
    for item in open_set(here / "out").items:
        sample = read(item)
        assert not sample.alpha.any()
        assert sample.face_mask is not None
        assert not sample.face_mask.any()
    (here / "out" / "composed.csv").write_bytes(b"\xff\n")
    again = command_line("data", "check", "out", cwd=here)
    assert again.returncode == 1
    assert "3 black alpha" in again.stderr


def test_foregrounds_are_kept_where_they_are_wanted(here, call):
    pytest.importorskip("pymatting")
    options = ("--portraits", "b", *BASIC[2:], "-n", 4, "--empty", 0)
    assert call("out", *options).returncode == 0
    assert len(list((here / "out" / "foregrounds").iterdir())) == 2
    assert call("other", *options, "--foregrounds", "kept").returncode == 0
    assert len(list((here / "kept").iterdir())) == 2
    assert not (here / "other" / "foregrounds").exists()


def test_a_sheet_to_look_at(here, call):
    done = call(*BASIC, "-n", 3, "--sheet", "look.png", "--pairs")
    assert done.returncode == 0, done.stderr
    assert "written: look.png" in done.stdout
    assert read_image(here / "look.png").rgb.shape[1] == 6 * 114 + 4
    assert {path.name for path in here.iterdir()} == {"a", "b", "places", "look.png"}
    both = call("out", *BASIC, "-n", 2, "--sheet", "both.jpg")
    assert both.returncode == 0, both.stderr
    assert (here / "both.jpg").exists()
    assert len(open_set(here / "out").items) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "OUT is missing"),
        (("out", "--portraits", "places"), 1, "holds no data set"),
        (("out", "--portraits", "missing"), 1, "missing"),
        (("out", "--backgrounds", "missing"), 1, "missing cannot be listed"),
        (("out", "--backgrounds", "a"), 1, "holds no pictures"),
        (("out", "--portraits", "a"), 2, "given twice"),
        (("out", "--portraits", "b:0"), 2, "not above 0"),
        (("out", "--whole", "0.99"), 2, "more than all pictures"),
        (("out", "--empty", "nan"), 2, "not a share"),
        (("out", "--quality", "101"), 2, "not a quality"),
        (("out", "--size", "20x20"), 2, "32 to 4096 each"),
        (("out", "--seed", "-1"), 2, "--seed"),
        (("out", "--sheet", "a.gif"), 2, "not named .png or .jpg"),
        (("a/out",), 2, "lie in each other"),
        (("places",), 2, "lie in each other"),
        ((".",), 2, "lie in each other"),
        (("out", "--foregrounds", "places"), 2, "holds the backgrounds"),
        (("out", "--foregrounds", "a/image/portrait0.png"), 1, "cannot be used"),
        (("a/image/portrait0.png/out",), 2, "lie in each other"),
    ],
)
def test_impossible_requests(arguments, code, words, here, call):
    before = sorted(here.rglob("*"))
    done = call(*BASIC, *arguments)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    if "cannot be used" not in words:
        assert sorted(here.rglob("*")) == before


def test_portraits_without_mattes(here, call):
    (here / "a" / "alpha" / "portrait1.png").unlink()
    done = call("out", *BASIC)
    assert done.returncode == 1
    assert "have no alpha" in done.stderr
    assert "data check" in done.stderr


def test_another_recipe_and_another_folder_are_refused(here, call):
    assert call("out", *BASIC, "-n", 1).returncode == 0
    for change, name in ((("--seed", 1), "seed"), (("--quality", 80), "quality"), (("--portraits", "b"), "portraits")):
        other = call("out", *BASIC, "-n", 1, *change)
        assert other.returncode == 2
        assert f"other settings: {name}" in other.stderr
    (here / "out" / "compose.json").write_text("{")
    damaged = call("out", *BASIC, "-n", 1)
    assert damaged.returncode == 1
    assert "damaged" in damaged.stderr
    (here / "mine").mkdir()
    (here / "mine" / "thesis.txt").write_text("all of it")
    foreign = call("mine", *BASIC, "-n", 1)
    assert foreign.returncode == 1
    assert "thesis.txt" in foreign.stderr
    assert [path.name for path in (here / "mine").iterdir()] == ["thesis.txt"]


LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
from p3m_edge.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no such limits")
def test_a_full_disc_ends_it_with_nothing_half_written(here, call):
    arguments = ("data", "compose", "out", *BASIC[:-1], "256x256", "-n", "3", "--workers", "1")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *arguments], capture_output=True, encoding="utf-8", cwd=here, timeout=300
    )
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((here / "out").rglob("*.tmp"))
    assert call("out", *BASIC[:-1], "256x256", "-n", 3).returncode == 0
    assert len(open_set(here / "out").items) == 3
