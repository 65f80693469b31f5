"""The parts of a training by themselves: sampler, learning rate, stochastic depth, state, devices, inputs."""

import resource
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from p3m_edge.errors import CheckpointError, MissingError, OutputError, P3MEdgeError, UsageError
from p3m_edge.model import build
from p3m_edge.model.swin import SwinBlock
from p3m_edge.train import config as configs
from p3m_edge.train import launch
from p3m_edge.train.dataset import Sampler
from p3m_edge.train.inputs import Draw, Files, open_inputs
from p3m_edge.train.optim import rate, set_drop_path
from p3m_edge.train.state import SCHEMA, State, load, restore_rng, rng_states, save
from tests.train.conftest import write_set


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_an_epoch_has_every_picture_whichever_process_takes_it(ranks):
    samplers = [Sampler(10, 2, 7, rank, ranks) for rank in range(ranks)]
    assert samplers[0].steps == -(-10 // (2 * ranks))
    for epoch in range(2):
        steps = range(epoch * samplers[0].steps, (epoch + 1) * samplers[0].steps)
        drawn = [draw for step in steps for sampler in samplers for draw in sampler.draws(step)]
        assert {draw.epoch for draw in drawn} == {epoch}
        assert {draw.item for draw in drawn} == set(range(10))
        assert len(drawn) == len(steps) * 2 * ranks


def test_the_order_differs_by_epoch_and_seed_and_can_be_gone_into_anywhere():
    sampler = Sampler(40, 4, 0)
    epochs = [[draw.item for step in range(10 * e, 10 * e + 10) for draw in sampler.draws(step)] for e in range(2)]
    assert epochs[0] != epochs[1]
    assert epochs[0] != sorted(epochs[0])
    assert epochs[0] != [draw.item for step in range(10) for draw in Sampler(40, 4, 1).draws(step)]
    assert sampler.draws(13) == Sampler(40, 4, 0).draws(13)


def test_two_processes_share_what_one_would_see():
    one = Sampler(9, 4, 5)
    two = [Sampler(9, 2, 5, rank, 2) for rank in range(2)]
    for step in range(7):
        assert sorted(one.draws(step)) == sorted(draw for sampler in two for draw in sampler.draws(step))


def test_a_set_smaller_than_a_step():
    assert Sampler(2, 4, 0).draws(0).count(Draw(0, 0)) == 2


@pytest.mark.parametrize(
    ("schedule", "step", "expected"),
    [
        ("constant", 0, 0.25), ("constant", 3, 1.0), ("constant", 4, 1.0), ("constant", 99, 1.0),
        ("linear", 4, 1.0), ("linear", 52, 0.5), ("linear", 76, 0.25),
        ("cosine", 4, 1.0), ("cosine", 52, 0.5), ("cosine", 76, 0.5 - 0.5**1.5),
    ],
)  # fmt: skip
def test_the_rate(schedule, step, expected):
    settings = configs.load(overrides=["optim.lr=1", "optim.warmup_steps=4", f"optim.schedule={schedule}"]).optim
    assert rate(settings, step, 100) == pytest.approx(expected)


@pytest.mark.full
def test_stochastic_depth_leaves_out_branches_of_single_pictures():
    torch.manual_seed(0)
    network = build("swin-t")
    assert set_drop_path(network, 0.5) == 12
    blocks = [module for module in network.modules() if isinstance(module, SwinBlock)]
    block = blocks[-1]  # half of its branches are left out
    x = torch.randn(64, 2, 3, 768)
    with torch.no_grad():
        plain = block.eval()(x)
        attended = x + block.attend(block.norm1(x))
        dropped = block.train()(x)
    untouched = [bool(torch.equal(a, b)) for a, b in zip(dropped, x, strict=True)]
    assert 6 <= sum(untouched) <= 28  # a quarter of 64
    # What is left out depends on the picture: each is one of four combinations, the kept branches doubled.
    with torch.no_grad():
        for picture, before, once in zip(dropped, x, attended, strict=True):
            doubled = before + 2 * (once - before)
            after = [m + 2 * block.mlp.eval()(block.norm2(m)) for m in (before, doubled)]
            assert any(torch.allclose(picture, option, atol=1e-5) for option in (before, doubled, *after))
        first = blocks[0]
        y = torch.randn(8, 7, 7, 96)
        assert torch.equal(first.train()(y), first.eval()(y))
    assert not torch.equal(plain, dropped)


def test_stochastic_depth_is_nothing_without_swin_blocks():
    assert set_drop_path(build("tiny"), 0.5) == 0


@pytest.fixture
def stored():
    torch.manual_seed(0)
    network = build("tiny")
    return State(
        arch="tiny", config=configs.to_table(configs.load("smoke")), step=3,
        inputs=dict.fromkeys(("data", "faces", "start", "digest"), "x"),
        model=network.state_dict(), ema={}, projection={}, optimizer={}, scaler={},
        rng=[rng_states(torch.device("cpu"))], best=float("inf"), best_step=0, stale=0, unreadable=1, unreadable_now=0,
    )  # fmt: skip


def test_a_state_keeps_everything(stored, tmp_path):
    expected = torch.rand(5)
    save(stored, tmp_path / "state.pt")
    back = load(tmp_path / "state.pt")
    assert (back.step, back.best, back.unreadable, back.config) == (3, float("inf"), 1, stored.config)
    assert all(torch.equal(value, back.model[key]) for key, value in stored.model.items())
    restore_rng(back.rng[0], torch.device("cpu"))
    assert torch.equal(torch.rand(5), expected)
    view = torch.stack([back.rng[0]["cpu"], back.rng[0]["cpu"]])[1]
    restore_rng({"cpu": view}, torch.device("cpu"))
    assert torch.equal(torch.rand(5), expected)
    with pytest.raises(ValueError, match="random numbers"):
        restore_rng({"cpu": view[:9]}, torch.device("cpu"))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_a_full_disc_leaves_the_state_before_it(stored, tmp_path):
    path = tmp_path / "state.pt"
    save(stored, path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size // 2, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"the training state .* cannot be written"):
            save(replace(stored, step=4), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert load(path).step == 3
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.pt"]


def test_states_that_cannot_be_used(stored, tmp_path):
    path = tmp_path / "state.pt"
    with pytest.raises(CheckpointError, match="there is no training state"):
        load(path)
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="is damaged"):
        load(path)
    save(stored, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="is damaged"):
        load(path)
    path.write_bytes(whole)
    content = torch.load(path, weights_only=True)
    torch.save({**content, "schema": SCHEMA + 1}, path)
    with pytest.raises(CheckpointError, match="format version 2") as caught:
        load(path)
    assert caught.value.hint == "upgrade p3m-edge"
    torch.save({key: value for key, value in content.items() if key != "optimizer"}, path)
    with pytest.raises(CheckpointError, match="lacks optimizer"):
        load(path)
    torch.save({"state_dict": content["model"]}, path)
    with pytest.raises(CheckpointError, match="is not a training state"):
        load(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("arch", 3), ("arch", torch.zeros(2)), ("config", []), ("config", {"run": 3}), ("config", {5: {}}),
        ("inputs", {}), ("inputs", "data"), ("inputs", {"data": 3}), ("step", 1.5), ("step", -1), ("step", True),
        ("step", torch.zeros(())), ("model", []), ("model", {3: torch.zeros(1)}), ("ema", "x"), ("projection", 5),
        ("optimizer", [1]), ("scaler", 0.5), ("rng", {}), ("rng", ["x"]), ("rng", [{"cpu": 3}]), ("best", "small"),
        ("best", float("nan")), ("best", -1.0), ("best_step", "x"), ("stale", -3), ("unreadable", None),
        ("unreadable_now", 2.0),
    ],
)  # fmt: skip
def test_a_state_with_fields_of_another_type(stored, tmp_path, field, value):
    path = tmp_path / "state.pt"
    save(stored, path)
    assert load(path).step == 3
    save(replace(stored, **{field: value}), path)
    with pytest.raises(CheckpointError, match=rf"is damaged: (its|it lacks) {field}") as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300 + len(str(path))


class Payload:
    """What must not run."""

    def __reduce__(self):
        return exec, ("raise SystemExit",)


def test_a_state_cannot_run_code(tmp_path):
    torch.save({"format": "p3m-edge training state", "schema": 1, "step": Payload()}, tmp_path / "state.pt")
    with pytest.raises(CheckpointError):
        load(tmp_path / "state.pt")


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is here")
@pytest.mark.parametrize(
    ("setting", "kind", "message"),
    [
        ("run.device=cuda", MissingError, "no cuda device"),
        ("run.precision=16-mixed", UsageError, "needs a GPU"),
        ("run.sync_batchnorm=true", UsageError, "needs CUDA, and the device is cpu"),
    ],
)
def test_what_this_machine_cannot_do_is_an_error(setting, kind, message):
    with pytest.raises(kind, match=message):
        launch.device_name(configs.load("smoke", overrides=[setting]).run)


def test_what_is_held_out_is_not_trained_on(portraits):
    settings = configs.load("smoke", overrides=["validation.share=0.3"])
    inputs = open_inputs(str(portraits), None, settings)
    assert isinstance(inputs.train, Files)
    assert isinstance(inputs.held_out, Files)
    train, held_out = ({item.name for item in part.items} for part in (inputs.train, inputs.held_out))
    assert (len(train), len(held_out)) == (7, 3)
    assert not train & held_out
    assert open_inputs(str(portraits), None, settings).digest == inputs.digest
    other = configs.load("smoke", overrides=["validation.share=0.3", "run.seed=1"])
    assert open_inputs(str(portraits), None, other).digest != inputs.digest


def test_of_several_splits_the_training_set_is_taken(tmp_path):
    write_set(tmp_path / "P3M-10k/train", 4)
    write_set(tmp_path / "P3M-10k/validation/P3M-500-P", 3)
    inputs = open_inputs(str(tmp_path / "P3M-10k"), None, configs.load("smoke"))
    assert len(inputs.train) + len(inputs.held_out) == 4
    with pytest.raises(UsageError, match="a test set: training must not see it"):
        open_inputs(str(tmp_path / "P3M-10k/validation/P3M-500-P"), None, configs.load("smoke"))


def test_generated_portraits_held_out_are_others(tmp_path):
    inputs = open_inputs("synth:0", None, configs.load("smoke", overrides=["data.synth_size=[32, 32]"]))
    trained = {inputs.train.read(Draw(0, item)).image.tobytes() for item in range(3)}
    judged = {inputs.held_out.read(Draw(0, item)).image.tobytes() for item in range(3)}
    next_epoch = {inputs.train.read(Draw(1, item)).image.tobytes() for item in range(3)}
    assert len(trained | judged | next_epoch) == 9
    assert np.array_equal(inputs.train.read(Draw(0, 1)).image, inputs.train.read(Draw(0, 1)).image)


@pytest.mark.parametrize(
    ("methods", "faces", "message"),
    [
        ("icp", None, "P3M-CP .icp. needs faces"),
        ("", "synth:3", "no meaning without P3M-CP"),
        ("fcp", "synth:0", "are no faces"),
        ("fcp", "/absent", "/absent is not a folder"),
    ],
)
def test_faces_and_copy_paste_belong_together(methods, faces, message, portraits):
    settings = configs.load("smoke", overrides=[f"copy_paste.methods={[methods] if methods else []}"])
    with pytest.raises(P3MEdgeError, match=message):
        open_inputs(str(portraits), faces, settings)
