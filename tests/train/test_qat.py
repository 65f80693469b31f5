"""Quantisation-aware training: what rounds, what an export finds in the weights, stopping, mistakes, and its worth."""

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from p3m_edge import model, shipped, targets
from p3m_edge.cli import main
from p3m_edge.data.synth import portrait
from p3m_edge.export import graph
from p3m_edge.export.calibration import MINIMUM, open_calibration, open_measuring
from p3m_edge.export.formats.openvino import nncf as post_training
from p3m_edge.export.graph.half import FAINT
from p3m_edge.export.graph.qdq import quantised
from p3m_edge.export.graph.ranges import activation_ranges
from p3m_edge.export.quantize.accuracy import AccuracyEvaluator
from p3m_edge.model.deploy import Deploy
from p3m_edge.model.layers import ConvUnit
from p3m_edge.model.p3mnet import P3MNet
from p3m_edge.train import qat
from p3m_edge.train.dataset import normalise
from p3m_edge.train.optim import train_mode
from p3m_edge.train.state import load
from tests.calibrating import Given
from tests.portraits import write_set
from tests.train.conftest import TINY
from tests.train.test_resume import assert_equal, end_at, start

pytest.importorskip("nncf")
openvino = pytest.importorskip("openvino")

SIDE = 96
ROUNDING = (qat.RoundedWeight, qat.RoundedActivation)
# What the deployed form computes by other weights: the picture is scaled in the stems, and phases have their heads.
REWRITTEN = ("network.stem", "network.head", "network.encoder.stem", "network.encoder.detail")


def tiny() -> P3MNet:
    torch.manual_seed(3)
    return model.build("tiny").eval()


def inputs(count: int) -> list[torch.Tensor]:
    return [normalise(torch.tensor(portrait(seed, SIDE, SIDE).image).permute(2, 0, 1)[None]) for seed in range(count)]


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """The tiny network with weights of its own; that they were trained is a lie."""
    path: Path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    model.save_checkpoint(tiny(), path, licence="CC-BY", provenance="drawn for a test", trained=True)
    return path


@pytest.fixture(scope="module", params=["tiny", "mobile"])
def networks(request) -> tuple[P3MNet, P3MNet]:
    """A network, and the copy of it that rounds."""
    network = tiny() if request.param == "tiny" else model.load_checkpoint(shipped.weights_path())
    return network, qat.quantised(network, inputs(2))


def test_all_that_rounds_does_so_in_training_and_in_validation(networks):
    """Poolings take their maxima by other operations with gradients than without; both are followed."""
    network, copy = networks
    places = {id(m): m for m in copy.modules() if isinstance(m, ROUNDING)}
    weighted = [
        name for name, module in network.named_modules() if isinstance(module, nn.Conv2d) and "side" not in name
    ]
    assert {m.name for m in places.values() if isinstance(m, qat.RoundedWeight)} == {f"{n}.weight" for n in weighted}
    called: Counter[int] = Counter()
    values: dict[int, int] = {}

    def note(module: nn.Module, _: Any, output: torch.Tensor) -> None:
        called[id(module)] += 1
        if isinstance(module, qat.RoundedActivation) and not module.per_channel:
            values[id(module)] = output.detach().unique().numel()

    handles = [module.register_forward_hook(note) for module in places.values()]
    image = inputs(1)[0]
    train_mode(copy, freeze_batchnorm=True)
    torch.stack([output.sum() for output in copy(image)]).sum().backward()
    assert set(called) == set(places)
    assert max(values.values()) <= 256
    counted = dict(called)
    copy.eval()
    with torch.inference_mode():
        copy(image)
    assert all(called[key] == 2 * count for key, count in counted.items())
    for handle in handles:
        handle.remove()
    assert all(parameter.grad is not None for parameter in copy.parameters())


def test_the_network_itself_is_left_as_it_was(networks):
    network, copy = networks
    assert not any(isinstance(module, ROUNDING) for module in network.modules())
    plain = qat.rounded(copy).state_dict()
    assert plain.keys() == network.state_dict().keys()
    for name, value in network.state_dict().items():
        if name.endswith("conv.weight"):
            step = value.abs().flatten(1).amax(1).reshape(-1, 1, 1, 1) / 127
            assert bool(((plain[name] - value).abs() <= 0.501 * step).all())
            assert not torch.equal(plain[name], value)
        elif "norm" in name:
            assert torch.equal(plain[name], value)


