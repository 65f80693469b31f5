"""The optimiser, its learning rate, norms that stand still, and stochastic depth."""

from __future__ import annotations

import math
from collections.abc import Iterable

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Adam, Optimizer

from p3m_edge.model.p3mnet import P3MNet
from p3m_edge.model.swin import SwinBlock
from p3m_edge.train.config import Optim


def optimizer(network: P3MNet, others: Iterable[nn.Parameter], settings: Optim) -> Adam:
    """Adam, as published, for what moves; the encoder's weights are a group of their own, with their share of the rate.

    ``others`` are weights besides the network's; ``settings.encoder_lr`` is the encoder's share.
    """
    encoder = list(network.encoder.parameters())
    of_encoder = {id(parameter) for parameter in encoder}
    rest = [parameter for parameter in (*network.parameters(), *others) if id(parameter) not in of_encoder]
    groups = (
        {"params": [parameter for parameter in group if parameter.requires_grad], "share": share}
        for group, share in ((encoder, settings.encoder_lr), (rest, 1.0))
    )
    return Adam([group for group in groups if group["params"]], lr=settings.lr, weight_decay=settings.weight_decay)


def rate(settings: Optim, step: int, steps: int) -> float:
    """The learning rate of a step, from 0 to ``steps - 1``: up along a line, then as the schedule says."""
    if step < settings.warmup_steps:
        return settings.lr * (step + 1) / settings.warmup_steps
    done = (step - settings.warmup_steps) / max(steps - settings.warmup_steps, 1)
    if settings.schedule == "linear":
        return settings.lr * (1 - done)
    if settings.schedule == "cosine":
        return settings.lr * (1 + math.cos(math.pi * done)) / 2
    return settings.lr


def set_rate(optimizer: Optimizer, settings: Optim, step: int, steps: int) -> float:
    """Give all parameters their learning rate in a step, as :func:`rate`; returns that of the decoders.

    An encoder with a smaller share has learned before, and stands still until the decoders have warmed up.
    """
    value = rate(settings, step, steps)
    for group in optimizer.param_groups:
        waiting = group["share"] < 1 and step < settings.warmup_steps
        group["lr"] = 0.0 if waiting else value * group["share"]
    return value


def train_mode(network: nn.Module, *, freeze_batchnorm: bool, frozen: Iterable[str] = ()) -> None:
    """Training mode; frozen parts and, where that is wanted, the batch norms' statistics stand still."""
    network.train()
    for part in frozen:
        network.get_submodule(part).eval()
    if freeze_batchnorm:
        for module in network.modules():
            if isinstance(module, _BatchNorm):
                module.eval()


def set_drop_path(network: P3MNet, last: float) -> int:
    """Stochastic depth for Swin-T (Huang et al., 2016): its blocks leave out their branches, for each picture alone.

    Both branches of block i of n are left out with the probability ``last * i / (n - 1)``, ``0 <= last < 1``. Returns
    the number of blocks; other architectures have none.
    """
    blocks = [module for module in network.modules() if isinstance(module, SwinBlock)]
    for index, block in enumerate(blocks):
        block.drop_path = last * index / (len(blocks) - 1)
    return len(blocks)
