"""Stochastic depth for Swin-T (Huang et al., 2016): whole residual branches are left out while training.

It is put onto the network from outside, by hooks, and is not there at inference.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from p3m_edge.model.p3mnet import P3MNet
from p3m_edge.model.swin import SwinBlock


def add_drop_path(network: P3MNet, last: float) -> int:
    """Make the Swin blocks leave out their branches, for each picture alone.

    Both branches of block i of n are left out with the probability ``last * i / (n - 1)``, and what is kept is divided
    by the probability of keeping it.

    Parameters
    ----------
    network
        Any architecture; only Swin-T has such blocks.
    last
        The last block's probability, 0 <= last < 1.

    Returns
    -------
    int
        The number of blocks.
    """
    blocks = [module for module in network.modules() if isinstance(module, SwinBlock)]
    for index, block in enumerate(blocks):
        share = last * index / (len(blocks) - 1)
        if share > 0:
            # The attention's output is in windows, all windows of a picture after one another.
            block.attn.register_forward_hook(_dropper(share, _pictures_of(block)))
            block.mlp.register_forward_hook(_dropper(share, _pictures_of(block)))
    return len(blocks)


def _pictures_of(block: SwinBlock) -> Callable[[], int]:
    """The batch size of the block's present input."""
    seen = [0]

    def note(_block: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen[0] = len(inputs[0])

    block.register_forward_pre_hook(note)
    return lambda: seen[0]


def _dropper(share: float, pictures: Callable[[], int]) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    def drop(module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if not module.training:
            return output
        count = pictures()
        kept = torch.rand(count, device=output.device) >= share
        scale = (kept / (1 - share)).to(output.dtype).repeat_interleave(len(output) // count)
        return output * scale.reshape(-1, *[1] * (output.ndim - 1))

    return drop
