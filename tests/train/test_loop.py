"""What a training does and writes, on the tiny network."""

import csv
import json
import shutil
import sys
from dataclasses import replace
from typing import get_args

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from p3m_edge import model
from p3m_edge.cli import main
from p3m_edge.data.faces import synthetic_faces
from p3m_edge.errors import InputError, P3MEdgeError, UsageError
from p3m_edge.imageio import MaskError
from p3m_edge.train import config as configs
from p3m_edge.train.request import TrainRequest
from p3m_edge.train.run import train
from p3m_edge.train.state import load, save
from tests.train.conftest import TINY, Interrupting, Told, write_set


def tensors(path):
    return model.load_checkpoint(path).state_dict()


def same(first, second):
    """Whether the tensors are equal, but for the norms' counters, which files of weights do not hold."""
    return all(
        torch.equal(value, second[key]) for key, value in first.items() if not key.endswith("num_batches_tracked")
    )


def grey(path) -> np.ndarray:
    return np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), dtype=np.uint8)


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_what_is_in_the_runs_folder(training, tmp_path, portraits):
    told = Told()
    result = training("run.licence=CC0", "log.tensorboard=true", told=told)
    run = tmp_path / "run"
    assert result.step == result.plan.steps == 2 * result.plan.steps_per_epoch == 10
    assert told.steps == list(range(1, 11))
    assert [int(row["step"]) for row in rows(run / "log.csv")] == told.steps
    judged = rows(run / "validation.csv")
    assert [int(row["step"]) for row in judged] == [5, 10]
    assert min(float(row["sad"]) for row in judged) == result.best_sad
    assert sorted(path.name for path in (run / "sheets").iterdir()) == ["step-0000005.png", "step-0000010.png"]
    assert list((run / "tensorboard").iterdir())
    stored = configs.load(file=run / "config.toml")
    assert stored == configs.from_table(load(run / "state.pt").config)
    assert stored.run.licence == "CC0"
    info = model.inspect_checkpoint(result.last)
    assert (info.arch, info.trained, info.licence) == ("tiny", True, "CC0")
    assert "10 steps" in info.provenance
    assert "no P3M-CP" in info.provenance
    assert str(portraits) not in info.provenance  # paths of the machine stay on it
    assert same(tensors(result.last), load(run / "state.pt").model)


def test_it_learns(training):
    worse = training("run.max_steps=1", "optim.lr=1e-9", out_name="worse")
    better = training("run.epochs=16", "optim.lr=5e-3", out_name="better")
    assert better.losses["total"] < 0.8 * worse.losses["total"]
    assert better.best_sad < 0.8 * worse.best_sad


def test_equal_seeds_give_equal_weights_and_others_others(training):
    first, second, other = (
        training(f"run.seed={seed}", out_name=name) for name, seed in (("first", 3), ("second", 3), ("other", 4))
    )
    assert same(tensors(first.last), tensors(second.last))
    assert not same(tensors(first.last), tensors(other.last))


def test_workers_prepare_the_same_pictures(training):
    alone, helped = (training(f"data.workers={n}", "data.jpeg=0.5", out_name=str(n)) for n in (0, 2))
    assert same(tensors(alone.last), tensors(helped.last))


def test_copy_paste_with_probability_zero_is_plain_training(training):
    settings = ("run.max_steps=3", 'copy_paste.methods=["icp", "fcp"]', "feature_paste.from_epoch=0")
    never = ("image_paste.probability=0", "feature_paste.probability=0")
    plain = training("run.max_steps=3", out_name="plain")
    unused = training(*settings, *never, faces="synth:2", out_name="unused")
    used = training(*settings, faces="synth:2", out_name="used")
    assert same(tensors(plain.last), tensors(unused.last))
    assert not same(tensors(plain.last), tensors(used.last))
    info = model.inspect_checkpoint(used.last)
    assert "P3M-ICP and P3M-FCP" in info.provenance
    assert info.licence == f"not stated; source faces: {synthetic_faces(0, 2).licence}"


def test_the_averaged_weights_are_judged_and_kept(training, tmp_path):
    result = training("optim.ema=0.9", "optim.lr=1e-2", "run.epochs=1")
    stored = load(tmp_path / "run/state.pt")
    averaged = {key.removeprefix("module."): value for key, value in stored.ema.items() if key.startswith("module.")}
    kept = tensors(result.last)
    assert all(torch.equal(kept[key], averaged[key]) for key in kept if not key.endswith("num_batches_tracked"))
    assert not same(kept, stored.model)


