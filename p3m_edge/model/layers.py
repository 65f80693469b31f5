"""What the encoders and the decoders share: the convolution unit, the token blocks, the encoder interface.

Shape legend: B batch, C channels, H and W the size of the network's input, h and w the size of the map at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch.nn.functional as functional
from torch import Tensor, nn

from p3m_edge.model.unpool import Kernel, Winners, max_pool


class ConvUnit(nn.Module):
    """Convolution, then batch norm, then an activation; ``nn.Identity`` where there is no norm or no activation.

    Every convolution that is followed by a batch norm or an activation is one of these, so that folding finds them all.

    Parameters
    ----------
    inputs, outputs
        Channels.
    kernel
        Side of the kernel; odd, or even where the stride is. The padding keeps the size, divided by the stride.
    stride, bias, groups
        Of the convolution.
    norm
        Whether a batch norm follows.
    act
        The activation; None for none.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 3,
        *,
        stride: int = 1,
        bias: bool = True,
        norm: bool = True,
        act: type[nn.Module] | None = nn.ReLU,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, bias=bias, groups=groups)
        self.norm: nn.Module = nn.BatchNorm2d(outputs) if norm else nn.Identity()
        self.act: nn.Module = act() if act is not None else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """``[B, inputs, h, w]`` -> ``[B, outputs, h / stride, w / stride]``, rounded up (even kernels: whole sizes)."""
        out: Tensor = self.act(self.norm(self.conv(x)))
        return out


class Mlp(nn.Module):
    """Two linear layers with the exact (erf) GELU between them, on the last axis; four times as wide inside."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, 4 * channels)
        self.fc2 = nn.Linear(4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., C]`` -> ``[..., C]``."""
        out: Tensor = self.fc2(functional.gelu(self.fc1(x)))
        return out


class StemOutput(NamedTuple):
    """What the rest of the encoder needs of its first level, which alone has the full resolution.

    Attributes
    ----------
    pooled
        ``[B, C0, H/2, W/2]``, the stem's output after the first pooling.
    winners
        Of that pooling.
    detail
        ``[B, C0, H/2, W/2]``, the maximum of each 2x2 cell of the stem's output, which the sBFI modules sample.
        With 2x2 pooling it is ``pooled`` itself.
    """

    pooled: Tensor
    winners: Winners
    detail: Tensor


class Features(NamedTuple):
    """What an encoder hands to the decoders.

    Attributes
    ----------
    detail
        ``[B, C0, H/2, W/2]``, see :class:`StemOutput`.
    half
        ``[B, C, H/2, W/2]``, the second level.
    e1, e2, e3, e4
        The levels at 1/4, 1/8, 1/16 and 1/32 of the input.
    winners
        Of the five poolings, as :func:`p3m_edge.model.unpool.max_pool` gives them; those of pooling i are at
        ``1 / 2**(i + 1)`` of the input, in the channels of the level that was pooled. Empty where nothing is unpooled.
    """

    detail: Tensor
    half: Tensor
    e1: Tensor
    e2: Tensor
    e3: Tensor
    e4: Tensor
    winners: tuple[Winners, ...]


class Encoder(nn.Module):
    """Base of the encoders: ``[B, 3, H, W]``, normalised -> :class:`Features`."""

    def stems(self) -> tuple[ConvUnit, ...]:
        """The units that see the picture."""
        raise NotImplementedError


class PoolingEncoder(Encoder):
    """Base of the published encoders: a stem at full resolution, and a trunk that needs only its :class:`StemOutput`.

    Attributes
    ----------
    kernel
        Side of the pooling windows: 3 (overlapping, ResNet-34) or 2.
    stem
        One unit, ``[B, 3, H, W]`` -> e0 ``[B, C0, H, W]``.
    layer0, layer1, layer2, layer3, layer4
        The levels at 1/2 to 1/32, each behind a pooling; :class:`TokenEncoder` has others in their place.
    """

    kernel: Kernel
    stem: ConvUnit
    layer0: nn.Module
    layer1: nn.Module
    layer2: nn.Module
    layer3: nn.Module
    layer4: nn.Module

    def stems(self) -> tuple[ConvUnit, ...]:
        """The stem."""
        return (self.stem,)

    def trunk(self, stem: StemOutput) -> Features:
        """Everything below the full resolution."""
        levels, winners = [self.layer0(stem.pooled)], [stem.winners]
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            pooled, won = max_pool(levels[-1], self.kernel)
            levels.append(layer(pooled))
            winners.append(won)
        half, e1, e2, e3, e4 = levels
        return Features(stem.detail, half, e1, e2, e3, e4, tuple(winners))

    def forward(self, x: Tensor) -> Features:
        """``[B, 3, H, W]``, normalised -> the features of all levels."""
        e0 = self.stem(x)  # the only features at full resolution
        pooled, winners = max_pool(e0, self.kernel)
        detail = pooled if self.kernel == 2 else functional.max_pool2d(e0, 2, 2)
        return self.trunk(StemOutput(pooled, winners, detail))