def test_an_export_finds_the_same_integers(networks):
    """Rounding the rounded weights again, batch norms folded, loses nothing."""
    network, copy = networks
    images = [portrait(seed, SIDE, SIDE).image[None] for seed in range(2)]

    def lost(chosen: P3MNet) -> float:
        """The largest difference between weights in float32 and in INT8, in steps of the integers."""
        traced = graph.trace(Deploy(chosen), SIDE, SIDE)
        made = quantised(traced, activation_ranges(traced, images), "u8s8")
        constants = [{t.name: numpy_helper.to_array(t) for t in g.graph.initializer} for g in (traced, made)]
        before = {node.name: constants[0][node.input[1]] for node in traced.graph.node if node.op_type == "Conv"}
        makers = {name: node for node in made.graph.node for name in node.output}
        worst = 0.0
        for node in made.graph.node:
            if node.op_type == "Conv" and not node.name.startswith(REWRITTEN):
                stored, scale = (constants[1][name] for name in makers[node.input[1]].input[:2])
                exact = before[node.name] / scale.reshape(-1, 1, 1, 1)
                visible = np.abs(before[node.name]).max(axis=(1, 2, 3)) > FAINT
                worst = max(worst, float(np.abs(exact - stored)[visible].max()))
        return worst

    assert lost(network) > 0.4
    assert lost(qat.rounded(copy)) < 0.01


def options(*settings: str) -> list[str]:
    return [part for setting in (*TINY, *settings) for part in ("--set", setting)]


