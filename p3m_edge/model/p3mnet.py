"""P3M-Net: one encoder, a global and a local decoder, and their fusion (ACM MM 2021, section 4)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from p3m_edge.errors import InputError, UsageError, shown, suggestion
from p3m_edge.model.cells import assembled, spread
from p3m_edge.model.decoder import PLANS, GlobalDecoder, GlobalOutput, LocalDecoder
from p3m_edge.model.layers import Encoder, PoolingEncoder, initialise
from p3m_edge.model.mobile import CELL, MobileEncoder, MobileGlobalDecoder, MobileLocalDecoder
from p3m_edge.model.resnet import ResNet34
from p3m_edge.model.swin import SwinT
from p3m_edge.model.tiny import Tiny
from p3m_edge.model.vitae import ViTAES
from p3m_edge.targets import ARCHS

ENCODERS: dict[str, type[Encoder]] = {
    "r34": ResNet34,
    "swin-t": SwinT,
    "vitae-s": ViTAES,
    "mobile": MobileEncoder,
    "tiny": Tiny,
}
MULTIPLE = 32

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class P3MOutput(NamedTuple):
    """What the network gives, all float, at the input's size.

    Attributes
    ----------
    global_logits
        ``[B, 3, H, W]``: background, unknown, foreground.
    local_alpha
        ``[B, 1, H, W]``, 0..1: the alpha of the local decoder, meant for the unknown region.
    alpha
        ``[B, 1, H, W]``, 0..1: the fused alpha.
    side2, side1, side0
        ``[B, 3, H, W]``: side logits of the global decoder, for training.
    """

    global_logits: Tensor
    local_alpha: Tensor
    alpha: Tensor
    side2: Tensor
    side1: Tensor
    side0: Tensor

    def float(self) -> P3MOutput:
        """The same in float32."""
        return P3MOutput(*(x.float() for x in self))


class P3MNet(nn.Module):
    """P3M-Net of one architecture, with uninitialised weights; see :func:`build`.

    Attributes
    ----------
    arch
        One of :data:`p3m_edge.targets.ARCHS`, or ``tiny`` (:mod:`p3m_edge.model.tiny`).
    cell
        The decoders predict at 1 / cell of the input's size, see :mod:`p3m_edge.model.cells`.
    """

    def __init__(self, arch: str) -> None:
        super().__init__()
        if not isinstance(arch, str) or arch not in ENCODERS:
            raise UsageError(f"unknown architecture {shown(arch)}", hint=suggestion(str(arch), ARCHS))
        self.arch = arch
        self.encoder = ENCODERS[arch]()
        self.global_decoder: GlobalDecoder | MobileGlobalDecoder
        self.local_decoder: LocalDecoder | MobileLocalDecoder
        if isinstance(self.encoder, PoolingEncoder):
            self.cell = 1
            self.global_decoder = GlobalDecoder(PLANS[arch])
            self.local_decoder = LocalDecoder(PLANS[arch], self.encoder.kernel)
        else:
            self.cell = CELL
            self.global_decoder, self.local_decoder = MobileGlobalDecoder(), MobileLocalDecoder()
        self.float()  # whatever the script's default dtype

    def forward(self, x: Tensor) -> P3MOutput:
        """Matte a batch of pictures.

        Parameters
        ----------
        x
            float32 ``[B, 3, H, W]``, RGB as ``(value / 255 - mean) / std`` with :data:`IMAGENET_MEAN` and
            :data:`IMAGENET_STD`; H and W multiples of 32.

        Raises
        ------
        InputError
            ``x`` has another rank, dtype, number of channels or an impossible size.
        """
        _check(x)
        coarse, local_alpha = self.predict(x)
        alpha = assembled(fuse(coarse.logits, local_alpha), self.cell)
        sides = self.global_decoder.sides(coarse.mixed)
        return P3MOutput(spread(coarse.logits, self.cell), assembled(local_alpha, self.cell), alpha, *sides)

    def predict(self, x: Tensor) -> tuple[GlobalOutput, Tensor]:
        """What the decoders predict for cells of n x n pixels; the input is that of :meth:`forward`.

        Returns the global decoder's output with logits ``[B, 3, H/n, W/n]``, and the local alpha ``[B, n * n, H/n,
        W/n]``.
        """
        features = self.encoder(x)
        coarse: GlobalOutput = self.global_decoder(features)
        return coarse, torch.sigmoid(self.local_decoder(features, coarse.guides))


def build(arch: str) -> P3MNet:
    """A P3M-Net of an architecture with freshly initialised weights; :class:`UsageError` if it is unknown."""
    network = P3MNet(arch)
    initialise(network)
    return network


def fuse(global_logits: Tensor, local_alpha: Tensor) -> Tensor:
    """Fuse the two decoders: 0 in the background, the local alpha in the unknown region, 1 in the foreground.

    The class is the largest logit, the lowest class on a tie. Comparisons, not ``argmax``: every engine has them.
    ``[B, 3, H, W]`` and ``[B, C, H, W]``, 0..1 (C is 1, or the pixels of a cell) -> ``[B, C, H, W]``, 0..1.
    """
    background, unknown, foreground = global_logits[:, 0:1], global_logits[:, 1:2], global_logits[:, 2:3]
    is_background = torch.logical_and(background >= unknown, background >= foreground)
    is_foreground = torch.logical_and(foreground > background, foreground > unknown)
    is_unknown = torch.logical_not(torch.logical_or(is_background, is_foreground))
    return local_alpha * is_unknown.to(local_alpha.dtype) + is_foreground.to(local_alpha.dtype)


def fuse_by_arithmetic(global_logits: Tensor, local_alpha: Tensor) -> Tensor:
    """The values of :func:`fuse` without booleans, which LiteRT's delegates for graphics processors refuse.

    ``floor`` makes -1 of every difference below 0 that was clamped to -1..0, however small, and 0 of all others. That
    is exact, because the difference of two numbers in floating point is 0 only where they are equal.
    """
    background, unknown, foreground = global_logits[:, 0:1], global_logits[:, 1:2], global_logits[:, 2:3]
    in_foreground = torch.floor((torch.maximum(background, unknown) - foreground).clamp(-1, 0))
    not_in_background = torch.floor((background - torch.maximum(unknown, foreground)).clamp(-1, 0))
    return local_alpha * (in_foreground - not_in_background) - in_foreground


def _check(x: Tensor) -> None:
    if not isinstance(x, Tensor) or not x.is_floating_point():
        got = f"a tensor of {x.dtype}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
        raise InputError(f"the network takes a float32 tensor, not {got}")
    if x.ndim != 4 or x.shape[1] != 3:
        raise InputError(f"the network takes [batch, 3, height, width], not {list(x.shape)}")
    if 0 in x.shape:
        raise InputError(f"the network cannot take an empty batch or picture: {list(x.shape)}")
    height, width = x.shape[2:]
    if height % MULTIPLE or width % MULTIPLE:
        raise InputError(
            f"height {height} and width {width} must be multiples of {MULTIPLE}", hint="resize or pad the picture"
        )
