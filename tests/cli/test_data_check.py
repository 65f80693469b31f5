"""``p3m-edge data check``: tables, JSON, exit codes, interruption."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial

import psutil
import pytest
from PIL import Image

from tests.portraits import portrait, write_set


@pytest.fixture
def call(command_line):
    return partial(command_line, "data", "check", "--workers", 1)


@pytest.fixture
def portraits(tmp_path):
    return write_set(tmp_path / "portraits", [portrait(seed=i) for i in range(9)], trimap="trimap")


def test_a_clean_set(portraits, call):
    done = call(portraits)
    assert done.returncode == 0
    assert done.stderr == ""
    assert "no problems" in done.stdout
    rows = {words[0]: words[1:] for line in done.stdout.splitlines() if (words := line.split())}
    assert (rows["kind"], rows["pictures"], rows["largest"]) == (["folder"], ["9"], ["80x60"])


def test_problems_are_listed_counted_and_end_with_1(portraits, call):
    (portraits / "alpha" / "portrait3.png").unlink()
    (portraits / "image" / "portrait5.png").write_bytes(b"broken")
    done = call(portraits, "--workers", "2")
    assert done.returncode == 1
    assert "portrait3.png has no file in alpha" in done.stdout
    assert "2 problems in 9 pictures: 1 missing, 1 unreadable" in done.stderr
    document = json.loads(call(portraits, "--json").stdout)
    assert [(p["kind"], p["split"]) for p in document["problems"]] == [
        ("missing", "portraits"),
        ("unreadable", "portraits"),
    ]
    assert document["problems"][1]["file"] == str(portraits / "image" / "portrait5.png")
    assert document["splits"][0]["smallest"] == {"width": 80, "height": 60}
    assert document["error"]["exit_code"] == 1


def test_many_problems_of_a_kind_are_cut_in_the_table_alone(tmp_path, call):
    write_set(tmp_path, [portrait(seed=i, height=12, width=16) for i in range(30)])
    for path in (tmp_path / "alpha").iterdir():
        path.write_bytes(b"")
    done = call(tmp_path)
    assert done.stdout.count("is empty") == 20
    assert "unreadable: 10 more" in done.stdout
    assert len(json.loads(call(tmp_path, "--json").stdout)["problems"]) == 30


def test_mattes_in_another_form_are_named_and_read_when_it_is_said(portraits, call):
    for path in (portraits / "alpha").iterdir():
        with Image.open(path) as image:
            matte = image.copy()
        Image.merge("LA", [Image.new("L", matte.size, 255), matte]).save(path)
    done = call(portraits, "--json")
    assert done.returncode == 1
    problems = json.loads(done.stdout)["problems"]
    assert [p["kind"] for p in problems] == ["matte"] * 9
    assert "--alpha-from alpha" in problems[0]["message"]
    assert call(portraits, "--alpha-from", "alpha").returncode == 0
    done = call(portraits, "--alpha-from", "beta")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 2


def test_no_set(tmp_path, call):
    done = call(tmp_path / "nowhere")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="no process groups there")
def test_ctrl_c_ends_it_with_130_and_one_line(tmp_path):
    folder = write_set(tmp_path, [portrait(900, 1200)])
    for kind in ("image", "alpha"):
        for i in range(1, 400):
            (folder / kind / f"copy{i}.png").hardlink_to(folder / kind / "portrait0.png")
    command = [sys.executable, "-m", "p3m_edge", "data", "check", str(folder), "--workers", "2"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", start_new_session=True
    ) as process:
        while len(psutil.Process(process.pid).children()) < 3:  # a tracker and two workers that begin
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert out == ""
    assert err.split() == ["interrupted"]
