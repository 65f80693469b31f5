"""The ResNet-34 encoder of P3M-Net (ACM MM 2021, section 4.1): all strides moved into max-poolings with indices."""

from __future__ import annotations

import torch.nn.functional as functional
from torch import Tensor, nn

from p3m_edge.model.layers import ConvUnit, PoolingEncoder, repeated
from p3m_edge.model.unpool import Kernel


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
        self.layer0 = nn.Identity()  # the second level is the pooled stem itself
        self.layer1 = repeated(BasicBlock, 64, 64, 3)
        self.layer2 = repeated(BasicBlock, 64, 128, 4)
        self.layer3 = repeated(BasicBlock, 128, 256, 6)
        self.layer4 = repeated(BasicBlock, 256, 512, 3)
