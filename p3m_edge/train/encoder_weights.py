"""Encoders that start from standard ImageNet weights, out of a local file. Nothing is ever downloaded.

Known are ResNet-34 as torchvision and timm name its layers, Swin-T as its authors, timm and torchvision do, ViTAE as
its authors do, each bare or under ``state_dict_ema``, ``state_dict`` or ``model``; and our own checkpoints. Swin-T and
ViTAE-S of P3M-Net have another stem and reduce between stages in another way (IJCV 2023, section 4): what does not fit
is listed and keeps its random start.
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


@dataclass(frozen=True)
class EncoderReport:
    """What became of a file of encoder weights.

    Attributes
    ----------
    file
        Its name.
    loaded, tensors
        How many of the encoder's tensors were loaded, of how many.
    missing
        The others; they keep their random start.
    unused
        What the file holds beside, each with the reason.
    """

    file: str
    loaded: int
    tensors: int
    missing: tuple[str, ...]
    unused: tuple[str, ...]


def load_encoder(network: P3MNet, path: Path) -> EncoderReport:
    """Load what fits into the encoder.

    Parameters
    ----------
    network
        Its encoder is changed.
    path
        A file of ``torch.save`` with tensors alone, or safetensors.

    Raises
    ------
    CheckpointError
        The file cannot be read, holds values that are not finite, or nothing that fits this encoder.
    """
    state = network.state_dict()
    wanted = {key for key in state if key.startswith("encoder.") and not key.endswith(_COUNTER)}
    found: dict[str, Tensor] = {}
    unused: list[str] = []
    for key, value in read_tensors(path, _NESTED).items():
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
