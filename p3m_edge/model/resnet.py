"""The ResNet-34 encoder of P3M-Net (ACM MM 2021, section 4.1): all strides moved into max-poolings with indices."""

from __future__ import annotations

import torch.nn.functional as functional
from torch import Tensor, nn

from p3m_edge.model.layers import ConvUnit, Features, Front, PoolingEncoder
from p3m_edge.model.unpool import Kernel, max_pool


class BasicBlock(nn.Module):
    """Two 3x3 units and a shortcut, which is projected where the channels change."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.unit1 = ConvUnit(inputs, outputs, bias=False)
        self.unit2 = ConvUnit(outputs, outputs, bias=False, act=None)
        changes = inputs != outputs
        self.shortcut = ConvUnit(inputs, outputs, 1, bias=False, act=None) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """``[B, inputs, h, w]`` -> ``[B, outputs, h, w]``."""
        return functional.relu(self.unit2(self.unit1(x)) + self.shortcut(x))


class ResNet34(PoolingEncoder):
    """ResNet-34 whose residual stages all run at stride 1, each behind a 3x3 max-pooling of stride 2."""

    kernel: Kernel = 3

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvUnit(3, 64, 7, bias=False)
        self.layer1 = _stage(64, 64, 3)
        self.layer2 = _stage(64, 128, 4)
        self.layer3 = _stage(128, 256, 6)
        self.layer4 = _stage(256, 512, 3)

    def trunk(self, front: Front) -> Features:
        """The residual stages; the second level (``half``) is the pooled stem itself."""
        pooled, winners1 = max_pool(front.pooled, self.kernel)
        e1 = self.layer1(pooled)
        pooled, winners2 = max_pool(e1, self.kernel)
        e2 = self.layer2(pooled)
        pooled, winners3 = max_pool(e2, self.kernel)
        e3 = self.layer3(pooled)
        pooled, winners4 = max_pool(e3, self.kernel)
        e4 = self.layer4(pooled)
        winners = (front.winners, winners1, winners2, winners3, winners4)
        return Features(front.detail, front.pooled, e1, e2, e3, e4, winners)


def _stage(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(BasicBlock(outputs if i else inputs, outputs) for i in range(blocks)))