@pytest.mark.full
def test_killed_and_resumed_it_ends_where_an_undisturbed_one_does(weights, portraits, tmp_path):
    settings = options("run.epochs=1000", "run.max_steps=12", "run.checkpoint_every=3", "qat.pictures=4")

    def fresh(name: str) -> subprocess.Popen[str]:
        return start("--qat", "--weights", weights, "--data", portraits, "--out", tmp_path / name, *settings)

    killed = fresh("killed")
    end_at(killed, tmp_path / "killed/log.csv", 5, 9)
    for process in (fresh("whole"), start("--out", tmp_path / "killed", "--resume")):
        _, error = process.communicate(timeout=300)
        assert process.returncode == 0, error
    whole, resumed = (load(tmp_path / name / "state.pt") for name in ("whole", "killed"))
    assert whole.step == resumed.step == 12
    assert_equal(vars(resumed), vars(whole))
    files = [(tmp_path / run / "last.safetensors").read_bytes() for run in ("whole", "killed")]
    assert files[0] == files[1]
    network, info = model.read_checkpoint(tmp_path / "whole/last.safetensors")
    assert network.state_dict().keys() == tiny().state_dict().keys()
    assert "rounded as INT8 while it learned" in info.provenance
    assert info.licence == "not stated; teacher: CC-BY"
    before = model.load_checkpoint(weights).state_dict()
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]) == ("running" in name or "num_batches" in name), name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--qat"], "goes on from trained weights"),
        (["--qat", "--weights", "WEIGHTS", "--teacher", "OTHER"], "learns from the weights that it starts from"),
        (["--qat", "--weights", "OTHER"], "cannot train swin-t"),
        (["--qat", "--weights", "WEIGHTS", "--preset", "p3m-swin-t"], "cannot train swin-t"),
        (["--qat", "--weights", "WEIGHTS", "--preset", "mobile"], "is a tiny, not a mobile"),
        (["--qat", "--weights", "WEIGHTS", "--set", "optim.ema=0.9"], "--qat needs optim.ema=0.0, not 0.9"),
        (["--qat", "--weights", "WEIGHTS", "--set", "run.freeze_batchnorm=false"], "run.freeze_batchnorm=true"),
        (["--qat", "--weights", "WEIGHTS", "--precision", "bf16-mixed"], "--qat needs run.precision=32-true"),
        (["--qat", "--weights", "WEIGHTS", "--devices", "2"], "trains in one process"),
        (["--qat", "--weights", "WEIGHTS", "--cp", "fcp", "--faces", "synth:2"], "P3M-FCP"),
        (["--qat", "--weights", "WEIGHTS", "--set", "qat.pictures=0"], "qat.pictures"),
        (["--set", "qat.enabled=true"], "goes on from trained weights"),
    ],
)
def test_mistakes_are_one_line(arguments, message, weights, portraits, tmp_path, capsys):
    other = tmp_path / "swin.safetensors"
    if arguments[-1] == "OTHER" and "--teacher" not in arguments:
        swin = model.build("swin-t")
        model.save_checkpoint(swin, other, licence="CC0", provenance="drawn", trained=True, half=True)
    places = {"WEIGHTS": str(weights), "OTHER": str(other)}
    given = [places.get(argument, argument) for argument in arguments]
    assert main(["train", *given, "--data", str(portraits), "--out", str(tmp_path / "run"), "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "run").exists()


def test_a_run_knows_that_it_rounds(weights, portraits, tmp_path, capsys):
    out = tmp_path / "run"
    arguments = ["--weights", str(weights), "--data", str(portraits), "--out", str(out), *options()]
    assert main(["train", "--qat", "--dry-run", *arguments]) == 0
    assert "rounded as INT8 while it learns" in " ".join(capsys.readouterr().out.split())
    assert main(["train", "--qat", *arguments, "--set", "run.max_steps=1", "--set", "qat.pictures=2"]) == 0
    printed = capsys.readouterr().out
    assert "Statistics" not in printed  # NNCF's bar
    assert main(["train", "--qat", "--out", str(out), "--resume"]) == 2
    assert "--qat has no meaning with --resume" in capsys.readouterr().err


def test_without_nncf_the_extra_is_named(weights, portraits, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "nncf", None)
    given = ["--qat", "--weights", weights, "--data", portraits, "--out", tmp_path / "run"]
    assert main(["train", *map(str, given)]) == 4
    assert "p3m-edge[quantize]" in capsys.readouterr().err


SET, MEASURED = range(100, 132), range(500, 512)
SIZE = 128


def made_hard(network: P3MNet, factor: float = 128.0) -> P3MNet:
    """The same function in float32, with activations of which a few channels leave little of 8 bits to the others."""
    with torch.no_grad():
        for decoder in (network.global_decoder, network.local_decoder):
            for sequence in (m for m in decoder.modules() if isinstance(m, nn.Sequential)):
                for first, second in zip(sequence, list(sequence)[1:], strict=False):
                    if isinstance(first, ConvUnit) and isinstance(second, ConvUnit) and second.conv.groups == 1:
                        assert isinstance(first.norm, nn.BatchNorm2d)
                        for part in (first.norm.weight, first.norm.bias):
                            part[::8] *= factor
                        second.conv.weight[:, ::8] /= factor
    return network


@pytest.mark.full
def test_it_recovers_most_of_what_quantisation_costs(tmp_path):
    """SAD on portraits that nobody has seen, with `openvino-int8`'s default, beside a twin that trained in float32.

    The twin starts from the same weights, learns from the same teacher, and takes the same steps: what the training
    itself does for the mattes is in both.
    """
    hard = made_hard(model.load_checkpoint(shipped.weights_path()))
    start_from, data = tmp_path / "hard.safetensors", write_set(tmp_path / "set", [drawn(seed) for seed in SET])
    model.save_checkpoint(hard, start_from, licence="CC0", provenance="made hard", trained=True)
    shared = ["--weights", start_from, "--data", data, *options(
        "run.batch=8", "run.epochs=1000", "run.max_steps=160", f"data.size={SIZE}", f"data.crops=[{SIZE}]",
        "validation.every=1000", "optim.lr=3e-4", "optim.ema=0", "optim.warmup_steps=0", "optim.schedule=cosine",
        "run.freeze_batchnorm=true", "model.drop_path=0", "data.colour=0", "data.blur=0", "data.jpeg=0",
    )]  # fmt: skip
    trainings = {
        "twin": ["--preset", "mobile", "--teacher", start_from],
        "qat": ["--qat", "--set", "qat.pictures=16"],
    }
    for name, own in trainings.items():
        assert main(["train", *map(str, [*own, *shared]), "--out", str(tmp_path / name)]) == 0
    measuring = open_measuring(write_set(tmp_path / "measuring", [drawn(seed) for seed in MEASURED]))
    calibration = open_calibration(None, count=MINIMUM)
    sad: dict[tuple[str, str], float] = {}
    for name in trainings:
        folder = tmp_path / f"int8-{name}"
        folder.mkdir()
        traced = graph.trace(Deploy(model.load_checkpoint(tmp_path / name / "last.safetensors")), SIZE, SIZE)
        graph.save(traced, folder / "float.onnx")
        openvino.save_model(openvino.Core().read_model(folder / "float.onnx"), folder / "float.xml", False)
        target = targets.get("openvino-int8")
        given: Any = Given(calibration, SIZE)
        preset = post_training.presets("mobile")[0]
        post_training.quantise(folder / "float.xml", given, (), preset, folder / target.model_file)
        evaluator = AccuracyEvaluator(measuring, (SIZE, SIZE), 1, compiled(folder / "float.xml"), folder)
        found = evaluator.measure(compiled(folder / target.model_file))
        sad[name, "int8"], sad[name, "float"] = float(found.sad or 0), float(found.float_sad or 0)
    print(f"SAD: {sad}")
    lost = sad["twin", "int8"] - sad["twin", "float"]
    left = sad["qat", "int8"] - sad["twin", "float"]
    print(f"SAD that quantisation costs: {lost:.4f} without, {left:.4f} with QAT")
    assert lost > 0.1 * sad["twin", "float"]
    assert left < lost / 2


def compiled(path: Path) -> Any:
    """A model file in OpenVINO, computed in float32 where it is no integer."""
    network = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda images: {port.get_any_name(): network(images)[port].copy() for port in network.outputs}


def drawn(seed: int) -> Any:
    return portrait(seed, SIZE, SIZE)
