"""Starting from a checkpoint (``train --weights``), and the forms of the files of weights that a training writes."""

import pytest
import safetensors.torch
import torch

from p3m_edge.errors import CheckpointError, InputError, UsageError
from p3m_edge.model import build, read_checkpoint, save_checkpoint
from p3m_edge.train import config as configs
from p3m_edge.train import run as runs
from p3m_edge.train.request import TrainRequest, TrainResult
from tests.train.conftest import TINY, Told

STILL = ("run.max_steps=1", "optim.lr=1e-30")  # one step that changes no weight


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A checkpoint whose weights nothing else would come up with."""
    torch.manual_seed(7)
    path = tmp_path_factory.mktemp("start") / "start.safetensors"
    save_checkpoint(build("tiny"), path, licence="of the test", provenance="drawn in a test", trained=True)
    return path


def train(asked: TrainRequest) -> TrainResult:
    result = runs.train(asked, Told())
    assert result is not None  # this is the only process
    return result


def request(portraits, out, *settings, **fields):
    return TrainRequest(configs.load("smoke", overrides=(*TINY, *settings)), str(portraits), out, **fields)


def test_a_training_starts_from_the_checkpoint_and_says_so(portraits, start, tmp_path):
    result = train(request(portraits, tmp_path / "run", *STILL, weights=start))
    found, info = read_checkpoint(result.last)
    expected = read_checkpoint(start)[0].state_dict()
    for name, value in found.named_parameters():
        assert torch.allclose(value, expected[name], rtol=0, atol=1e-20), name
    digest = read_checkpoint(start)[1].sha256
    assert f"started from start.safetensors (sha256 {digest}: drawn in a test)" in info.provenance
    # A resumption needs neither the file nor the option, and keeps the line.
    resumed = runs.resumed(tmp_path / "run", ["run.max_steps=2"])
    assert "drawn in a test" in read_checkpoint(train(resumed).last)[1].provenance


def test_without_it_the_weights_are_others(portraits, start, tmp_path):
    result = train(request(portraits, tmp_path / "run", *STILL))
    found, expected = read_checkpoint(result.last)[0].state_dict(), read_checkpoint(start)[0].state_dict()
    assert not torch.equal(found["encoder.stem.conv.weight"], expected["encoder.stem.conv.weight"])


def test_files_that_cannot_be_started_from(portraits, start, tmp_path):
    other = tmp_path / "r34.safetensors"
    save_checkpoint(build("mobile"), other, licence="", provenance="", trained=True)
    with pytest.raises(UsageError, match="is a mobile, not a tiny"):
        runs.plan(request(portraits, tmp_path / "run", weights=other))
    with pytest.raises(UsageError, match="holds an encoder already"):
        runs.plan(request(portraits, tmp_path / "run", weights=start, encoder_weights=start))
    (tmp_path / "cut.safetensors").write_bytes(start.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"cut\.safetensors"):
        runs.plan(request(portraits, tmp_path / "run", weights=tmp_path / "cut.safetensors"))


@pytest.mark.full
def test_half_weights_are_the_rounded_ones_in_half_the_bytes(portraits, start, tmp_path):
    whole, half = (
        train(request(portraits, tmp_path / str(kind), *STILL, f"run.half_weights={kind}", weights=start)).last
        for kind in ("false", "true")
    )
    assert half.stat().st_size < 0.6 * whole.stat().st_size
    stored = safetensors.torch.load_file(half)
    assert {value.dtype for value in stored.values()} == {torch.float16}
    for name, value in read_checkpoint(half)[0].named_parameters():
        assert value.dtype == torch.float32
        assert torch.equal(value, read_checkpoint(whole)[0].get_parameter(name).half().float())


def test_weights_beyond_half_precision_are_refused(tmp_path):
    network = build("tiny")
    with torch.no_grad():
        next(network.parameters()).view(-1)[0] = 1e6
    with pytest.raises(InputError, match="not finite"):
        save_checkpoint(network, tmp_path / "w.safetensors", licence="", provenance="", trained=True, half=True)
    assert not any(tmp_path.iterdir())


def test_channels_last_trains_the_same_network(portraits, tmp_path):
    # Statistics of two pictures at 1/32 magnify rounding: with batch norms at work the gradient says little.
    still = ("run.max_steps=1", "run.freeze_batchnorm=true")
    plain, last = (
        train(request(portraits, tmp_path / kind, *still, f"run.channels_last={kind}")) for kind in ("false", "true")
    )
    assert plain.losses["total"] == pytest.approx(last.losses["total"], rel=1e-4)
    assert plain.losses["grad_norm"] == pytest.approx(last.losses["grad_norm"], rel=1e-4)
