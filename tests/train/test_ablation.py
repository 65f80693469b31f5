"""The ablation of P3M-CP: what is trained and tested, what is kept, what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from p3m_edge.cli import main
from p3m_edge.errors import InputError, OutputError, P3MEdgeError, UsageError
from p3m_edge.imageio import MaskError, read_mask, write_png
from p3m_edge.train import ablation
from p3m_edge.train.ablation import Sads, Score, Setting
from p3m_edge.train.folder import locked
from tests.tools import TOOLS, load_tool
from tests.train.conftest import Interrupting, Told

SIZES = ("data.size=32", "data.crops=[48]", "run.batch=2", "log.every=1")


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated portraits: a training set, a test set in both forms, and source faces; tests must not change them."""
    root = tmp_path_factory.mktemp("portraits")
    for name, count, seed, *options in (
        ("train", 6, 1, "--blur-faces"), ("test", 3, 2, "--blur-faces"), ("normal", 3, 2), ("faces", 2, 3),
    ):  # fmt: skip
        arguments = [f"{root}/{name}", f"-n{count}", f"--seed={seed}", "--size=128x128", "--no-colours", "--workers=1"]
        assert main(["data", "synth", *arguments, *options]) == 0
    (root / "normal/image").rename(root / "test/original_image")
    return root


@pytest.fixture(scope="module")
def setting(places: Path) -> Setting:
    return Setting(f"{places}/train", f"{places}/faces", f"{places}/test", "smoke", SIZES, steps=3, seeds=2)


def command(setting: Setting, out: Path) -> list[str]:
    arguments = [
        "--data", setting.data, "--faces", setting.faces, "--test", setting.test, "--preset", setting.preset,
        "--steps", str(setting.steps), "--seeds", str(setting.seeds), "--out", str(out), "--json",
    ]  # fmt: skip
    sets = [part for override in setting.overrides for part in ("--set", override)]
    return [sys.executable, str(TOOLS / "ablate_cp.py"), *arguments, *sets]


