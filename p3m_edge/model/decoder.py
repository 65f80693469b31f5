"""The two decoders of P3M-Net, described by a table of channels, and the modules that integrate their features.

TFI, sBFI and dBFI are the tripartite, shallow bipartite and deep bipartite feature integration modules
(ACM MM 2021, section 4.2). Shape legend: C channels of the stage's input, h and w the size at hand.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from p3m_edge.model.layers import ConvUnit, Features
from p3m_edge.model.unpool import Kernel, max_unpool

CLASSES = 3  # background, unknown, foreground


class DecoderPlan(NamedTuple):
    """Channels of the decoder stages: those of the input, then those after each 3x3 convolution.

    Attributes
    ----------
    stage4, stage3, stage2, stage1
        The same in both decoders.
    global0
        The global decoder's last stage; its last convolution has neither norm nor activation. Where it does not end
        in the three classes, one more convolution follows the upsampling.
    local0
        The local decoder's last stage, before its last unpooling and the final convolution.
    detail
        Channels of the encoder's stem.
    """

    stage4: tuple[int, ...]
    stage3: tuple[int, ...]
    stage2: tuple[int, ...]
    stage1: tuple[int, ...]
    global0: tuple[int, ...]
    local0: tuple[int, ...]
    detail: int


PLANS = {
    "r34": DecoderPlan(
        (512, 512, 512, 256), (256, 256, 256, 128), (128, 128, 128, 64), (64, 64, 64, 64),
        global0=(64, 64, 64, 3), local0=(64, 64, 64), detail=64,
    ),
    "swin-t": DecoderPlan(
        (768, 384, 384, 384), (384, 192, 192, 192), (192, 96, 96, 96), (96, 96, 96, 96),
        global0=(96, 48, 48, 48), local0=(96, 48, 48), detail=48,
    ),
    "vitae-s": DecoderPlan(
        (512, 256, 256, 256), (256, 128, 128, 128), (128, 64, 64, 64), (64, 64, 64, 64),
        global0=(64, 32, 32, 32), local0=(64, 32, 32), detail=32,
    ),
    "tiny": DecoderPlan(
        (48, 32, 32, 32), (32, 24, 24, 24), (24, 16, 16, 16), (16, 16, 16, 16),
        global0=(16, 8, 8, 3), local0=(16, 8, 8), detail=8,
    ),
}  # fmt: skip


class TFI(nn.Module):
    """Tripartite feature integration: the global decoder, the local decoder and the encoder of one level."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.transform = nn.Conv2d(channels, channels // 2, 1, bias=False)  # one for all three
        self.mix = ConvUnit(3 * channels // 2, channels, bias=False)

    def forward(self, guide: Tensor, local: Tensor, encoder: Tensor) -> Tensor:
        """Three times ``[B, C, h, w]`` -> ``[B, C, h, w]``."""
        out: Tensor = self.mix(torch.cat([self.transform(x) for x in (guide, local, encoder)], dim=1))
        return out


class SBFI(nn.Module):
    """Shallow bipartite feature integration: the local decoder, at 1 / ``stride`` of the input (2, 4 or 8), and the
    detail of the encoder's stem.
    """

    def __init__(self, channels: int, detail: int, stride: int) -> None:
        super().__init__()
        self.step = stride // 2
        self.transform = nn.Conv2d(channels, channels // 2, 1, bias=False)
        self.transform_detail = nn.Conv2d(detail, channels // 2, 1, bias=False)
        self.mix = ConvUnit(channels, channels, bias=False)

    def forward(self, local: Tensor, detail: Tensor) -> Tensor:
        """``[B, C, h, w]`` and the stem's 2x2 maxima ``[B, C0, H/2, W/2]`` -> ``[B, C, h, w]``."""
        # Max-pooling e0 with kernel 2 and this stride is every step-th of its 2x2 maxima.
        if self.step > 1:
            detail = detail[..., :: self.step, :: self.step]
        parts = (self.transform(local), self.transform_detail(detail))
        out: Tensor = self.mix(torch.cat(parts, dim=1)) + local
        return out


class DBFI(nn.Module):
    """Deep bipartite feature integration: the global decoder and the encoder's bottleneck e4, which is smaller by
    ``scale`` (4, 8 or 16); and its side output.
    """

    def __init__(self, channels: int, bottleneck: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.transform = nn.Conv2d(channels, channels // 2, 1, bias=False)
        self.transform_bottleneck = nn.Conv2d(bottleneck, channels // 2, 1, bias=False)
        self.mix = ConvUnit(channels, channels, bias=False)
        self.side = nn.Conv2d(channels, CLASSES, 3, padding=1, bias=False)

    def forward(self, guide: Tensor, e4: Tensor) -> Tensor:
        """``[B, C, h, w]`` and ``[B, C4, H/32, W/32]`` -> ``[B, C, h, w]``."""
        parts = (self.transform(guide), upsample(self.transform_bottleneck(e4), self.scale))
        out: Tensor = self.mix(torch.cat(parts, dim=1)) + guide
        return out

    def side_logits(self, mixed: Tensor) -> Tensor:
        """The side output of this module's own output: ``[B, C, h, w]`` -> ``[B, 3, H, W]``. For training only."""
        return upsample(self.side(mixed), 32 // self.scale)


class GlobalOutput(NamedTuple):
    """What the global decoder gives.

    Attributes
    ----------
    logits
        ``[B, 3, H/n, W/n]``; n is 1 here, see :mod:`p3m_edge.model.cells`.
    guides
        The outputs of its stages 4, 3, 2 and 1, which guide the local decoder.
    mixed
        The outputs of its dBFI modules 2, 1 and 0, from which the side outputs come.
    """

    logits: Tensor
    guides: tuple[Tensor, Tensor, Tensor, Tensor]
    mixed: tuple[Tensor, Tensor, Tensor]


class GlobalDecoder(nn.Module):
    """The segmentation decoder: background, unknown or foreground. Each stage ends in a bilinear upsampling by 2."""

    def __init__(self, plan: DecoderPlan) -> None:
        super().__init__()
        bottleneck = plan.stage4[0]
        self.stage4 = _stage(plan.stage4)
        self.stage3 = _stage(plan.stage3)
        self.stage2 = _stage(plan.stage2)
        self.stage1 = _stage(plan.stage1)
        self.stage0 = _stage(plan.global0, plain_end=True)
        self.dbfi2 = DBFI(plan.stage2[0], bottleneck, 4)
        self.dbfi1 = DBFI(plan.stage1[0], bottleneck, 8)
        self.dbfi0 = DBFI(plan.global0[0], bottleneck, 16)
        last = plan.global0[-1]
        self.head = nn.Identity() if last == CLASSES else nn.Conv2d(last, CLASSES, 3, padding=1)

    def forward(self, features: Features) -> GlobalOutput:
        """Decode the features of all levels."""
        e4 = features.e4
        g4 = upsample(self.stage4(e4))
        g3 = upsample(self.stage3(g4))
        b2 = self.dbfi2(g3, e4)
        g2 = upsample(self.stage2(b2))
        b1 = self.dbfi1(g2, e4)
        g1 = upsample(self.stage1(b1))
        b0 = self.dbfi0(g1, e4)
        logits = self.head(upsample(self.stage0(b0)))
        return GlobalOutput(logits, (g4, g3, g2, g1), (b2, b1, b0))

    def sides(self, mixed: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """The side outputs 2, 1 and 0, each ``[B, 3, H, W]``."""
        b2, b1, b0 = mixed
        return self.dbfi2.side_logits(b2), self.dbfi1.side_logits(b1), self.dbfi0.side_logits(b0)


class LocalDecoder(nn.Module):
    """The matting decoder: alpha within the unknown region. Each stage ends in an unpooling.

    ``kernel`` is the side of the encoder's pooling windows.
    """

    def __init__(self, plan: DecoderPlan, kernel: Kernel) -> None:
        super().__init__()
        self.kernel = kernel
        self.stage4 = _stage(plan.stage4)
        self.stage3 = _stage(plan.stage3)
        self.stage2 = _stage(plan.stage2)
        self.stage1 = _stage(plan.stage1)
        self.stage0 = _stage(plan.local0)
        self.tfi3 = TFI(plan.stage3[0])
        self.tfi2 = TFI(plan.stage2[0])
        self.tfi1 = TFI(plan.stage1[0])
        self.tfi0 = TFI(plan.local0[0])
        self.sbfi2 = SBFI(plan.stage2[0], plan.detail, 8)
        self.sbfi1 = SBFI(plan.stage1[0], plan.detail, 4)
        self.sbfi0 = SBFI(plan.local0[0], plan.detail, 2)
        self.head = nn.Conv2d(plan.local0[-1], 1, 3, padding=1)

    def body(self, features: Features, guides: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        """All but the last unpooling and convolution; ``[B, C, H/2, W/2]``."""
        detail, half, e1, e2, e3, e4, winners = features
        g4, g3, g2, g1 = guides
        l4 = max_unpool(self.stage4(e4), winners[4], self.kernel)
        l3 = max_unpool(self.stage3(self.tfi3(g4, l4, e3)), winners[3], self.kernel)
        l2 = max_unpool(self.stage2(self.sbfi2(self.tfi2(g3, l3, e2), detail)), winners[2], self.kernel)
        l1 = max_unpool(self.stage1(self.sbfi1(self.tfi1(g2, l2, e1), detail)), winners[1], self.kernel)
        out: Tensor = self.stage0(self.sbfi0(self.tfi0(g1, l1, half), detail))
        return out

    def forward(self, features: Features, guides: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        """The logits of the local alpha, ``[B, 1, H, W]``."""
        out: Tensor = self.head(max_unpool(self.body(features, guides), features.winners[0], self.kernel))
        return out


def upsample(x: Tensor, factor: int = 2) -> Tensor:
    """Bilinear, pixel centres aligned by halves (``align_corners=False``)."""
    return functional.interpolate(x, scale_factor=float(factor), mode="bilinear", align_corners=False)


def _stage(channels: tuple[int, ...], *, plain_end: bool = False) -> nn.Sequential:
    """3x3 units along ``channels``; the last without norm and activation if ``plain_end``."""
    units = [ConvUnit(a, b) for a, b in pairwise(channels)]
    if plain_end:
        units[-1] = ConvUnit(channels[-2], channels[-1], norm=False, act=None)
    return nn.Sequential(*units)
