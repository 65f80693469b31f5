"""The mobile network in training: P3M-CP, averaged weights, files, going on; its preset."""

import pytest
import torch

from p3m_edge.errors import UsageError
from p3m_edge.model import read_checkpoint
from p3m_edge.train import config as configs
from p3m_edge.train.request import TrainRequest
from p3m_edge.train.run import plan, resumed, train
from p3m_edge.train.state import load
from tests.train.conftest import TINY, Told

SETTINGS = (
    *TINY, "data.size=64", "data.crops=[64]", "run.max_steps=6", "run.epochs=9", "run.half_weights=true",
    "optim.ema=0.9", "optim.schedule=constant",
    'copy_paste.methods=["icp", "fcp"]', "feature_paste.from_epoch=0", "feature_paste.levels=[1, 3, 5]",
)  # fmt: skip


def request(portraits, out, *overrides: str) -> TrainRequest:
    return TrainRequest(configs.load("mobile", overrides=(*SETTINGS, *overrides)), str(portraits), out, "synth:2")


def test_pasted_averaged_stopped_and_resumed_it_ends_where_an_undisturbed_one_does(portraits, tmp_path):
    whole = train(request(portraits, tmp_path / "whole"), Told())
    assert train(request(portraits, tmp_path / "parted", "run.max_steps=3"), Told()) is not None
    parted = train(resumed(tmp_path / "parted", ["run.max_steps=6"]), Told())
    assert whole is not None
    assert parted is not None
    assert (whole.step, parted.step, whole.plan.arch) == (6, 6, "mobile")
    states = [load(tmp_path / name / "state.pt") for name in ("whole", "parted")]
    for name, value in states[0].ema.items():
        assert torch.equal(states[1].ema[name], value), name
    assert whole.last.read_bytes() == parted.last.read_bytes()
    network, info = read_checkpoint(whole.last)
    assert (info.arch, info.trained) == ("mobile", True)
    assert "P3M-ICP and P3M-FCP" in info.provenance
    averaged = states[0].ema["module.encoder.stem.conv.weight"]
    assert torch.equal(network.get_parameter("encoder.stem.conv.weight"), averaged.half().float())
    assert not torch.equal(averaged, states[0].model["encoder.stem.conv.weight"])


def test_a_level_that_it_has_not_is_refused_before_the_first_step(portraits, tmp_path):
    wrong = request(portraits, tmp_path / "run", "feature_paste.levels=[0]")
    for refused in (plan, lambda wrong: train(wrong, Told())):
        with pytest.raises(UsageError, match="the mobile network has no level 0"):
            refused(wrong)
    assert not (tmp_path / "run").exists()