@pytest.fixture(scope="module")
def done(setting: Setting, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished ablation; tests must leave it as it was."""
    out = tmp_path_factory.mktemp("ablation") / "out"
    found = subprocess.run(command(setting, out), capture_output=True, text=True, timeout=300, check=False)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout) == json.loads((out / "report.json").read_bytes())
    return out


def test_every_variant_is_trained_and_scored(done: Path, places: Path) -> None:
    report = json.loads((done / "report.json").read_bytes())
    assert report["question"]["train"] == "train (anonymised, 5 pictures, 1 more held out)"
    assert len(report["question"]["pictures"]) == 3
    rows = (done / "report.md").read_text(encoding="utf-8").splitlines()
    for name, methods in ablation.VARIANTS.items():
        assert [row.split(" | ")[1] for row in rows if row.startswith(f"| {name} |")] == ["whole", "face"]
        for seed in (0, 1):
            config = (done / f"runs/{name}-{seed}/config.toml").read_text(encoding="utf-8")
            assert all((f'"{method}"' in config) == (method in methods) for method in ("icp", "fcp"))
            assert f"seed = {seed}\n" in config
            assert (str(places / "faces") in config) == bool(methods)
    weights = {
        (done / f"runs/{name}-{seed}/last.safetensors").read_bytes() for name in report["scores"] for seed in (0, 1)
    }
    assert len(weights) == 8  # seeds and faces reached the networks


def test_the_figures_are_those_of_eval(done: Path, places: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = done / "runs/both-1/last.safetensors"
    arguments = [f"B={places}/test/blurred_image", f"N={places}/test/original_image", "--model", f"B={weights}"]
    how = ["--strategy", "deployed", "--size", "32x32", "--route", "float", "--json"]
    assert main(["eval", "--ppt", *arguments, *how]) == 0
    evaluated = json.loads(capsys.readouterr().out)["differences"]
    score = json.loads((done / "report.json").read_bytes())["scores"]["both"][1]
    for one, where in zip(evaluated, ("whole", "face"), strict=True):
        assert one["blurred"] == pytest.approx(np.mean(score[where]["blurred"]))
        assert one["normal"] == pytest.approx(np.mean(score[where]["normal"]))
    assert score["face"]["blurred"] != score["face"]["normal"]


def test_again_it_takes_what_is_there(done: Path, setting: Setting) -> None:
    times = {path: path.stat().st_mtime_ns for path in (done / "runs").rglob("*") if path.is_file()}
    found = ablation.ablate(setting, done, Told())
    assert times == {path: path.stat().st_mtime_ns for path in (done / "runs").rglob("*") if path.is_file()}
    assert load_tool("ablate_cp").markdown(found) == (done / "report.md").read_text(encoding="utf-8")
    for other in (
        replace(setting, steps=4), replace(setting, seeds=3), replace(setting, size=(64, 64)),
        replace(setting, overrides=(*SIZES, "optim.lr=0.01")), replace(setting, faces="synth:2"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match="another setting"):
            ablation.ablate(other, done, Told())


def test_other_pictures_are_another_question(done: Path, setting: Setting, places: Path, tmp_path: Path) -> None:
    """The folders' names are the same, but not what is in them."""
    out = tmp_path / "out"
    shutil.copytree(done, out)
    moved = {
        min(folder.iterdir()): tmp_path / folder.name for folder in (places / "train").iterdir() if folder.is_dir()
    }
    for here, there in moved.items():
        here.rename(there)
    try:
        with pytest.raises(UsageError, match="of other pictures"):
            ablation.ablate(setting, out, Told())
    finally:
        for here, there in moved.items():
            there.rename(here)
    ablation.ablate(setting, out, Told())


def test_what_has_moved_is_used_at_its_new_place(done: Path, setting: Setting, places: Path, tmp_path: Path) -> None:
    out, unfinished = shutil.copytree(done, tmp_path / "out"), tmp_path / "out/runs/both-1"
    (unfinished / "score.json").unlink()
    there = shutil.copytree(places, tmp_path / "there")
    (there / "train").rename(there / "people")  # the folder's name does not matter
    moved = replace(setting, data=f"{there}/people", faces=f"{there}/faces", test=f"{there}/test")
    found = ablation.ablate(moved, out, Told())
    assert found.question.setting == moved
    assert json.loads((out / "question.json").read_bytes())["setting"]["data"] == f"{there}/people"
    for path in done.glob("runs/*/score.json"):
        assert (out / path.relative_to(done)).read_bytes() == path.read_bytes(), path
    with pytest.raises(InputError) as caught:
        ablation.ablate(replace(moved, data=f"{there}/train"), out, Told())
    assert caught.value.hint == "if it has moved, give its new place: --data ..."
    picture = min((there / "test/original_image").iterdir())
    picture.write_bytes(picture.read_bytes() + b"another")
    with pytest.raises(UsageError, match=r"not the same test$"):
        ablation.ablate(moved, out, Told())


def test_notes_of_earlier_versions_go_on_where_they_were(done: Path, setting: Setting, tmp_path: Path) -> None:
    out = shutil.copytree(done, tmp_path / "out")
    note = json.loads((out / "question.json").read_bytes())
    del note["contents"]
    (out / "question.json").write_text(json.dumps(note), encoding="utf-8")
    with pytest.raises(UsageError, match=r"not the same test$"):  # moved, and nothing tells that it is the same
        ablation.ablate(replace(setting, test=shutil.copytree(setting.test, tmp_path / "test").as_posix()), out, Told())
    assert ablation.ablate(setting, out, Told()).question.contents
    assert json.loads((out / "question.json").read_bytes())["contents"]


@pytest.mark.parametrize("moment", ["at the note and in a training", "before a state", "before a score"])
def test_killed_and_started_again(moment: str, done: Path, setting: Setting, tmp_path: Path) -> None:
    """It ends where an undisturbed one does."""
    alone = replace(setting, seeds=1)
    out, run = tmp_path / "out", tmp_path / "out/runs/ICP-0"
    if moment == "at the note and in a training":
        out.mkdir()
        (out / ".0123456789abcdef.tmp").write_bytes(b"{")
        process = subprocess.Popen(command(alone, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and not (run / "state.pt").exists():
            time.sleep(0.002)
        process.kill()
        assert process.wait() != 0, "it was done before it could be killed"
    else:
        shutil.copytree(done, out)
        kept = ("config.toml",) if moment == "before a state" else ("state.pt", "last.safetensors", "config.toml")
        for path in run.iterdir():
            if path.is_file() and path.name not in kept:
                path.unlink()
    told, copied = Told(), moment.startswith("before")
    ablation.ablate(setting if copied else alone, out, told)
    assert told.steps == sorted(told.steps)
    assert told.steps[-1] == setting.steps * (2 if copied else 4)  # of those that were copied, the others were kept
    for path in sorted(done.glob("runs/*/score.json" if copied else "runs/*-0/score.json")):
        assert (out / path.relative_to(done)).read_bytes() == path.read_bytes(), path


@pytest.mark.parametrize("name", ["question.json", "runs/both-0/score.json"])
@pytest.mark.parametrize("damaged", [b"", b'{"whole": {', b'{"setting": "many", "whole": null}', b"\xff\xfe"])
def test_a_damaged_note_is_one_clear_error(done: Path, setting: Setting, name: str, damaged: bytes) -> None:
    path = done / name
    before = path.read_bytes()
    path.write_bytes(damaged)
    try:
        with pytest.raises(InputError, match=f"{path.name} cannot be read") as caught:
            ablation.ablate(setting, done, Told())
        assert caught.value.hint is not None
    finally:
        path.write_bytes(before)


def test_a_row_has_the_spread_over_seeds_and_the_interval_over_pictures() -> None:
    one, other = Sads((1.0, 3.0), (2.0, 6.0)), Sads((2.0, 4.0), (4.0, 4.0))
    row = ablation.row("none", "whole", (Score(one, one), Score(other, one)))
    assert (row.blurred.mean, row.normal.mean, row.gap.mean) == (2.5, 4.0, 1.5)
    assert row.blurred.deviation == pytest.approx(2**-0.5)  # of 2 and 3
    assert row.gap.deviation == pytest.approx(2**-0.5)  # of 2 and 1
    assert row.interval == (1.5, 1.5)  # a picture's gap is 1.5, the mean over the seeds, in both
    alone = ablation.row("none", "face", (Score(other, one),))
    assert (alone.gap.mean, alone.gap.deviation, alone.interval) == (2.0, 0.0, (1.0, 3.0))


def _copied(places: Path, tmp_path: Path, name: str) -> Path:
    return Path(shutil.copytree(places / name, tmp_path / name))


def _other_pictures(places: Path, tmp_path: Path) -> dict[str, str]:
    test = _copied(places, tmp_path, "test")
    min((test / "original_image").iterdir()).unlink()
    return {"test": str(test)}


def _without_masks(places: Path, tmp_path: Path) -> dict[str, str]:
    test = _copied(places, tmp_path, "test")
    min((test / "facemask").iterdir()).unlink()
    return {"test": str(test)}


def _one_form(places: Path, tmp_path: Path) -> dict[str, str]:
    return {"test": f"{places}/train"}


def _seen(places: Path, tmp_path: Path) -> dict[str, str]:
    return {"data": f"{places}/test"}


def _not_hidden(places: Path, tmp_path: Path) -> dict[str, str]:
    return {"data": f"{places}/test/original_image"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_other_pictures, "other pictures"), (_without_masks, "no face mask"), (_one_form, "original_image"),
        (_seen, "trained on as well"), (_not_hidden, "not hidden"),
        (lambda *_: {"faces": "nowhere"}, "nowhere"), (lambda *_: {"encoder_weights": "none.pth"}, "none.pth"),
        (lambda *_: {"preset": "mobil"}, "unknown preset"), (lambda *_: {"overrides": ("run.seed=3",)}, "not free"),
        (lambda *_: {"overrides": ("feature_paste.levels=[9]",)}, "feature_paste.levels"),
        (lambda *_: {"overrides": ("optim.lr=fast",)}, "optim.lr"),
    ],
)  # fmt: skip
def test_what_is_wrong_shows_before_anything_is_trained(
    make: Callable[[Path, Path], dict[str, str]], message: str, setting: Setting, places: Path, tmp_path: Path
) -> None:
    changed = make(places, tmp_path)
    with pytest.raises(P3MEdgeError, match=message):
        ablation.ablate(replace(setting, **changed), tmp_path / "out", Told())  # type: ignore[arg-type]  # that is what is tested
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_else(setting: Setting, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(UsageError, match="not an empty folder"):
        ablation.ablate(setting, tmp_path, Told())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_an_interrupt_at_a_trainings_last_step_ends_all_of_them(setting: Setting, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for runs in (1, 2):  # again at the end of the second
        with pytest.raises(KeyboardInterrupt):
            ablation.ablate(setting, out, Interrupting(runs * setting.steps))
        assert len(list((out / "runs").iterdir())) == runs
        assert len(list((out / "runs").glob("*/score.json"))) == runs - 1


def test_one_ablation_at_a_time_is_in_a_folder(setting: Setting, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with locked(out), pytest.raises(OutputError, match="another training is writing"):
        ablation.ablate(setting, out, Told())
    assert not out.exists()


def test_mattes_of_a_stated_form_are_trained_on_and_tested_with(places: Path, setting: Setting, tmp_path: Path) -> None:
    root = shutil.copytree(places, tmp_path / "places")
    for path in (*(root / "train/alpha").iterdir(), *(root / "test/alpha").iterdir()):
        write_png(path, (read_mask(path) > 127).astype(np.uint8))
    moved = replace(setting, data=f"{root}/train", test=f"{root}/test", seeds=1, steps=1)
    with pytest.raises(MaskError, match="probably a mask of 0 and 1"):
        ablation.ablate(moved, tmp_path / "refused", Told())
    stated = replace(moved, overrides=(*moved.overrides, "data.alpha_from=mask"))
    found = ablation.ablate(stated, tmp_path / "out", Told())
    assert found.question.setting.overrides[-1] == "data.alpha_from=mask"
    for path in (*(root / "train/alpha").iterdir(), *(root / "test/alpha").iterdir()):
        write_png(path, np.where(read_mask(path, source="values") > 0, 255, 0).astype(np.uint8))
    assert ablation.ablate(moved, tmp_path / "plain", Told()).scores == found.scores
