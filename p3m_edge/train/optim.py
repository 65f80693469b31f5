"""The learning rate, the averaged weights, and norms that stand still."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, cast

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Adam, Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from p3m_edge.model.p3mnet import P3MNet
from p3m_edge.train.config import Optim


def optimizer(network: P3MNet, others: Iterable[nn.Parameter], settings: Optim) -> Adam:
    """Adam, as published, for what moves; the encoder's weights are a group of their own, with their share of the rate.

    Parameters
    ----------
    network
        Whose weights learn.
    others
        More weights that learn.
    settings
        ``encoder_lr`` is the share.
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
    """The learning rate of a step: up along a line, then as the schedule says.

    Parameters
    ----------
    settings
        ``lr``, ``warmup_steps`` and ``schedule``.
    step
        Counted from 0.
    steps
        Of the whole training.
    """
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


class Average:
    """Exponentially averaged weights and statistics, beside the network's own.

    Parameters
    ----------
    network
        What is averaged; on its device already.
    decay
        0..1, or 0 for no averaging.
    """

    def __init__(self, network: P3MNet, decay: float) -> None:
        self._network = network
        self._average = None
        if decay:
            function = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
            self._average = AveragedModel(network, multi_avg_fn=function, use_buffers=True)

    @property
    def network(self) -> P3MNet:
        """The network to validate and to keep: the averaged one, if there is one."""
        if self._average is None:
            return self._network
        return cast("P3MNet", self._average.module)

    def update(self) -> None:
        """Take in the weights after a step."""
        if self._average is not None:
            self._average.update_parameters(self._network)

    def state_dict(self) -> dict[str, Any]:
        """Empty without averaging."""
        return {} if self._average is None else self._average.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        if self._average is not None:
            self._average.load_state_dict(state)


def train_mode(network: nn.Module, *, freeze_batchnorm: bool, frozen: Iterable[str] = ()) -> None:
    """Training mode; frozen parts and, where that is wanted, the batch norms' statistics stand still."""
    network.train()
    for part in frozen:
        network.get_submodule(part).eval()
    if freeze_batchnorm:
        for module in network.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
