"""The smallest P3M-Net: for tests, the smoke preset and quick comparisons. It is no product, and no table lists it."""

from __future__ import annotations

from torch import nn

from p3m_edge.model.layers import ConvUnit, Features, Front, PoolingEncoder
from p3m_edge.model.unpool import Kernel, max_pool


class Tiny(PoolingEncoder):
    """Two or three 3x3 units a level, each level behind a 2x2 max-pooling, as in :class:`~p3m_edge.model.resnet`."""

    kernel: Kernel = 2

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvUnit(3, 8, bias=False)
        self.layer0 = _stage(8, 16, 1)
        self.layer1 = _stage(16, 16, 2)
        self.layer2 = _stage(16, 24, 2)
        self.layer3 = _stage(24, 32, 2)
        self.layer4 = _stage(32, 48, 2)

    def trunk(self, front: Front) -> Features:
        """The second level and the four stages."""
        half = self.layer0(front.pooled)
        pooled, winners1 = max_pool(half, self.kernel)
        e1 = self.layer1(pooled)
        pooled, winners2 = max_pool(e1, self.kernel)
        e2 = self.layer2(pooled)
        pooled, winners3 = max_pool(e2, self.kernel)
        e3 = self.layer3(pooled)
        pooled, winners4 = max_pool(e3, self.kernel)
        e4 = self.layer4(pooled)
        winners = (front.winners, winners1, winners2, winners3, winners4)
        return Features(front.detail, half, e1, e2, e3, e4, winners)


def _stage(inputs: int, outputs: int, units: int) -> nn.Sequential:
    return nn.Sequential(*(ConvUnit(outputs if i else inputs, outputs, bias=False) for i in range(units)))
