"""``p3m-edge eval``: figures, files, the PPT matrix, and what a bad input does to the rest."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from p3m_edge import imageio
from p3m_edge.cli import main
from p3m_edge.model import build, save_checkpoint
from tests.evaluate.material import disc, make_set, portrait, red_model


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
    assert set(cf["means"]["8bit"]) == {"SAD_TRIMAP", "MSE_TRIMAP", "MAD_TRIMAP", "SAD", "SAD_FACE"}
    assert 0 < cf["means"]["float"]["SAD_TRIMAP"]["value"] < net["means"]["float"]["SAD_TRIMAP"]["value"]
    assert net["method"]["trained"] is False
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out/pictures.csv").read_text())))
    assert len(rows) == 3 * 3 * 2
    mean = sum(float(row["SAD"]) for row in rows if row["method"] == "net" and row["route"] == "8bit") / 3
    assert mean == pytest.approx(net["means"]["8bit"]["SAD"]["value"], rel=1e-6)
    text = (tmp_path / "out/report.md").read_text()
    assert "net (NOT TRAINED)" in text
    assert "![worst](worst-2-cf-set.png)" in text
    assert imageio.read_image(tmp_path / "out/worst-1-red-set.png").rgb.shape[0] > 2 * 120  # three rows


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
    assert [(one["training"], one["measure"], one["pictures"]) for one in report["differences"]] == [
        ("B", "SAD", 2), ("N", "SAD", 2),
    ]  # fmt: skip
    assert [r["method"]["name"] for r in report["results"]] == [str(right)] * 2 + [str(dark)] * 2  # both are red.toml
    assert main(["eval", "--ppt", *sets, *models]) == 0
    shown = capsys.readouterr().out
    assert [shown.index(f" {pair} ") for pair in good] == sorted(shown.index(f" {pair} ") for pair in good)
    assert run(capsys, "--ppt", f"N={tmp_path}/P3M-10k/P3M-500-P", *models)[0] == 2
    assert run(capsys, "--ppt", *sets, "--model", right)[0] == 2


def test_the_same_pictures_in_both_forms(tmp_path, capsys):
    """Figures, relative difference and interval against ones made by hand, for a network and a trimap-based method."""
    root = make_set(tmp_path / "people", faces=True, layout=("blurred_image", "alpha"))
    shutil.copytree(root / "blurred_image", root / "original_image")
    wrong = {"p0": 20, "p1": 60, "p2": 40}  # so much less red in the normal faces
    for name, less in wrong.items():
        for form in ("blurred_image", "original_image"):
            pixels = imageio.read_image(root / form / f"{name}.png").rgb.copy()
            pixels[20:28, 28:36, 0] -= np.uint8(less if form == "original_image" else 10)
            imageio.write_png(root / form / f"{name}.png", pixels)
    sets = [f"B={root}/blurred_image", f"N={root}/original_image"]
    models = ["--model", f"B={red_model(tmp_path)}", "--model", "B=cf"]
    arguments = ["--ppt", *sets, *models, "--route", "float", "--trimap-kernel", "5"]
    code, report = run(capsys, *arguments)
    assert code == 0
    assert [(r["pair"], r["protocol"]["set_name"]) for r in report["results"]] == [
        ("B:B", "people/blurred_image"), ("B:N", "people/original_image"),
    ] * 2  # fmt: skip
    whole, face, *by_trimap = report["differences"]
    for found in (whole, face):
        assert (found["training"], found["method"], found["pictures"]) == ("B", "red", 3)
        assert found["blurred"] == pytest.approx(64 * 10 / 255 / 1000, rel=1e-4)
        assert found["normal"] == pytest.approx(64 * 40 / 255 / 1000, rel=1e-4)
        assert found["relative"] == pytest.approx(3, rel=1e-3)
        # the means of three draws of 1, 3 and 5 times 10: each end is one draw in 27
        assert found["interval"] == pytest.approx([1, 5], rel=1e-3)
    assert [(one["method"], one["measure"]) for one in by_trimap] == [("cf", "SAD"), ("cf", "SAD_FACE")]
    assert by_trimap[0]["blurred"] > by_trimap[1]["blurred"] >= 0
    assert main(["eval", *arguments, "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "+300.0%" in shown
    assert (
        "| B | red | float | SAD FACE | 3 | 0.003 | 0.010 | +300.0% | +100.0% to +500.0% |"
        in (tmp_path / "out/report.md").read_text()
    )
    (root / "original_image/p1.png").write_bytes(b"")  # what failed in one form counts in neither
    code, report = run(capsys, *arguments)
    assert (code, report["differences"][0]["pictures"]) == (1, 2)
    assert report["differences"][0]["normal"] == pytest.approx(64 * 30 / 255 / 1000, rel=1e-4)
    assert run(capsys, "--ppt", sets[0], f"B={root}/original_image", *models)[0] == 2


def test_other_pictures_are_not_compared(tmp_path, capsys):
    make_set(tmp_path / "one", layout=("blurred_image", "mask"))
    make_set(tmp_path / "other", 2, layout=("original_image", "mask"))
    model = red_model(tmp_path, "[input]\nscale = 0")
    code, report = run(capsys, "--ppt", f"B={tmp_path}/one", f"N={tmp_path}/other", "--model", f"B={model}")
    assert (code, report["differences"]) == (0, [])
    smaller = disc(40, 40)
    for folder, pixels in (("original_image", portrait(smaller)), ("mask", smaller)):
        for number in range(3):
            imageio.write_png(tmp_path / "other" / folder / f"p{number}.png", pixels)
    code, report = run(capsys, "--ppt", f"B={tmp_path}/one", f"N={tmp_path}/other", "--model", f"B={model}")
    assert (code, report["differences"]) == (0, [])  # the names are the same, the sizes are not


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
        (["SET", "--model", "cf", "--trimap-kernel", "99999"], 2, "'99999' is not a kernel of 1 to 1000 pixels"),
        (["SET", "--model", "cf", "--alpha-from", "red"], 2, "choose from"),
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


def test_mattes_that_are_not_what_they_seem(tmp_path, capsys):
    """They are refused with what to do; an option says what they are, and the figures are those of that."""
    root = make_set(tmp_path / "set", 2)
    for number in range(2):
        alpha = imageio.read_mask(root / f"alpha/p{number}.png")
        imageio.write_png(root / f"alpha/p{number}.png", (alpha > 127).astype(np.uint8))
    model = red_model(tmp_path)
    arguments = (root, "--model", model, "--route", "float", "--out", tmp_path / "out", "--worst", 0)
    code, report = run(capsys, *arguments)
    assert (code, report["results"][0]["pictures"]) == (1, [])
    assert "--alpha-from mask" in report["results"][0]["failures"][0]["reason"]
    for source, worse in (("mask", False), ("values", True)):
        code, report = run(capsys, *arguments, "--alpha-from", source)
        assert code == 0
        sad = report["results"][0]["means"]["float"]["SAD"]["value"]
        black = sum(portrait(disc(radius=10 + 2 * number))[..., 0].sum() for number in range(2)) / 2 / 255 / 1000
        assert bool(sad > 0.9 * black) is worse  # as values, the truth is black


def test_a_model_that_gives_no_alpha_ends_it(tmp_path, capsys):
    root, model = make_set(tmp_path / "set", 1), red_model(tmp_path, "[input]\nscale = 1")
    code = main(["eval", str(root), "--model", str(model)])
    shown = capsys.readouterr()
    assert (code, shown.out) == (2, "")
    assert "gives values from 0 to 255" in shown.err
    assert 'values = "levels"' in shown.err