class Reduction(nn.Module):
    """Between two token stages: layer norm (whose output is the level's feature), 2x2 max-pooling, linear."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(inputs)
        self.linear = nn.Linear(inputs, outputs, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Winners, Tensor]:
        """``[B, h, w, inputs]`` -> the level's feature ``[B, inputs, h, w]``, the pooling's winners, and the tokens of
        the next stage ``[B, h/2, w/2, outputs]``.
        """
        feature = channels_first(self.norm(x))
        pooled, winners = max_pool(feature, 2)
        tokens: Tensor = self.linear(channels_last(pooled))
        return feature, winners, tokens


class TokenEncoder(PoolingEncoder):
    """Base of Swin-T and ViTAE-S: a stem of three convolutions and two poolings, then four stages of tokens.

    Tokens are kept as maps ``[B, h, w, C]``.

    Parameters
    ----------
    stem_channels
        Channels of the stem's first convolution.
    widths
        Channels of the four stages; the stem's other two convolutions have ``widths[0]``.
    stages
        The four stages, each ``[B, h, w, C]`` -> the same.
    embed_act
        Activation of the stem's third convolution; None for none.
    norm
        Layer norm after the last stage, or ``nn.Identity()``.
    """

    kernel: Kernel = 2

    def __init__(
        self,
        stem_channels: int,
        widths: Sequence[int],
        stages: Sequence[nn.Module],
        *,
        embed_act: type[nn.Module] | None,
        norm: nn.Module,
    ) -> None:
        super().__init__()
        self.stem = ConvUnit(3, stem_channels, norm=False)
        self.stem2 = ConvUnit(stem_channels, widths[0], norm=False)
        self.stem3 = ConvUnit(widths[0], widths[0], norm=False, act=embed_act)
        self.stem_norm = nn.LayerNorm(widths[0])
        self.stages = nn.ModuleList(stages)
        self.reductions = nn.ModuleList(Reduction(*pair) for pair in pairwise(widths))
        self.norm = norm

    def trunk(self, stem: StemOutput) -> Features:
        """The second level, the four stages and the reductions between them."""
        half = self.stem2(stem.pooled)
        pooled, winners1 = max_pool(half, 2)
        x = self.stem_norm(channels_last(self.stem3(pooled)))
        e1, winners2, x = self.reductions[0](self.stages[0](x))
        e2, winners3, x = self.reductions[1](self.stages[1](x))
        e3, winners4, x = self.reductions[2](self.stages[2](x))
        e4 = channels_first(self.norm(self.stages[3](x)))
        return Features(stem.detail, half, e1, e2, e3, e4, (stem.winners, winners1, winners2, winners3, winners4))


def repeated(block: Callable[[int, int], nn.Module], inputs: int, outputs: int, count: int) -> nn.Sequential:
    """So many blocks in a row, each made from its input and output channels."""
    return nn.Sequential(*(block(outputs if i else inputs, outputs) for i in range(count)))


def channels_last(x: Tensor) -> Tensor:
    """``[B, C, h, w]`` -> ``[B, h, w, C]``."""
    return x.permute(0, 2, 3, 1)


def channels_first(x: Tensor) -> Tensor:
    """``[B, h, w, C]`` -> ``[B, C, h, w]``."""
    return x.permute(0, 3, 1, 2)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """``[B, N, C]`` -> ``[B, heads, N, C / heads]``."""
    batch, tokens, channels = x.shape
    return x.reshape(batch, tokens, heads, channels // heads).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """``[B, heads, N, c]`` -> ``[B, N, heads * c]``."""
    batch, heads, tokens, channels = x.shape
    return x.transpose(1, 2).reshape(batch, tokens, heads * channels)


def initialise(module: nn.Module) -> None:
    """Kaiming normal for convolutions, normal with deviation 0.02 for linear layers, zero biases, plain norms."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        elif isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
