"""``p3m-edge eval``: figures, files, the PPT matrix, and what a bad input does to the rest."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from p3m_edge import imageio
from p3m_edge.cli import main
from p3m_edge.model import build, save_checkpoint
from tests.evaluate.material import make_set, red_model


def run(capsys, *arguments) -> tuple[int, dict[str, Any]]:
    code = main(["eval", *map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def checkpoint(path: Path) -> None:
    torch.manual_seed(0)
    save_checkpoint(build("tiny").eval(), path, licence="none", provenance="a test", trained=False)


def test_a_process_with_several_methods(tmp_path):
    """The whole of it, as a user starts it."""
    make_set(tmp_path / "faces/set", faces=True, trimaps=True)
    red_model(tmp_path / "model")
    checkpoint(tmp_path / "net.pt")
    arguments = [
        "eval", "faces/set", "--model", "model/red.toml", "--model", "cf", "--model", "net.pt",
        "--route", "both", "--out", "out", "--worst", "2",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "p3m_edge", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "NOT TRAINED" in done.stderr
    assert "set (3 pictures, faces unknown); RESIZE; scored as float and 8bit; trimap: the set's" in done.stdout
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "journal.jsonl", "pictures.csv", "report.json", "report.md",
        "worst-1-red-set.png", "worst-2-cf-set.png", "worst-3-net-set.png",
    ]  # fmt: skip
    report = json.loads((tmp_path / "out/report.json").read_text())
    red, cf, net = report["results"]
    assert red["means"]["float"]["SAD"] == {"value": pytest.approx(0, abs=1e-6), "pictures": 3}
    assert set(cf["means"]["8bit"]) == {"SAD_TRIMAP", "MSE_TRIMAP", "MAD_TRIMAP"}
    assert 0 < cf["means"]["float"]["SAD_TRIMAP"]["value"] < net["means"]["float"]["SAD_TRIMAP"]["value"]
    assert net["method"]["trained"] is False
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out/pictures.csv").read_text())))
    assert len(rows) == 3 * 3 * 2
    mean = sum(float(row["SAD"]) for row in rows if row["method"] == "net" and row["route"] == "8bit") / 3
    assert mean == pytest.approx(net["means"]["8bit"]["SAD"]["value"], rel=1e-6)
    text = (tmp_path / "out/report.md").read_text()
    assert "net (NOT TRAINED)" in text
    assert "![worst](worst-2-cf-set.png)" in text
    assert imageio.read_image(tmp_path / "out/worst-1-red-set.png").rgb.shape[0] > 2 * 192


def test_killed_and_started_again(tmp_path):
    """Nothing that was finished is lost or measured twice."""
    make_set(tmp_path / "set", 1)
    for folder in ("image", "alpha"):
        for number in range(1, 150):
            (tmp_path / "set" / folder / f"p{number}.png").hardlink_to(tmp_path / "set" / folder / "p0.png")
    red_model(tmp_path)
    command = [sys.executable, "-m", "p3m_edge", "eval", "set", "--model", "red.toml", "--out", "out", "--worst", "0"]
    journal = tmp_path / "out/journal.jsonl"
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (journal.exists() and journal.stat().st_size):
        time.sleep(0.002)
    process.kill()
    assert process.wait() != 0, "it was done before it could be killed"
    before = journal.read_bytes()
    assert 0 < before.count(b"\n") < 150
    assert not (tmp_path / "out/report.json").exists()
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert journal.read_bytes().startswith(before)
    assert journal.read_bytes().count(b"\n") == 150 + (not before.endswith(b"\n"))
    assert len(json.loads((tmp_path / "out/report.json").read_text())["results"][0]["pictures"]) == 150


def test_real_portraits(shared, tmp_path, capsys):
    """Closed-form matting is far better than a guess on two portraits with human-annotated mattes."""
    for name in ("gt_res_1", "gt_fig_train_2"):
        for folder, file in (("image", "image.jpg"), ("alpha", "alpha.png")):
            (tmp_path / "set" / folder).mkdir(parents=True, exist_ok=True)
            source = shared / "data/portraits" / name / file
            (tmp_path / "set" / folder / f"{name}{source.suffix}").write_bytes(source.read_bytes())
    guess = red_model(tmp_path / "guess", "[input]\nscale = 0\nmean = [-0.5, 0, 0]")
    code, report = run(capsys, tmp_path / "set", "--model", "cf", "--model", guess, "--trimap-kernel", "10")
    assert code == 0
    found, half = (result["means"]["8bit"]["MAD_TRIMAP"]["value"] for result in report["results"])
    assert found < half / 3


def test_the_ppt_matrix(tmp_path, capsys):
    for split, folder in (("P3M-500-P", "blurred_image"), ("P3M-500-NP", "original_image")):
        make_set(tmp_path / "P3M-10k" / split, 2, layout=(folder, "mask"))
    right, dark = red_model(tmp_path / "right"), red_model(tmp_path / "dark", "[input]\nscale = 0")
    sets = [f"B={tmp_path}/P3M-10k/P3M-500-P", f"N={tmp_path}/P3M-10k/P3M-500-NP"]
    models = ["--model", f"B={right}", "--model", f"N={dark}"]
    code, report = run(capsys, "--ppt", *sets, *models)
    assert code == 0
    good = {result["pair"]: result["means"]["8bit"]["MAD"]["value"] < 0.01 for result in report["results"]}
    assert good == {"B:B": True, "B:N": True, "N:B": False, "N:N": False}
    assert [r["method"]["name"] for r in report["results"]] == [str(right)] * 2 + [str(dark)] * 2  # both are red.toml
    assert main(["eval", "--ppt", *sets, *models]) == 0
    shown = capsys.readouterr().out
    assert [shown.index(f" {pair} ") for pair in good] == sorted(shown.index(f" {pair} ") for pair in good)
    assert run(capsys, "--ppt", f"N={tmp_path}/P3M-10k/P3M-500-P", *models)[0] == 2
    assert run(capsys, "--ppt", *sets, "--model", right)[0] == 2


def test_a_bad_picture_is_named(tmp_path, capsys):
    make_set(tmp_path / "set")
    (tmp_path / "set/image/p0.png").write_bytes(b"")
    model = red_model(tmp_path / "model")
    code, report = run(capsys, tmp_path / "set", "--model", model, "--out", tmp_path / "out")
    assert code == 1
    assert report["error"]["message"] == "1 of 3 pictures failed"
    assert [failure["picture"] for failure in report["results"][0]["failures"]] == ["p0"]
    assert (tmp_path / "out/report.json").exists()
    for name in ("p1", "p2"):
        (tmp_path / f"set/image/{name}.png").write_bytes(b"x")
    code, report = run(capsys, tmp_path / "set", "--model", model)
    assert (code, report["results"][0]["means"]) == (1, {"8bit": {}})
    assert main(["eval", str(tmp_path / "set"), "--model", str(model)]) == 1
    assert "p2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["SET", "--model", "absent.pt"], 2, "no model 'absent.pt'"),
        (["SET", "--model", "cf", "--size", "512x512"], 2, "--strategy deployed"),
        (["SET", "--model", "cf", "--strategy", "hybrit"], 2, "hybrit"),
        (["SET", "--model", "cf", "--trimap", "set"], 1, "have no trimap"),
        (["SET", "--model", "SET"], 5, "manifest"),
        (["nowhere/at/all", "--model", "cf"], 1, "nowhere"),
        (["SET", "--model", "cf", "--out", "SET/image/p0.png"], 1, "p0.png"),
        (["SET"], 2, "--model"),
    ],
)
def test_what_is_wrong_shows_before_anything_is_measured(tmp_path, capsys, arguments, code, message):
    make_set(tmp_path / "set", 1)
    before = sorted(tmp_path.rglob("*"))
    assert main(["eval", *(a.replace("SET", str(tmp_path / "set")) for a in arguments)]) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert message in shown.err
    assert sorted(tmp_path.rglob("*")) == before
