"""What the training loop works with, and how far it has come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn
from torch.optim import Optimizer

from p3m_edge.model.p3mnet import P3MNet
from p3m_edge.train import optim
from p3m_edge.train.config import Config
from p3m_edge.train.dataset import Source
from p3m_edge.train.distillation import Distillation, Projection
from p3m_edge.train.feature_paste import FeaturePaste
from p3m_edge.train.order import Order

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class Parts:
    """What the loop works with.

    Attributes
    ----------
    config
        All settings.
    fabric
        The processes and their devices.
    network, optimizer
        The bare ones.
    wrapped, stepper
        The same as Fabric wraps them.
    average
        The averaged weights.
    paste
        P3M-FCP; None without it.
    distillation, projection
        The teacher; and the bare map from the network's features to its own, which learns but is not kept in weights.
        None without them.
    order, held_out
        Of the training's pictures; and those that are judged.
    folder
        Of the run.
    licence, provenance
        Of the weights; where they come from depends on the number of steps.
    inputs
        Goes into the state as it is.
    """

    config: Config
    fabric: Fabric
    network: P3MNet
    optimizer: Optimizer
    wrapped: nn.Module
    stepper: Optimizer
    average: optim.Average
    paste: FeaturePaste | None
    distillation: Distillation | None
    projection: Projection | None
    order: Order
    held_out: Source
    folder: Path
    licence: str
    provenance: Callable[[int], str]
    inputs: dict[str, str]

    @property
    def steps(self) -> int:
        """Of the whole training."""
        run = self.config.run
        every = run.epochs * self.order.steps
        return min(every, run.max_steps) if run.max_steps else every


@dataclass
class Progress:
    """What changes from step to step, and goes into the state; see :class:`~p3m_edge.train.state.State`."""

    step: int = 0
    best: float = float("inf")
    best_step: int = 0
    stale: int = 0
    unreadable: int = 0
    unreadable_now: int = 0