def test_pictures_of_the_networks_own_size_are_judged_as_they_are(tmp_path):
    """They come from the cache, which nobody may write to, and reach PyTorch without having been resized."""
    small = write_set(tmp_path / "small", 3)
    for path in small.rglob("*.png"):
        with Image.open(path) as picture:
            picture.resize((32, 32)).save(path)
    config = configs.load("smoke", None, [*TINY, "run.epochs=1"])
    result = train(TrainRequest(config, str(small), tmp_path / "run"), Told())
    assert result is not None
    assert 0 < result.best_sad < float("inf")


def test_frozen_norms_keep_their_statistics(training):
    result = training("run.freeze_batchnorm=true", "optim.lr=1e-2", "run.epochs=1")
    state = tensors(result.last)
    statistics = [value for key, value in state.items() if key.endswith(("running_mean", "running_var"))]
    assert statistics
    assert all(torch.equal(value, torch.full_like(value, float(value.flatten()[0]))) for value in statistics)


def test_an_encoder_that_has_learned_waits_for_the_decoders_to_warm_up(training):
    """And learns at its share of the rate afterwards: with Adam, a first step is as long as the rate."""

    def moved(warmup: int, share: float) -> dict[str, float]:
        settings = ("run.max_steps=1", f"optim.warmup_steps={warmup}", "optim.lr=1e-4", f"optim.encoder_lr={share}")
        still, done = (
            tensors(training(*settings, more, out_name=f"{warmup} {share} {more}").last)
            for more in ("run.max_steps=1", "optim.lr=1e-30")
        )
        parts = ("encoder", "global_decoder", "local_decoder")
        return {
            part: max(
                float((value - done[key]).abs().max())
                for key, value in still.items()
                if key.startswith(part) and value.is_floating_point() and "running" not in key
            )
            for part in parts
        }

    waiting, warm = moved(1000, 0.5), moved(0, 0.5)
    assert waiting["encoder"] == 0 < waiting["global_decoder"]
    assert warm["encoder"] == pytest.approx(5e-5, rel=0.02)
    assert warm["local_decoder"] == pytest.approx(1e-4, rel=0.02)
    assert moved(1000, 1.0)["encoder"] > 0


def test_a_set_of_its_own_is_judged_and_all_others_are_trained_on(training, portraits, tmp_path):
    judged = write_set(tmp_path / "judged", 3)
    result = training(f"validation.data={judged}", "run.epochs=1")
    assert (result.plan.pictures, result.plan.held_out) == (10, 3)
    assert (tmp_path / "run/validation.csv").read_text().splitlines()[1].endswith(",3")
    with pytest.raises(UsageError, match="is trained on as well"):
        training(f"validation.data={portraits}", out_name="same")
    with pytest.raises(InputError, match="nowhere"):
        training(f"validation.data={tmp_path / 'nowhere'}", out_name="nowhere")


@pytest.mark.parametrize("part", get_args(configs.Part))
def test_a_frozen_part_stays_as_it_is_and_the_others_learn(training, part):
    results = [
        training(f'optim.frozen=["{part}"]', f"optim.lr={lr}", "optim.ema=0.5", "run.max_steps=2", out_name=lr)
        for lr in ("1e-4", "1e-2")
    ]
    slow, fast = (tensors(result.last) for result in results)
    moved = {key.split(".")[0] for key, value in slow.items() if not torch.equal(value, fast[key])}
    assert moved == set(get_args(configs.Part)) - {part}
    assert f"; {part} stayed as it was" in model.inspect_checkpoint(results[0].last).provenance


def test_a_network_that_is_frozen_whole_is_refused():
    frozen = 'optim.frozen=["local_decoder", "encoder", "global_decoder"]'
    with pytest.raises(UsageError, match=r"^optim\.frozen leaves nothing that could learn$"):
        configs.load("smoke", overrides=(frozen,))


def test_it_stops_when_nothing_gets_better(training):
    result = training("run.epochs=9", "optim.lr=1e-30", "run.freeze_batchnorm=true", "validation.patience=2")
    assert result.reason == "no improvement"
    assert result.step == 3 * result.plan.steps_per_epoch
    assert result.best_step == result.plan.steps_per_epoch


def test_a_loss_that_is_not_finite_stops_it_and_keeps_the_batch(training, tmp_path):
    with pytest.raises(P3MEdgeError, match="not finite in step") as caught:
        training("optim.lr=1e37", "run.epochs=5")
    assert "optim.lr" in str(caught.value.hint)
    (path,) = (tmp_path / "run").glob("not-finite-step-*-rank-0.npz")
    kept = np.load(path)
    assert kept["image"].shape == (2, 3, 32, 32)
    assert kept["names"].shape == (2,)
    assert all(bool(torch.isfinite(value).all()) for value in load(tmp_path / "run/state.pt").model.values())


