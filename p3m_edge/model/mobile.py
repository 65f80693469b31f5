"""The mobile P3M-Net: our member of the family, for devices. Same topology, written for the engines' fast operators.

Where the published networks (ACM MM 2021, section 4) meet what is slow on a device, this one does something cheaper:

- Nothing exists at full resolution but the picture and the matte. The stem has stride 2 (``detail``), and both decoders
  predict at 1/2: the local one four values a cell, one for each pixel of it (:mod:`p3m_edge.model.cells`).
- The encoder is EfficientNet-Lite0 (Apache-2.0, made for integer engines: no squeeze-and-excite, ReLU6), looking at the
  picture in half the size: its first convolution has 6x6 taps and stride 4, in place of 3x3 and 2.
- Bilinear upsampling in place of unpooling by indices; maps are reduced by 1x1 convolutions before they are enlarged.
- Depthwise convolutions where maps are large (1/8 and up), plain ones where they are small.

Measured choices: CHANGELOG.md. Shape legend: B pictures of H x W pixels, multiples of 32.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from p3m_edge.model.decoder import CLASSES, GlobalOutput, upsample
from p3m_edge.model.layers import ConvUnit, Encoder, Features

CELL = 2
"""Pixels along a side of the cells in which the decoders predict."""


class MobilePlan(NamedTuple):
    """What can be chosen; the defaults are the network ``mobile``, others are for ``tools/mobile_figures.py``.

    Attributes
    ----------
    coarse
        Channels of the global decoder at 1/32, 1/16, 1/8 and 1/4.
    fine
        Of the local decoder at these and at 1/2. It needs fewer: it has no classes to tell apart, only edges.
    plain
        At how many of these levels, from the lowest, convolutions are plain; at the others they are depthwise.
    detail
        Channels of the stem at 1/2.
    neck
        Channels between encoder and decoders.
    context
        Whether the encoder's last stages are there.
    """

    coarse: tuple[int, int, int, int] = (96, 64, 48, 32)
    fine: tuple[int, int, int, int, int] = (64, 48, 32, 24, 16)
    plain: int = 2
    detail: int = 16
    neck: int = 96
    context: bool = True

    @property
    def depthwise(self) -> tuple[bool, ...]:
        """Whether convolutions at 1/32, 1/16, 1/8, 1/4 and 1/2 are depthwise."""
        return tuple(level >= self.plain for level in range(5))


MOBILE = MobilePlan()

# EfficientNet-Lite0: expansion, channels, kernel, stride, blocks of each stage (arXiv 1905.11946, table 1, without SE).
_BLOCKS = (
    (1, 16, 3, 1, 1),
    (6, 24, 3, 2, 2),
    (6, 40, 5, 2, 2),
    (6, 80, 3, 2, 3),
    (6, 112, 5, 1, 3),
    (6, 192, 5, 2, 4),
    (6, 320, 3, 1, 1),
)


class InvertedResidual(nn.Module):
    """Expand, convolve each channel by itself, project; with a shortcut where the shape stays (arXiv 1801.04381)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expand = _unit(inputs, inner, 1) if expansion > 1 else nn.Identity()
        self.depthwise = _unit(inner, inner, kernel, stride=stride, groups=inner)
        self.project = ConvUnit(inner, outputs, 1, bias=False, act=None)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """``[B, inputs, h, w]`` -> ``[B, outputs, h / stride, w / stride]``, sizes rounded up."""
        out: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + out if self.shortcut else out


class MobileEncoder(Encoder):
    """EfficientNet-Lite0 on half the picture's size, and a stem of its own for ``detail``, 16 channels at 1/2.

    ``stem`` and ``layer1`` give 16 channels at 1/4, ``layer2`` to ``layer4`` 24, 40 and 112 at 1/8, 1/16 and 1/32.
    ``context`` holds the last stages, at 1/64 (sizes rounded up). ``neck``, ``neck_context`` and ``join`` make ``e4``
    of both: 96 channels at 1/32.
    """

    def __init__(self, plan: MobilePlan = MOBILE) -> None:
        super().__init__()
        self.plan = plan
        self.detail = _unit(3, plan.detail, 3, stride=2)
        self.stem = _unit(3, 32, 6, stride=4)
        self.layer1 = _blocks(32, 0, 1)
        self.layer2 = _blocks(16, 1, 2)
        self.layer3 = _blocks(24, 2, 3)
        self.layer4 = _blocks(40, 3, 5)
        self.neck = ConvUnit(112, plan.neck, 1, bias=False)
        if plan.context:
            self.context = _blocks(112, 5, 7)
            self.neck_context = ConvUnit(320, plan.neck, 1, bias=False)
            self.join = Join()

    def stems(self) -> tuple[ConvUnit, ...]:
        """Both units that see the picture."""
        return self.detail, self.stem

    def forward(self, x: Tensor) -> Features:
        """``[B, 3, H, W]``, normalised -> the features of all levels; no poolings, hence no winners."""
        detail = self.detail(x)
        e1 = self.layer1(self.stem(x))
        e2 = self.layer2(e1)
        e3 = self.layer3(e2)
        e4 = self.layer4(e3)
        neck = self.neck(e4)
        if self.plan.context:
            neck = self.join(neck, self.neck_context(self.context(e4)))
        return Features(detail, detail, e1, e2, e3, neck, ())


