"""Encoders that start from standard ImageNet weights, out of a local file. Nothing is ever downloaded.

Known are ResNet-34 as torchvision and timm name its layers, Swin-T as its authors, timm and torchvision do, ViTAE as
its authors do, EfficientNet-Lite0 (for ``mobile``) as efficientnet-lite-pytorch does, each bare or under
``state_dict_ema``, ``state_dict`` or ``model``; and our own checkpoints. Swin-T and ViTAE-S of P3M-Net have another
stem and reduce between stages in another way (IJCV 2023, section 4): what does not fit is listed and keeps its random
start.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from p3m_edge.errors import CheckpointError
from p3m_edge.model.checkpoint import read_tensors
from p3m_edge.model.p3mnet import P3MNet
from p3m_edge.model.published import our_name

_NESTED = ("state_dict_ema", "state_dict", "model")
_COUNTER = ".num_batches_tracked"
_PREFIX = {"r34": "resnet.", "swin-t": "encoder.", "vitae-s": "encoder."}

# torchvision counts the stages of Swin-T and what is between them in one row: 1, 3, 5, 7 are stages.
_TORCHVISION_SWIN = (
    (r"^features\.([1357])\.(\d)\.", lambda m: f"layers.{int(m[1]) // 2}.blocks.{m[2]}."),
    (r"\.mlp\.0\.", lambda _: ".mlp.fc1."),
    (r"\.mlp\.3\.", lambda _: ".mlp.fc2."),
)

# Our stages of EfficientNet-Lite0, and the number of the first of its blocks in each.
_LITE_STAGES = (("layer1", 0), ("layer2", 1), ("layer3", 3), ("layer4", 5), ("context", 11))
_LITE_LAYERS = {
    "_expand_conv": "expand.conv", "_depthwise_conv": "depthwise.conv", "_project_conv": "project.conv",
    "_bn0": "expand.norm", "_bn1": "depthwise.norm", "_bn2": "project.norm",
}  # fmt: skip
_LITE_STEM = {"_conv_stem": "encoder.stem.conv", "_bn0": "encoder.stem.norm"}
_LITE_EPSILON, _EPSILON = 1e-3, 1e-5  # of its batch norms and of ours


@dataclass(frozen=True)
class EncoderReport:
    """What became of a file of encoder weights: ``loaded`` of the encoder's ``tensors`` were in it.

    The ``missing`` ones keep their random start; what else the file holds is ``unused``, each with the reason.
    """

    file: str
    loaded: int
    tensors: int
    missing: tuple[str, ...]
    unused: tuple[str, ...]


def load_encoder(network: P3MNet, path: Path) -> EncoderReport:
    """Load what fits into the network's encoder from a file of ``torch.save`` with tensors alone, or safetensors.

    Raises
    ------
    CheckpointError
        The file cannot be read, holds values that are not finite, or nothing that fits this encoder.
    """
    state = network.state_dict()
    wanted = {key for key in state if key.startswith("encoder.") and not key.endswith(_COUNTER)}
    found: dict[str, Tensor] = {}
    unused: list[str] = []
    tensors = read_tensors(path, _NESTED)
    for key, value in (_from_lite(tensors) if network.arch == "mobile" else tensors).items():
        name = _name(key, network.arch, wanted)
        if name is None:
            unused.append(f"{key}: no such layer in this encoder")
        elif value.shape != state[name].shape:
            unused.append(f"{key}: {list(value.shape)}, the layer here has {list(state[name].shape)}")
        elif not value.is_floating_point() or not bool(torch.isfinite(value).all()):
            raise CheckpointError(f"{path}: {key} does not hold finite floating-point numbers")
        else:
            found[name] = value
    if not found:
        raise CheckpointError(
            f"{path} holds nothing that fits the encoder of {network.arch}", hint="weights of another architecture?"
        )
    network.load_state_dict({**state, **{name: value.to(state[name].dtype) for name, value in found.items()}})
    missing = tuple(sorted(wanted - found.keys()))
    listed = tuple(line for line in sorted(unused) if not line.partition(":")[0].endswith(_COUNTER))
    return EncoderReport(path.name, len(found), len(wanted), missing, listed)


def _name(key: str, arch: str, wanted: set[str]) -> str | None:
    """Our name of a layer in the file."""
    if arch == "swin-t":
        for pattern, replacement in _TORCHVISION_SWIN:
            key = re.sub(pattern, replacement, key)
    candidates = [key]
    if arch in _PREFIX:
        candidates += [our_name(key, arch), our_name(_PREFIX[arch] + key, arch)]
    return next((name for name in candidates if name in wanted), None)


def _from_lite(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of EfficientNet-Lite0 by our names, for a picture of twice the size and norms with our epsilon."""
    ours = {_lite_name(key): value for key, value in tensors.items()}
    stem = tensors.get("_conv_stem.weight")
    if stem is not None and stem.ndim == 4:  # averaging 2x2 pixels before it is a part of it now
        ours["encoder.stem.conv.weight"] = stem.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3) / 4
    for key, variance in tensors.items():
        layer = key.removesuffix(".running_var")
        if layer != key and f"{layer}.weight" in tensors and _lite_name(key) != key:
            ratio = ((variance + _EPSILON) / (variance + _LITE_EPSILON)).sqrt()
            ours[_lite_name(f"{layer}.weight")] = tensors[f"{layer}.weight"] * ratio
    return ours


def _lite_name(key: str) -> str:
    """Our name of a layer of EfficientNet-Lite0, or the key itself."""
    match = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
    if match is None:
        layer, _, leaf = key.partition(".")
        return f"{_LITE_STEM[layer]}.{leaf}" if layer in _LITE_STEM else key
    number = int(match[1])
    stage, first = next((stage, first) for stage, first in reversed(_LITE_STAGES) if first <= number)
    return f"encoder.{stage}.{number - first}.{_LITE_LAYERS.get(match[2], match[2])}.{match[3]}"
