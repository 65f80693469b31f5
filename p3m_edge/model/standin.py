"""Stand-in weights: not trained, but drawn so that the network behaves like one. For demonstrations and tests.

Biases and the statistics of the norms are drawn too, so that folding them is put to the test. Every value lies on the
half-precision grid and the batch norms fold to a factor of one: untrained logits are not kept apart as trained ones
are, and rounding the weights alone would flip classes. What a half-precision artefact of these weights shows is its
arithmetic. A matte from them means nothing.

Every tensor has its own generator, seeded by its name, and is made from whole numbers and correctly rounded operations
alone, hence has the same bits on every machine.
"""

from __future__ import annotations

import zlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from p3m_edge import arguments
from p3m_edge.model.decoder import CLASSES
from p3m_edge.model.p3mnet import P3MNet

LICENCE = "no rights reserved: pseudo-random numbers"
PROVENANCE = "stand-in weights of p3m-edge, seed {seed}; not trained"

_BITS = 24
_GRID = 256.0  # biases and scales are multiples of 1 / 256, so that sums of a few stay on the half-precision grid
_DEVIATION = 0.1  # of biases and running means

# What a layer does to the variance. One where winners of poolings place pixels, so that near ties move none visibly.
# The mobile network has no such poolings, and with more than one its ReLU6 meet both of their ends.
_GAIN = {"r34": 1.0, "swin-t": 1.0, "vitae-s": 1.0, "mobile": 1.4}
# For seed 0: which draw, and the bias of the global logits at which each class covers a good part of a photograph.
_DRAW = {"r34": 0, "swin-t": 1, "vitae-s": 2, "mobile": 2}
_CLASS_BIAS = {
    "r34": (-1.1328125, -6.2890625, 9.3984375),
    "swin-t": (0.390625, 0.0390625, 0.55078125),
    "vitae-s": (-0.171875, -0.37890625, -0.44921875),
    "mobile": (-0.06640625, 0.37890625, 0.3203125),
}


def standin(arch: str, seed: int = 0) -> P3MNet:
    """A network with weights that nobody trained, on the CPU, float32, in evaluation mode.

    ``arch`` is one of :data:`p3m_edge.targets.ARCHS`; equal seeds give equal bits on every machine. An unknown
    architecture or a negative seed is a :class:`UsageError`.
    """
    seed = arguments.count("a seed", seed)
    with torch.device("meta"):
        network = P3MNet(arch)
    draw, gain = seed + _DRAW[arch], _GAIN[arch]
    state = {name: _value(name, value, draw, gain) for name, value in network.state_dict().items()}
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            state[f"{name}.weight"] = (state[f"{name}.running_var"] + module.eps).sqrt()
        elif isinstance(module, nn.Conv2d) and module.bias is not None and module.out_channels == CLASSES:
            state[f"{name}.bias"] = torch.tensor(_CLASS_BIAS[arch], dtype=torch.float32)
    network.load_state_dict(state, assign=True)
    return network.eval()


def _value(name: str, like: Tensor, seed: int, gain: float) -> Tensor:
    """The tensor of that name; what has a value of its own (a Performer projection, a counter) keeps it."""
    if not like.is_meta:
        return like
    if not like.is_floating_point():
        return torch.zeros(like.shape, dtype=like.dtype, device="cpu")
    shape = tuple(like.shape)
    values = _uniform([seed, zlib.crc32(name.encode())], shape)
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "running_var":
        return torch.from_numpy((1.0 + 0.5 * values).astype(np.float32))
    if leaf in ("bias", "running_mean"):
        return torch.from_numpy(_to_grid(_DEVIATION * np.sqrt(3.0) * values))
    if len(shape) == 1:
        return torch.from_numpy(_to_grid(1.0 + 0.2 * values))
    deviation = 0.02 if leaf == "relative_position_bias_table" else np.sqrt(gain / np.prod(shape[1:]))
    return torch.from_numpy((deviation * np.sqrt(3.0) * values).astype(np.float16).astype(np.float32))


def _uniform(seed: list[int], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Uniform values between -1 and 1."""
    raw = np.random.PCG64(seed).random_raw(int(np.prod(shape))) >> (64 - _BITS)
    values = 2 * raw.astype(np.int64) + 1 - (1 << _BITS)
    return np.asarray(values / float(1 << _BITS)).reshape(shape)


def _to_grid(values: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.asarray(np.round(values * _GRID) / _GRID, dtype=np.float32)