class Join(nn.Module):
    """The sum of two maps, the second of which is enlarged to the first one's size."""

    def forward(self, near: Tensor, far: Tensor) -> Tensor:
        """``[B, C, h, w]`` and ``[B, C, h / 2, w / 2]``, sizes rounded up -> ``[B, C, h, w]``."""
        return near + functional.interpolate(far, size=near.shape[-2:], mode="bilinear", align_corners=False)


class SlimTFI(nn.Module):
    """Tripartite feature integration: the three maps are reduced first, so that one small map is enlarged.

    ``guide``, ``local`` and ``encoder`` are the channels of what comes from the global decoder, the local decoder and
    the encoder. ``depthwise``: the mixing convolution is a depthwise one.
    """

    def __init__(self, guide: int, local: int, encoder: int, outputs: int, *, depthwise: bool) -> None:
        super().__init__()
        half = outputs // 2
        self.guide = nn.Conv2d(guide, half, 1, bias=False)
        self.local = nn.Conv2d(local, half, 1, bias=False)
        self.encoder = nn.Conv2d(encoder, half, 1, bias=False)
        self.mix = _mix(3 * half, outputs, depthwise=depthwise)

    def forward(self, guide: Tensor, local: Tensor, encoder: Tensor) -> Tensor:
        """Two maps ``[B, C, h/2, w/2]`` and one ``[B, C, h, w]`` -> ``[B, outputs, h, w]``."""
        small = torch.cat((self.guide(guide), self.local(local)), dim=1)
        out: Tensor = self.mix(torch.cat((upsample(small), self.encoder(encoder)), dim=1))
        return out


