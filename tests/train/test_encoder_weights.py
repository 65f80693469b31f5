"""Encoders that start from files with the layers' names of torchvision, timm and the papers' authors."""

import json

import pytest
import safetensors.torch
import torch

from p3m_edge import model
from p3m_edge.errors import CheckpointError
from p3m_edge.model import build
from p3m_edge.train.encoder_weights import load_encoder


def norm(name: str, channels: int, **more: list[int]) -> dict[str, list[int]]:
    return {f"{name}.weight": [channels], f"{name}.bias": [channels], **more}


def batch_norm(name: str, channels: int) -> dict[str, list[int]]:
    running = {f"{name}.running_mean": [channels], f"{name}.running_var": [channels]}
    return norm(name, channels, **running, **{f"{name}.num_batches_tracked": []})


def linear(name: str, inputs: int, outputs: int) -> dict[str, list[int]]:
    return {f"{name}.weight": [outputs, inputs], f"{name}.bias": [outputs]}


def resnet34() -> dict[str, list[int]]:
    """Names and shapes as torchvision and timm have them."""
    shapes = {"conv1.weight": [64, 3, 7, 7], **batch_norm("bn1", 64)}
    inputs = 64
    for stage, (width, depth) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), 1):
        for block in range(depth):
            name = f"layer{stage}.{block}"
            shapes[f"{name}.conv1.weight"] = [width, inputs, 3, 3]
            shapes[f"{name}.conv2.weight"] = [width, width, 3, 3]
            shapes |= batch_norm(f"{name}.bn1", width) | batch_norm(f"{name}.bn2", width)
            if inputs != width:
                shapes[f"{name}.downsample.0.weight"] = [width, inputs, 1, 1]
                shapes |= batch_norm(f"{name}.downsample.1", width)
            inputs = width
    return shapes | linear("fc", 512, 1000)


def swin(block: str, fc1: str, fc2: str) -> dict[str, list[int]]:
    """The blocks of Swin-T; ``block`` names block ``b`` of stage ``s``."""
    shapes: dict[str, list[int]] = {}
    for stage, depth in enumerate((2, 2, 6, 2)):
        width = 96 * 2**stage
        for number in range(depth):
            name = block.format(s=stage, t=2 * stage + 1, b=number)
            shapes |= norm(f"{name}.norm1", width) | norm(f"{name}.norm2", width)
            shapes |= linear(f"{name}.attn.qkv", width, 3 * width) | linear(f"{name}.attn.proj", width, width)
            shapes[f"{name}.attn.relative_position_bias_table"] = [169, 3 * 2**stage]
            shapes |= linear(f"{name}.{fc1}", width, 4 * width) | linear(f"{name}.{fc2}", 4 * width, width)
    return shapes


def timm_swin() -> dict[str, list[int]]:
    shapes = {"patch_embed.proj.weight": [96, 3, 4, 4], "patch_embed.proj.bias": [96], **norm("patch_embed.norm", 96)}
    shapes |= swin("layers.{s}.blocks.{b}", "mlp.fc1", "mlp.fc2") | norm("norm", 768) | linear("head.fc", 768, 1000)
    for stage in range(3):
        width = 96 * 2**stage
        shapes |= norm(f"layers.{stage + 1}.downsample.norm", 4 * width)
        shapes[f"layers.{stage + 1}.downsample.reduction.weight"] = [2 * width, 4 * width]
    return shapes


