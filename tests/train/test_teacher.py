"""Trainings with a teacher: what comes of them, going on with them, and that the student learns."""

import csv
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

from p3m_edge import model
from p3m_edge.cli import main
from p3m_edge.errors import CheckpointError, InputError, UsageError
from p3m_edge.train import config as configs
from p3m_edge.train.request import TrainRequest
from p3m_edge.train.run import resumed, train
from p3m_edge.train.state import load
from tests.train.conftest import TINY, Told, write_set
from tests.train.test_distributed import command, losses, run
from tests.train.test_loop import same, tensors
from tests.train.test_resume import assert_equal

FEATURES = ("distillation.features=0.1", "distillation.levels=[2, 4]")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Path:
    """A network with weights of its own; that they were trained is a lie."""
    path: Path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    torch.manual_seed(5)
    model.save_checkpoint(model.build("tiny"), path, licence="CC-BY", provenance="drawn for a test", trained=True)
    return path


@pytest.fixture
def pictures(portraits, tmp_path) -> Path:
    """Ten pictures in a plain folder."""
    return Path(shutil.copytree(portraits / "blurred_image", tmp_path / "photos"))


def test_pictures_without_mattes_alone(training, tmp_path, teacher, pictures):
    told = Told()
    result = training(data=None, unlabelled=pictures, teacher=teacher, told=told)
    assert [line.partition(": ")[2] for line in told.warnings] == [
        "faces: not known to be blurred; p3m-edge data anonymize blurs them",
        "judged by the teacher's mattes, which are no ground truth",
    ]
    assert (result.plan.judged_by, result.plan.blurred) == ("the teacher", None)
    assert (result.plan.pictures, result.plan.held_out) == (9, 1)
    assert result.losses["teacher"] == result.losses["total"] > 0
    assert result.losses["cross_entropy"] == result.losses["alpha_whole"] == 0
    info, taught_by = model.inspect_checkpoint(result.last), model.inspect_checkpoint(teacher)
    assert result.plan.teacher == taught_by
    assert info.licence == "not stated; teacher: CC-BY"
    for part in (taught_by.sha256, "drawn for a test", "taught by a tiny", "judged by the teacher's mattes", "photos"):
        assert part in info.provenance
    assert str(tmp_path) not in info.provenance
    assert set(load(tmp_path / "run/state.pt").model) == set(model.build("tiny").state_dict())