class SlimBFI(nn.Module):
    """Bipartite feature integration of a decoder's map with another one: sBFI (the detail) and dBFI (the neck).

    The two maps have ``channels`` and ``other`` channels, and the other one is enlarged by ``scale``.
    """

    def __init__(self, channels: int, other: int, scale: int = 1, *, depthwise: bool) -> None:
        super().__init__()
        self.scale = scale
        self.transform = nn.Conv2d(channels, channels // 2, 1, bias=False)
        self.transform_other = nn.Conv2d(other, channels // 2, 1, bias=False)
        self.mix = _mix(channels, channels, depthwise=depthwise)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        """``[B, C, h, w]`` and ``[B, C', h / scale, w / scale]`` -> ``[B, C, h, w]``."""
        other = self.transform_other(other)
        other = upsample(other, self.scale) if self.scale > 1 else other
        out: Tensor = self.mix(torch.cat((self.transform(x), other), dim=1)) + x
        return out


class MobileGlobalDecoder(nn.Module):
    """The segmentation decoder, whose last stage is at 1/4; its guides are handed on before they are enlarged."""

    def __init__(self, plan: MobilePlan = MOBILE) -> None:
        super().__init__()
        c4, c3, c2, c1 = plan.coarse
        d4, d3, d2, d1, _ = plan.depthwise
        self.stage4 = _stage((plan.neck, c4, c3), depthwise=d4)
        self.dbfi2 = SlimBFI(c3, plan.neck, 2, depthwise=d3)
        self.stage3 = _stage((c3, c3, c2), depthwise=d3)
        self.dbfi1 = SlimBFI(c2, plan.neck, 4, depthwise=d2)
        self.stage2 = _stage((c2, c2, c1), depthwise=d2)
        self.dbfi0 = SlimBFI(c1, plan.neck, 8, depthwise=d1)
        self.stage1 = _stage((c1, c1), depthwise=d1)
        self.head = nn.Conv2d(c1, CLASSES, 1)
        self.side2, self.side1, self.side0 = (nn.Conv2d(c, CLASSES, 3, padding=1, bias=False) for c in (c3, c2, c1))

    def forward(self, features: Features) -> GlobalOutput:
        """Decode; the logits are ``[B, 3, H/2, W/2]``, the guides at 1/32, 1/16, 1/8 and 1/4."""
        e4 = features.e4
        g4 = self.stage4(e4)
        b2 = self.dbfi2(upsample(g4), e4)
        g3 = self.stage3(b2)
        b1 = self.dbfi1(upsample(g3), e4)
        g2 = self.stage2(b1)
        b0 = self.dbfi0(upsample(g2), e4)
        g1 = self.stage1(b0)
        return GlobalOutput(upsample(self.head(g1)), (g4, g3, g2, g1), (b2, b1, b0))

    def sides(self, mixed: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """The side outputs 2, 1 and 0, each ``[B, 3, H, W]``. For training only."""
        b2, b1, b0 = mixed
        return upsample(self.side2(b2), 16), upsample(self.side1(b1), 8), upsample(self.side0(b0), 4)


class MobileLocalDecoder(nn.Module):
    """The matting decoder. There is no sBFI at 1/2: the TFI of that level takes the same detail already."""

    def __init__(self, plan: MobilePlan = MOBILE) -> None:
        super().__init__()
        _, g3, g2, g1 = plan.coarse
        c4, c3, c2, c1, c0 = plan.fine
        d4, d3, d2, d1, d0 = plan.depthwise
        self.stage4 = _stage((plan.neck, c4, c3), depthwise=d4)
        self.tfi3 = SlimTFI(g3, c3, 40, c3, depthwise=d3)
        self.stage3 = _stage((c3, c3, c2), depthwise=d3)
        self.tfi2 = SlimTFI(g2, c2, 24, c2, depthwise=d2)
        self.sbfi2 = SlimBFI(c2, plan.detail, depthwise=d2)
        self.stage2 = _stage((c2, c1), depthwise=d2)
        self.tfi1 = SlimTFI(g1, c1, 16, c1, depthwise=d1)
        self.sbfi1 = SlimBFI(c1, plan.detail, depthwise=d1)
        self.stage1 = _stage((c1, c1), depthwise=d1)
        self.tfi0 = SlimTFI(g1, c1, plan.detail, c0, depthwise=d0)
        self.stage0 = _stage((c0, c0), depthwise=d0)
        self.head = nn.Conv2d(c0, CELL * CELL, 1)

    def forward(self, features: Features, guides: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        """The logits of the local alpha, ``[B, 4, H/2, W/2]``: the pixels of a cell row by row."""
        g4, g3, g2, g1 = guides
        quarter = functional.max_pool2d(features.detail, 2, 2)
        l4 = self.stage4(features.e4)
        l3 = self.stage3(self.tfi3(g4, l4, features.e3))
        l2 = self.stage2(self.sbfi2(self.tfi2(g3, l3, features.e2), functional.max_pool2d(quarter, 2, 2)))
        l1 = self.stage1(self.sbfi1(self.tfi1(g2, l2, features.e1), quarter))
        out: Tensor = self.head(self.stage0(self.tfi0(g1, l1, features.half)))
        return out


def _unit(inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> ConvUnit:
    """A unit of EfficientNet-Lite."""
    return ConvUnit(inputs, outputs, kernel, stride=stride, bias=False, act=nn.ReLU6, groups=groups)


def _blocks(inputs: int, first: int, last: int) -> nn.Sequential:
    """The stages ``first`` to before ``last`` of EfficientNet-Lite0."""
    layers: list[nn.Module] = []
    for expansion, outputs, kernel, stride, count in _BLOCKS[first:last]:
        for number in range(count):
            layers.append(InvertedResidual(inputs, outputs, kernel, 1 if number else stride, expansion))
            inputs = outputs
    return nn.Sequential(*layers)


def _mix(inputs: int, outputs: int, *, depthwise: bool) -> nn.Module:
    """A 3x3 convolution, or one channel by channel and a 1x1 convolution after it."""
    if not depthwise:
        return ConvUnit(inputs, outputs, bias=False)
    return nn.Sequential(ConvUnit(inputs, inputs, bias=False, groups=inputs), ConvUnit(inputs, outputs, 1, bias=False))


def _stage(channels: tuple[int, ...], *, depthwise: bool) -> nn.Sequential:
    return nn.Sequential(*(_mix(a, b, depthwise=depthwise) for a, b in pairwise(channels)))