@pytest.fixture
def damaged(portraits, tmp_path):
    """A copy of the set in which so many pictures are cut short."""

    def make(count: int):
        root = shutil.copytree(portraits, tmp_path / "damaged")
        for path in sorted((root / "blurred_image").iterdir())[:count]:
            path.write_bytes(path.read_bytes()[:300])
        return root

    return make


def test_a_picture_cut_short_is_named_skipped_and_counted(damaged, training, tmp_path):
    told = Told()
    result = training("run.epochs=3", "run.seed=1", data=damaged(1), told=told)
    assert result.step == 15
    assert result.unreadable == len(told.warnings) == 3
    assert all("p00.png" in line for line in told.warnings)
    assert (tmp_path / "run/unreadable.txt").read_text().count("p00.png") == 3


def test_too_many_of_them_stop_it(damaged, training):
    with pytest.raises(InputError, match="of 9 pictures cannot be used") as caught:
        training("run.seed=1", data=damaged(4))
    assert "unreadable.txt" in str(caught.value.hint)


def test_odd_pictures_are_trained_on(training, tmp_path):
    root = write_set(tmp_path / "odd", 6)

    def put(folder: str, name: str, array: np.ndarray) -> None:
        assert cv2.imwrite(str(root / folder / name), array)

    put("mask", "p00.png", np.zeros_like(grey(root / "mask/p00.png")))  # nobody there, nothing unknown
    put("mask", "p01.png", np.full_like(grey(root / "mask/p01.png"), 255))
    put("mask", "p02.png", grey(root / "mask/p02.png").astype(np.uint16) * 257)
    put("mask", "p03.png", np.repeat(grey(root / "mask/p03.png")[..., None], 3, axis=2))
    for folder in ("blurred_image", "mask", "facemask"):  # one pixel
        put(folder, "p04.png", np.full((1, 1), 200, np.uint8))
    told = Told()
    result = training("run.epochs=4", data=root, told=told)
    assert (result.unreadable, told.warnings) == (0, [])


def test_a_mask_of_another_size_is_skipped(training, tmp_path):
    root = write_set(tmp_path / "sizes", 6)
    assert cv2.imwrite(str(root / "mask/p00.png"), np.zeros((9, 9), np.uint8))
    told = Told()
    training("run.seed=1", data=root, told=told)
    assert told.warnings
    assert all("mask/p00.png is 9 x 9 pixels" in line for line in told.warnings)


def test_a_run_goes_on_with_its_own_settings(training, tmp_path, capsys):
    training("run.max_steps=1")
    for change in ("model.arch=r34", "optim.lr=1", "run.batch=4"):
        assert main(["train", "--out", str(tmp_path / "run"), "--resume", "--set", change]) == 2
        name = change.partition("=")[0]
        assert f"{name} cannot be changed when a run goes on" in capsys.readouterr().err


