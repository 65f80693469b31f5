"""The smallest P3M-Net: for tests, the smoke preset and quick comparisons. It is no product, and no table lists it."""

from __future__ import annotations

from functools import partial

from p3m_edge.model.layers import ConvUnit, PoolingEncoder, repeated
from p3m_edge.model.unpool import Kernel


class Tiny(PoolingEncoder):
    """One or two 3x3 units a level, each level behind a 2x2 max-pooling."""

    kernel: Kernel = 2

    def __init__(self) -> None:
        super().__init__()
        unit = partial(ConvUnit, bias=False)
        self.stem = unit(3, 8)
        self.layer0 = repeated(unit, 8, 16, 1)
        self.layer1 = repeated(unit, 16, 16, 2)
        self.layer2 = repeated(unit, 16, 24, 2)
        self.layer3 = repeated(unit, 24, 32, 2)
        self.layer4 = repeated(unit, 32, 48, 2)
