"""Stand-in weights: not trained, but drawn so that the network behaves like one. For demonstrations and tests.

Weights are variance-preserving and each filter sums to zero, so that what differs between places survives and what is
common to all does not: activations neither vanish nor grow, and all three classes appear on real pictures. A matte
from them means nothing.

Every tensor has its own generator, seeded by its name, and is made from whole numbers and correctly rounded operations
alone, hence has the same bits on every machine.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from p3m_edge.errors import UsageError
from p3m_edge.model.decoder import CLASSES
from p3m_edge.model.layers import ConvUnit
from p3m_edge.model.p3mnet import P3MNet
from p3m_edge.model.resnet import BasicBlock
from p3m_edge.model.swin import WindowAttention

LICENCE = "no rights reserved: pseudo-random numbers"
PROVENANCE = "stand-in weights of p3m-edge, seed {seed}; not trained"

_BITS = 24
_GAIN_RECTIFIED = 3.0  # half of the variance is lost behind a ReLU, and the mean of the rest is cancelled
_GAIN_HEAD = {"r34": 4.0, "swin-t": 1.5, "vitae-s": 0.5}  # logits of order 1 to 10


def standin(arch: str, seed: int = 0) -> P3MNet:
    """A network with deterministic weights that nobody trained.

    Parameters
    ----------
    arch
        ``r34``, ``swin-t`` or ``vitae-s``.
    seed
        0 or more; equal seeds give equal bits on every machine.

    Returns
    -------
    P3MNet
        On the CPU, float32, in evaluation mode.

    Raises
    ------
    UsageError
        The architecture is unknown, or the seed negative.
    """
    if seed < 0:
        raise UsageError(f"a seed is 0 or more, not {seed}")
    with torch.device("meta"):
        network = P3MNet(arch)
    state = {name: _plain(name, value) for name, value in network.state_dict().items()}
    for name, like, deviation in _drawn(network):
        values = _draw([seed, zlib.crc32(name.encode())], tuple(like.shape), deviation)
        state[name] = torch.from_numpy(values)
    for name, module in network.named_modules():
        if isinstance(module, BasicBlock):
            state[f"{name}.unit2.norm.weight"].fill_(0.5)  # sixteen residual branches add up
    network.load_state_dict(state, assign=True)
    return network.eval()


def _plain(name: str, value: Tensor) -> Tensor:
    """The tensors that are not drawn: norms that do nothing, no biases; what has a value of its own keeps it."""
    if not value.is_meta:
        return value
    ones = name.endswith((".weight", ".running_var"))
    return torch.full(value.shape, float(ones), dtype=value.dtype, device="cpu")


def _drawn(network: P3MNet) -> Iterator[tuple[str, Tensor, float]]:
    """The weights to draw, each with its name and standard deviation."""
    rectified = {
        f"{name}.conv" for name, unit in network.named_modules() if isinstance(unit, ConvUnit) and _halves(unit.act)
    }
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            if module.weight.shape[0] <= CLASSES:
                gain = _GAIN_HEAD[network.arch]
            else:
                gain = _GAIN_RECTIFIED if name in rectified else 1.0
            yield f"{name}.weight", module.weight, float(np.sqrt(gain / module.weight[0].numel()))
        elif isinstance(module, WindowAttention):
            yield f"{name}.relative_position_bias_table", module.relative_position_bias_table, 0.02


def _halves(act: nn.Module) -> bool:
    """Whether about half the variance is lost behind this activation."""
    return isinstance(act, nn.ReLU | nn.SiLU)


def _draw(seed: list[int], shape: tuple[int, ...], deviation: float) -> NDArray[np.float32]:
    """Uniform values of about this standard deviation; those of one output sum to zero."""
    outputs, inputs = shape[0], int(np.prod(shape[1:]))
    raw = np.random.PCG64(seed).random_raw(outputs * inputs) >> (64 - _BITS)
    values = 2 * raw.astype(np.int64).reshape(outputs, inputs) + 1 - (1 << _BITS)
    values = values * inputs - values.sum(axis=1, keepdims=True)
    scale = deviation * np.sqrt(3.0) / (inputs << _BITS)
    drawn: NDArray[np.float32] = (values * scale).astype(np.float32).reshape(shape)
    return drawn