def test_a_finished_run_can_be_made_longer(training, tmp_path, capsys):
    finished = training()
    assert main(["train", "--out", str(tmp_path / "run"), "--resume", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["step"], result["losses"], result["best_sad"]) == (10, {}, finished.best_sad)
    assert main(["train", "--out", str(tmp_path / "run"), "--resume", "--epochs", "3", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["plan"]["first_step"], result["step"]) == (10, 15)
    longer = training("run.epochs=3", out_name="longer")
    assert same(tensors(result["last"]), tensors(longer.last))


def test_a_set_that_has_changed_is_noticed(training, tmp_path, capsys):
    root = write_set(tmp_path / "set", 6)
    training("run.epochs=1", data=root)
    for folder in ("blurred_image", "mask", "facemask"):
        (root / folder / "p05.png").unlink()
    assert main(["train", "--out", str(tmp_path / "run"), "--resume", "--epochs", "3"]) == 2
    assert "the data set is not the one" in capsys.readouterr().err


def test_a_state_that_does_not_fit_its_network(training, tmp_path, capsys):
    training("run.epochs=1")
    path = tmp_path / "run/state.pt"
    stored = load(path)
    save(replace(stored, model={**stored.model, "encoder.stem.conv.weight": torch.zeros(1)}), path)
    assert main(["train", "--out", str(tmp_path / "run"), "--resume", "--epochs", "3"]) == 5
    assert "does not fit" in capsys.readouterr().err
    save(replace(stored, rng=stored.rng * 2), path)
    assert main(["train", "--out", str(tmp_path / "run"), "--resume", "--epochs", "3"]) == 2
    assert "has 2 processes, not 1" in capsys.readouterr().err


def test_a_folder_that_is_in_use(training, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/state.pt").touch()
    with pytest.raises(UsageError, match="is not empty") as caught:
        training()
    assert "--resume" in str(caught.value.hint)


@pytest.fixture
def masks(portraits, tmp_path):
    """A copy of the set whose mattes have the values 0 and 1."""
    root = shutil.copytree(portraits, tmp_path / "masks")
    for path in (root / "mask").iterdir():
        assert cv2.imwrite(str(path), (grey(path) > 127).astype(np.uint8))
    return root


@pytest.mark.parametrize("workers", [0, 1])
def test_mattes_that_are_not_what_they_seem_end_it(masks, training, workers):
    """Every one of them is not: the picture is not skipped, and what to do survives the way from a worker."""
    with pytest.raises(MaskError, match=r"probably a mask of 0 and 1") as caught:
        training(f"data.workers={workers}", data=masks)
    assert "--alpha-from mask" in str(caught.value.hint)


def test_mattes_of_a_stated_form_are_trained_on_and_judged(masks, training, portraits, tmp_path):
    judged = shutil.copytree(masks, tmp_path / "judged")
    result = training("data.alpha_from=mask", "run.epochs=1", f"validation.data={judged}", data=masks)
    assert (result.unreadable, result.plan.held_out) == (0, 8)
    hard = shutil.copytree(portraits, tmp_path / "hard")
    for path in (hard / "mask").iterdir():
        assert cv2.imwrite(str(path), np.where(grey(path) > 127, 255, 0).astype(np.uint8))
    same_mattes = training("run.epochs=1", f"validation.data={judged}", "data.alpha_from=mask", data=hard, out_name="2")
    assert same(tensors(result.last), tensors(same_mattes.last))


def damage(path) -> None:
    path.write_bytes(path.read_bytes()[:300])


@pytest.fixture
def sources(portraits, tmp_path):
    """Source faces of which one is damaged, and pictures to stand before of which one is."""
    faces = shutil.copytree(portraits, tmp_path / "faces")
    damage(faces / "blurred_image/p03.png")
    scenes = shutil.copytree(portraits / "blurred_image", tmp_path / "scenes")
    damage(scenes / "p04.png")
    return faces, scenes


def test_damaged_faces_and_backgrounds_are_no_unreadable_portraits(sources, training, tmp_path):
    """They are named once by whoever met them; others stand in their places, and no portrait is left out."""
    faces, scenes = sources
    settings = (
        'copy_paste.methods=["icp", "fcp"]', "feature_paste.from_epoch=0", "image_paste.probability=1",
        "data.compose=1", f"data.backgrounds={scenes}", "run.epochs=6", "data.max_unreadable=0",
    )  # fmt: skip
    results = []
    for workers in (0, 2):
        told = Told()
        results.append(
            training(f"data.workers={workers}", *settings, faces=str(faces), told=told, out_name=str(workers))
        )
        assert results[-1].unreadable == 0
        assert {line.rpartition("/")[2][:7] for line in told.warnings} == {"p03.png", "p04.png"}
        assert len(told.warnings) <= 2 * max(workers, 1)
        assert "p03.png" in (tmp_path / f"{workers}/unreadable.txt").read_text()
    assert same(*(tensors(result.last) for result in results))


def test_source_faces_of_which_none_can_be_used(portraits, training, tmp_path):
    faces = shutil.copytree(portraits, tmp_path / "faces")
    for path in (faces / "blurred_image").iterdir():
        damage(path)
    settings = ('copy_paste.methods=["icp"]', "image_paste.probability=1")
    with pytest.raises(P3MEdgeError, match="8 source faces one after the other cannot be used, the last: ") as caught:
        training(*settings, faces=str(faces))
    assert not isinstance(caught.value, InputError)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_an_interrupt_after_the_last_step_counts_too(training, tmp_path):
    """What there is to do is done, and whoever started it is told: an ablation would go on with its next training."""
    told = Interrupting(10)
    with pytest.raises(KeyboardInterrupt):
        training(told=told)
    assert told.steps == list(range(1, 11))
    assert load(tmp_path / "run/state.pt").step == 10
    assert model.inspect_checkpoint(tmp_path / "run/last.safetensors").trained