def drawn(shapes: dict[str, list[int]], seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return {name: torch.rand(shape) if shape else torch.tensor(7) for name, shape in shapes.items()}


@pytest.mark.parametrize("form", ["bare", "state_dict_ema", "DataParallel", "safetensors"])
def test_resnet34_is_taken_whole(form, tmp_path):
    weights = drawn(resnet34())
    path = tmp_path / "resnet34.pth"
    if form == "safetensors":
        safetensors.torch.save_file(weights, path)
    elif form == "state_dict_ema":
        torch.save({"state_dict_ema": weights, "state_dict": drawn(resnet34(), 1), "epoch": 9}, path)
    else:
        torch.save({f"module.{k}": v for k, v in weights.items()} if form == "DataParallel" else weights, path)
    network = build("r34")
    report = load_encoder(network, path)
    state = network.state_dict()
    counters = sum(key.endswith("num_batches_tracked") for key in state if key.startswith("encoder."))
    assert report.loaded == report.tensors == sum(key.startswith("encoder.") for key in state) - counters
    assert report.missing == ()
    assert report.unused == ("fc.bias: no such layer in this encoder", "fc.weight: no such layer in this encoder")
    assert torch.equal(state["encoder.stem.conv.weight"], weights["conv1.weight"])
    assert torch.equal(state["encoder.layer3.0.shortcut.conv.weight"], weights["layer3.0.downsample.0.weight"])
    assert torch.equal(state["encoder.layer4.2.unit2.norm.running_var"], weights["layer4.2.bn2.running_var"])


@pytest.mark.parametrize("source", ["timm", "torchvision"])
def test_of_swin_t_the_blocks_are_taken_and_the_rest_is_listed(source, tmp_path):
    if source == "timm":
        shapes, first = timm_swin(), "layers.0.blocks.1.mlp.fc2.weight"
    else:
        shapes = swin("features.{t}.{b}", "mlp.0", "mlp.3") | norm("norm", 768) | linear("head", 768, 1000)
        shapes |= {"features.0.0.weight": [96, 3, 4, 4], "features.2.reduction.weight": [192, 384]}
        first = "features.1.1.mlp.3.weight"
    weights = drawn(shapes)
    torch.save({"model": weights}, tmp_path / "swin.pth")
    network = build("swin-t")
    report = load_encoder(network, tmp_path / "swin.pth")
    state = network.state_dict()
    assert torch.equal(state["encoder.stages.0.1.mlp.fc2.weight"], weights[first])
    assert not any(name.startswith("encoder.stages.") for name in report.missing)
    assert {name.split(".")[1] for name in report.missing} >= {"stem", "stem2", "stem3", "reductions"}
    assert "encoder.norm.weight" not in report.missing
    assert any("reduction.weight" in line for line in report.unused)
    assert report.loaded + len(report.missing) == report.tensors


def test_of_vitae_the_cells_are_taken_by_their_published_names(tmp_path, shared):
    keys = json.loads((shared / "reference/cases/vitae.keys.json").read_text())
    shapes = {name.removeprefix("encoder."): shape for name, shape, _ in keys if name.startswith("encoder.")}
    # The classifier's own stem has other widths, and its merging is a convolution.
    shapes["layers.0.RC.proj1.weight"] = [64, 3, 7, 7]
    torch.save({"state_dict_ema": drawn(shapes)}, tmp_path / "vitae.pth")
    network = build("vitae-s")
    report = load_encoder(network, tmp_path / "vitae.pth")
    assert "encoder.stem.conv.weight" in report.missing
    assert any("layers.0.RC.proj1.weight: [64, 3, 7, 7]" in line for line in report.unused)
    assert not [n for n in report.missing if n.startswith("encoder.stages.") and not n.endswith("projection")]


def efficientnet_lite0() -> dict[str, list[int]]:
    """Names and shapes as efficientnet-lite-pytorch has them."""
    shapes = {"_conv_stem.weight": [32, 3, 3, 3], **batch_norm("_bn0", 32)}
    stages = ((16, 3, 1), (24, 3, 2), (40, 5, 2), (80, 3, 3), (112, 5, 3), (192, 5, 4), (320, 3, 1))
    number, inputs = 0, 32
    for outputs, kernel, depth in stages:
        for _ in range(depth):
            name, inner = f"_blocks.{number}", inputs * 6 if number else inputs
            if number:
                shapes |= {f"{name}._expand_conv.weight": [inner, inputs, 1, 1], **batch_norm(f"{name}._bn0", inner)}
            shapes[f"{name}._depthwise_conv.weight"] = [inner, 1, kernel, kernel]
            shapes[f"{name}._project_conv.weight"] = [outputs, inner, 1, 1]
            shapes |= batch_norm(f"{name}._bn1", inner) | batch_norm(f"{name}._bn2", outputs)
            number, inputs = number + 1, outputs
    shapes |= {"_conv_head.weight": [1280, 320, 1, 1], **batch_norm("_bn1", 1280)}
    return shapes | linear("_fc", 1280, 1000)


def test_of_efficientnet_lite0_all_but_the_head_is_taken(tmp_path):
    weights = drawn(efficientnet_lite0())
    torch.save(weights, tmp_path / "lite0.pth")
    network = build("mobile").eval()
    report = load_encoder(network, tmp_path / "lite0.pth")
    assert {name.split(".")[1] for name in report.missing} == {"detail", "neck", "neck_context"}
    assert {line.split(".")[0] for line in report.unused} == {"_conv_head", "_bn1", "_fc"}
    state = network.state_dict()
    assert torch.equal(state["encoder.layer4.3.expand.conv.weight"], weights["_blocks.8._expand_conv.weight"])
    assert torch.equal(state["encoder.context.4.project.norm.bias"], weights["_blocks.15._bn2.bias"])


def test_the_stem_of_efficientnet_lite0_sees_half_the_picture(tmp_path):
    """Its norms have another epsilon than ours, which counts where a variance is small."""
    weights = drawn(efficientnet_lite0())
    weights["_bn0.running_var"][::2] = 1e-5
    torch.save(weights, tmp_path / "lite0.pth")
    network = build("mobile").eval()
    load_encoder(network, tmp_path / "lite0.pth")
    x = torch.randn(1, 3, 64, 96)
    half = torch.nn.functional.avg_pool2d(x, 2)
    inner = torch.nn.functional.conv2d(half, weights["_conv_stem.weight"], stride=2, padding=1)
    mean, variance, weight, bias = (weights[f"_bn0.{n}"] for n in ("running_mean", "running_var", "weight", "bias"))
    wanted = torch.nn.functional.batch_norm(inner, mean, variance, weight, bias, eps=1e-3).clamp(0, 6)
    with torch.inference_mode():
        found = network.get_submodule("encoder.stem")(x)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_our_own_checkpoint_gives_its_encoder(tmp_path):
    torch.manual_seed(1)
    first = build("tiny")
    model.save_checkpoint(first, tmp_path / "first.safetensors", licence="-", provenance="-", trained=True)
    second = build("tiny")
    decoder = second.local_decoder.head.weight.clone()
    report = load_encoder(second, tmp_path / "first.safetensors")
    assert report.missing == ()
    stem = "encoder.stem.conv.weight"
    assert torch.equal(second.get_parameter(stem), first.get_parameter(stem))
    assert torch.equal(second.local_decoder.head.weight, decoder)


class Payload:
    """What must not run."""

    def __reduce__(self):
        return exec, ("raise SystemExit",)


def test_files_that_cannot_be_used(tmp_path):
    path = tmp_path / "weights.pth"
    with pytest.raises(CheckpointError, match="does not exist"):
        load_encoder(build("tiny"), path)
    path.write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="is a text, not a checkpoint"):
        load_encoder(build("tiny"), path)
    torch.save({"conv1.weight": Payload()}, path)
    with pytest.raises(CheckpointError, match="not a PyTorch checkpoint"):
        load_encoder(build("tiny"), path)
    torch.save(drawn(resnet34()), path)
    with pytest.raises(CheckpointError, match="holds nothing that fits the encoder of tiny"):
        load_encoder(build("tiny"), path)
    weights = drawn(resnet34())
    weights["bn1.weight"][3] = float("nan")
    torch.save(weights, path)
    with pytest.raises(CheckpointError, match=r"bn1\.weight does not hold finite"):
        load_encoder(build("r34"), path)
