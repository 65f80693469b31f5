"""``p3m-edge sensitivity`` as a process: table, JSON, picture, going on after Ctrl-C, and what it refuses."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from p3m_edge.cli import main
from p3m_edge.export.calibration import MINIMUM
from p3m_edge.imageio import write_png
from tests.portraits import portrait, write_set

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

SMALL = ("--checkpoint", "tiny.safetensors", "--size", "64x64", "--calib-count", MINIMUM, "--pictures", 1)


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "p3m_edge", "sensitivity", *map(str, arguments)]


def call(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    wide = {**os.environ, "COLUMNS": "160"}  # else tables fold long names
    return subprocess.run(command(*arguments), capture_output=True, encoding="utf-8", timeout=600, cwd=cwd, env=wide)


@pytest.fixture(scope="module")
def portraits(tmp_path_factory):
    """Enough pictures, and two that cannot be read; tests must not change them."""
    folder = write_set(tmp_path_factory.mktemp("calibration") / "portraits", [portrait(seed=i) for i in range(MINIMUM)])
    (folder / "image" / "empty.png").touch()
    (folder / "image" / "cut.png").write_bytes((folder / "image" / "portrait0.png").read_bytes()[:100])
    return folder / "image"


@pytest.fixture
def here(tmp_path):
    """A folder with weights of the smallest network, drawn at random."""
    import torch

    from p3m_edge.model import save_checkpoint
    from p3m_edge.model.p3mnet import build

    torch.manual_seed(0)
    file = tmp_path / "tiny.safetensors"
    save_checkpoint(build("tiny"), file, licence="none", provenance="random numbers", trained=False)
    return tmp_path


@pytest.fixture(scope="module")
def inputs(portraits, tmp_path_factory):
    """A folder with what the bad requests name; tests must not change it."""
    here = tmp_path_factory.mktemp("inputs")
    (here / "portraits").symlink_to(portraits)
    (here / "file").touch()
    write_set(here / "few", [portrait()])
    write_set(here / "broken", [portrait(seed=i) for i in range(MINIMUM)])
    write_set(here / "P3M-500-P", [portrait()], image="blurred_image", alpha="mask")
    for number in range(4):  # more than a tenth
        (here / "broken" / "image" / f"portrait{number}.png").write_bytes(b"\x89PNG")
    (here / "black").mkdir()
    for number in range(MINIMUM):
        write_png(here / "black" / f"{number}.png", np.zeros((60, 80, 3), np.uint8))
    return here


@pytest.mark.full  # three whole processes
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
def test_it_goes_on_after_ctrl_c_and_reads_what_is_done(portraits, here):
    line = (*SMALL, "--calib", portraits, "--out", "out")
    file = here / "out" / "sensitivity.json"
    process = subprocess.Popen(
        command(*line), stderr=subprocess.PIPE, encoding="utf-8", start_new_session=True, cwd=here
    )
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline and not file.exists():
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=300)
    assert process.returncode == 130
    assert told.splitlines()[-1] == "interrupted"
    assert [path.name for path in file.parent.iterdir()] == [file.name]  # no half file, no chart of half the parts
    before = json.loads(file.read_bytes())["parts"]

    done = call(*line, "--json", cwd=here)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document == json.loads(file.read_bytes())
    parts = {part["name"]: part for part in document["parts"]}
    assert 0 < len(before) < len(parts)
    assert all(parts[part["name"]] == part for part in before)
    assert (document["precision"], document["form"], document["pictures"]) == ("int8", "u8s8", 1)
    errors = [part["error"] for part in document["parts"]]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] > 0

    written = file.stat().st_mtime_ns
    shown = call(*line, cwd=here)
    assert shown.returncode == 0, shown.stderr
    assert file.stat().st_mtime_ns == written  # read, not made again
    assert "parts in int8, alone" in shown.stdout
    drawn = ElementTree.fromstring((here / "out" / "sensitivity.svg").read_bytes())
    texts = {element.text for element in drawn.iter() if element.tag.endswith("text")}
    for name in parts:
        assert name in shown.stdout
        assert name.removeprefix("network.") in texts
    bars = [element for element in drawn.iter() if element.get("id", "").startswith("bar-")]
    assert len(bars) == len(parts)


@pytest.mark.full
def test_half_precision_without_a_folder_leaves_no_file(portraits, here):
    done = call(*SMALL, "--calib", portraits, "--precision", "fp16", "--json", cwd=here)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["precision"], document["form"]) == ("fp16", "")
    assert sum(part["nodes"] for part in document["parts"]) > 20
    assert document["parts"][0]["error"] > 0
    assert [path.name for path in here.iterdir()] == ["tiny.safetensors"]


def test_weights_that_are_not_trained_are_called_so(inputs, monkeypatch, capsys):
    monkeypatch.chdir(inputs)
    assert main(["sensitivity", "--arch", "mobile", "--standin", "--calib", "few"]) == 1
    assert "warning: the weights are stand-ins and NOT TRAINED" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--checkpoint", "absent.pth"], 5, "absent.pth"),
        (["--checkpoint", "portraits/portrait0.png"], 5, "portrait0.png"),
        (["--arch", "r34"], 2, "no weights of r34"),
        (["--arch", "mobil", "--standin"], 2, "did you mean 'mobile'?"),
        (["--standin"], 2, "need an architecture"),
        (["--size", "60x64"], 2, "the nearest valid size is 64x64"),
        (["--precision", "int4"], 2, "invalid choice"),
        (["--precision", "fp16", "--qdq", "s8s8"], 2, "--qdq is a form of INT8, not of fp16"),
        (["--pictures", "0"], 2, "whole number"),
        (["--pictures", "33", "--calib-count", "32"], 2, "--pictures 33 are more than the 32"),
        (["--calib-count", "31"], 2, "at least 32 pictures, not 31"),
        (["--seed", "-1"], 2, "whole number"),
        (["--calib", "nowhere"], 1, "nowhere"),
        (["--calib", "few"], 1, "few has 1 different pictures that can be used, and calibration takes at least 32"),
        (["--calib", "broken"], 1, "pictures of broken cannot be used"),
        (["--calib", "black"], 1, "are of one colour"),
        (["--calib", "P3M-500-P"], 2, "belongs to a published test set"),
        (["--calib", "portraits", "--out", "file"], 1, "file cannot be used"),
        (["--calib", "portraits", "--out", "file/out"], 1, "file/out cannot be used"),
    ],
)
def test_bad_requests(arguments, code, message, inputs, monkeypatch, capsys):
    monkeypatch.chdir(inputs)
    assert main(["sensitivity", "--out", "out", *arguments]) == code
    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.err.startswith("error: ")
    assert "Traceback" not in shown.err
    assert shown.out == ""
    assert not (inputs / "out").exists()