def test_both_kinds_of_pictures(training, tmp_path, teacher, pictures):
    for name in ("p00.png", "p01.png"):
        (pictures / name).rename(pictures / f"other-{name}")
    result = training("run.max_steps=3", teacher=teacher, unlabelled=pictures)
    assert (result.plan.judged_by, result.plan.pictures) == ("ground truth", 20)
    assert result.losses["cross_entropy"] + result.losses["teacher"] > 0
    with (tmp_path / "run/log.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name.startswith("teacher")]
    assert len(names) == 6
    assert all(float(row[name]) > 0 for row in rows for name in names)


def test_data_alone_and_another_architecture(training, tmp_path):
    torch.manual_seed(0)
    large = tmp_path / "r34.safetensors"
    model.save_checkpoint(model.build("r34"), large, licence="CC0", provenance="drawn", trained=True)
    result = training("run.max_steps=2", *FEATURES, teacher=large)
    assert result.plan.teacher is not None
    assert result.plan.teacher.arch == "r34"
    assert result.losses["teacher_features"] > 0
    assert result.losses["total"] > result.losses["teacher"]
    assert sorted(tensors(result.last)) == sorted(model.build("tiny").state_dict())


def test_without_a_teacher_nothing_has_changed(training, teacher):
    """Its terms with a weight of next to nothing leave the first step as it is: the same weights and random numbers."""
    alone = training("run.max_steps=1", "optim.lr=1e-3", out_name="alone")
    weights = ("distillation.alpha=1e-30", "distillation.local=0", "distillation.logits=0")
    taught = training("run.max_steps=1", "optim.lr=1e-3", *weights, teacher=teacher, out_name="taught")
    assert same(tensors(alone.last), tensors(taught.last))


def test_unreadable_pictures_are_skipped_and_counted(training, teacher, pictures, tmp_path):
    (pictures / "p03.png").write_bytes(b"no picture")
    told = Told()
    result = training("run.seed=1", "run.epochs=1", data=None, unlabelled=pictures, teacher=teacher, told=told)
    assert result.unreadable == sum("p03.png" in line for line in told.warnings) == 1
    for path in list(pictures.iterdir())[:7]:
        path.write_bytes(b"no picture")
    with pytest.raises(InputError, match="pictures"):
        training("run.seed=1", data=None, unlabelled=pictures, teacher=teacher, out_name="more")


@pytest.mark.parametrize(("name", "blurred"), [("blurred_image", True), ("original_image", False), ("image", None)])
def test_faces_as_far_as_the_folders_name_says(name, blurred, training, pictures, teacher):
    told = Told()
    folder = pictures.rename(pictures.with_name(name))
    result = training("run.max_steps=1", data=None, unlabelled=folder, teacher=teacher, told=told)
    assert result.plan.blurred is blurred
    faces = {True: None, False: "faces: not blurred", None: "faces: not known to be blurred"}[blurred]
    assert [line for line in told.warnings if "faces" in line and (faces is None or faces not in line)] == []
    assert len(told.warnings) == 1 + (faces is not None)


def test_the_pictures_of_the_set_are_no_others(training, portraits, teacher):
    with pytest.raises(UsageError, match="has pictures of --data"):
        training(teacher=teacher, unlabelled=portraits / "blurred_image")


def test_the_test_sets_are_no_pictures_to_learn_from(training, tmp_path, teacher):
    root = write_set(tmp_path / "P3M-500-NP", 3)
    with pytest.raises(UsageError, match="a test set"):
        training(data=None, teacher=teacher, unlabelled=root / "blurred_image")


def test_resumed_it_ends_where_an_undisturbed_one_does(training, tmp_path, teacher, pictures):
    settings = ("optim.ema=0.9", "run.epochs=100", *FEATURES)
    given = {"teacher": teacher, "unlabelled": pictures}
    for name, steps in (("whole", 12), ("parted", 5)):
        training(*settings, f"run.max_steps={steps}", "validation.every=100", out_name=name, **given)
    assert train(resumed(tmp_path / "parted", ["run.max_steps=12"]), Told()) is not None
    whole, parted = (load(tmp_path / name / "state.pt") for name in ("whole", "parted"))
    assert whole.step == parted.step == 12
    for part in ("model", "ema", "projection", "optimizer", "rng", "inputs"):
        assert_equal(getattr(parted, part), getattr(whole, part), part)
    assert whole.projection
    first, second = (model.inspect_checkpoint(tmp_path / name / "last.safetensors") for name in ("whole", "parted"))
    assert first == second


def test_a_resumption_needs_the_same_teacher(training, tmp_path, teacher, capsys):
    mine = Path(shutil.copy(teacher, tmp_path / "mine.safetensors"))
    training("run.max_steps=1", teacher=mine)
    network, info = model.read_checkpoint(teacher)
    model.save_checkpoint(network, mine, licence=info.licence, provenance="another", trained=True)
    go_on = ["train", "--out", str(tmp_path / "run"), "--resume", "--steps", "2"]
    for more in ([], ["--dry-run"]):
        assert main([*go_on, *more]) == 2
        assert "is not the teacher that the run was started with" in capsys.readouterr().err
    mine.unlink()
    assert main(go_on) == 5
    assert "there is no teacher" in capsys.readouterr().err
    shutil.copy(teacher, mine)
    assert main(go_on) == 0


def test_a_state_of_an_earlier_version_goes_on(training, tmp_path):
    training("run.max_steps=1")
    path = tmp_path / "run/state.pt"
    content = torch.load(path, weights_only=True)
    del content["projection"], content["config"]["distillation"], content["inputs"]["teacher"]
    del content["inputs"]["teacher_sha256"], content["inputs"]["unlabelled"]
    torch.save(content, path)
    result = train(resumed(tmp_path / "run", ["run.max_steps=2"]), Told())
    assert result is not None
    assert result.step == 2


def test_a_stand_in_teaches_only_where_it_may(training, tmp_path, teacher):
    path = tmp_path / "standin.safetensors"
    model.save_checkpoint(model.build("tiny"), path, licence="CC0", provenance="stand-in", trained=False)
    with pytest.raises(UsageError, match="nobody trained") as caught:
        training(teacher=path)
    assert "distillation.standin=true" in str(caught.value.hint)
    result = training("distillation.standin=true", "run.max_steps=1", teacher=path)
    assert "taught by a tiny that nobody trained" in model.inspect_checkpoint(result.last).provenance


def test_teachers_without_sense(training, tmp_path, teacher, pictures):
    weightless = ("distillation.alpha=0", "distillation.local=0", "distillation.logits=0")
    with pytest.raises(UsageError, match="teaches nothing"):
        training(*weightless, teacher=teacher)
    with pytest.raises(UsageError, match="need a teacher"):
        training(unlabelled=pictures)
    run_folder = training("run.max_steps=1", out_name="earlier").folder
    with pytest.raises(UsageError, match="is the state of a training") as caught:
        training(teacher=run_folder / "state.pt")
    assert "best.safetensors" in str(caught.value.hint)
    renamed = shutil.copy(run_folder / "state.pt", tmp_path / "renamed.pt")
    with pytest.raises(CheckpointError, match="there is no teacher"):
        training(teacher=Path(renamed))
    itself = TrainRequest(
        configs.load("smoke", overrides=TINY), None, tmp_path / "itself",
        weights=teacher, teacher=teacher, unlabelled=str(pictures),
    )  # fmt: skip
    with pytest.raises(UsageError, match="starts as its own teacher"):
        train(itself, Told())


@pytest.mark.full
@pytest.mark.skipif(sys.platform == "win32", reason="gloo under torchrun is not tested on Windows")
def test_two_processes_learn_from_a_teacher_as_one(tmp_path, teacher, pictures):
    data = write_set(tmp_path / "set", 6, colours=True)
    given = ("--teacher", str(teacher), "--unlabelled", str(pictures))
    one = run(*command(data, tmp_path / "one", "run.batch=4", *FEATURES), *given)
    elastic = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    two = run(*elastic, *command(data, tmp_path / "two", "run.batch=2", *FEATURES), *given)
    documents = []
    for process in (one, two):
        out, error = process.communicate(timeout=300)
        assert process.returncode == 0, error
        assert error.count("not known to be blurred") == 1  # the first process alone says it
        documents.append(json.loads(out))
    single, double = losses(tmp_path / "one"), losses(tmp_path / "two")
    for a, b in zip(single, double, strict=True):
        assert b == pytest.approx(a, rel=1e-4)
    assert single[0]["teacher"] != pytest.approx(single[-1]["teacher"], rel=0.01)
    assert documents[1]["best_sad"] == pytest.approx(documents[0]["best_sad"], rel=1e-4)
    states = [load(tmp_path / name / "state.pt").projection for name in ("one", "two")]
    for key, value in states[0].items():
        torch.testing.assert_close(states[1][key], value, rtol=1e-3, atol=1e-5)
