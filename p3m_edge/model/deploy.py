"""P3M-Net as one exportable module: a uint8 frame in, an alpha matte out.

Compared with :class:`p3m_edge.model.p3mnet.P3MNet` the batch norms are folded into their convolutions, the side outputs
are gone and the normalisation is inside. In the published networks, the two stages at full resolution work on the four
phases of :mod:`p3m_edge.model.unpool` (:class:`PhaseForm`): the stem gives its output as four maps of half the size,
and the last unpooling and the final convolution never assemble the full-resolution map of many channels.
"""

from __future__ import annotations

import copy
from itertools import product
from typing import Literal, NamedTuple, cast

import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from torch.nn.utils import fusion

from p3m_edge.errors import UsageError
from p3m_edge.manifest_schema import OutputName, Unpool
from p3m_edge.model.cells import assembled, spread
from p3m_edge.model.decoder import GlobalOutput, LocalDecoder
from p3m_edge.model.layers import ConvUnit, Encoder, PoolingEncoder, StemOutput
from p3m_edge.model.p3mnet import ENCODERS, IMAGENET_MEAN, IMAGENET_STD, P3MNet, fuse, fuse_by_arithmetic
from p3m_edge.model.unpool import Lowering, Phases, lowering, pool_phases, unpool_phases

Outputs = Literal["all", "alpha"]
OUTPUTS: dict[Outputs, tuple[OutputName, ...]] = {"all": ("alpha", "local_alpha", "global_logits"), "alpha": ("alpha",)}
"""The names of the graph's outputs."""


class DeployOutput(NamedTuple):
    """What the deployed network gives, float32, at the network's size.

    Attributes
    ----------
    alpha
        ``[N, 1, H, W]``, 0..1: the matte.
    local_alpha
        ``[N, 1, H, W]``, 0..1: the local decoder's alpha, for verification.
    global_logits
        ``[N, 3, H, W]``: background, unknown, foreground, for verification.
    """

    alpha: Tensor
    local_alpha: Tensor
    global_logits: Tensor


class Deploy(nn.Module):
    """The deployable network, in float32 and evaluation mode. The network it is made from is not changed.

    It gives ``outputs`` (``all``, or ``alpha`` alone); ``unpool`` says how poolings and unpoolings are written, see
    :func:`p3m_edge.model.unpool.lowering`; with ``booleans`` off, the fusion has none, and the same values. Raises
    :class:`UsageError` as :func:`unpooling` does.
    """

    mean: Tensor

    def __init__(
        self, network: P3MNet, outputs: Outputs = "all", unpool: Lowering = "select", *, booleans: bool = True
    ) -> None:
        super().__init__()
        form = unpooling(network.arch, unpool)
        network = copy.deepcopy(network).float().eval().requires_grad_(requires_grad=False)
        _fold_norms(network)
        _fold_scale(network.encoder)
        self.arch = network.arch
        self.outputs = outputs
        self.unpool = unpool
        self.cell = network.cell
        self.fuse = fuse if booleans else fuse_by_arithmetic
        self.network = PhaseForm(network) if form == "select" else network
        self.register_buffer("mean", 255.0 * torch.tensor(IMAGENET_MEAN).reshape(1, 3, 1, 1))
        self.float().eval()  # all of it, whatever the script's default dtype

    def forward(self, image: Tensor) -> DeployOutput | Tensor:
        """Matte frames, uint8 ``[N, H, W, 3]``, RGB; H and W are multiples of 32."""
        with lowering(self.unpool):
            # The mean is subtracted here and not in the stem's bias, because the stem pads with zeros after it.
            coarse, local_alpha = self.network.predict(image.permute(0, 3, 1, 2).to(torch.float32) - self.mean)
        alpha = assembled(self.fuse(coarse.logits, local_alpha), self.cell)
        if self.outputs == "alpha":
            return alpha
        return DeployOutput(alpha, assembled(local_alpha, self.cell), spread(coarse.logits, self.cell))


def unpooling(arch: str, wanted: Lowering) -> Unpool:
    """The form of an architecture's unpooling: the wanted one, or ``none`` where nothing is unpooled.

    Raises
    ------
    UsageError
        Where nothing is unpooled, a form is wanted by its name.
    """
    if issubclass(ENCODERS[arch], PoolingEncoder):
        return wanted
    if wanted != "select":
        raise UsageError(f"{arch} unpools nothing, so it has no form {wanted!r}", hint="leave out --unpool")
    return "none"


class PhaseForm(nn.Module):
    """A network whose local decoder unpools, with its two stages at full resolution in phases; it takes over the parts
    of the one that it is made from.
    """

    def __init__(self, network: P3MNet) -> None:
        super().__init__()
        self.encoder = cast("PoolingEncoder", network.encoder)
        self.global_decoder = network.global_decoder
        self.local_decoder = cast("LocalDecoder", network.local_decoder)
        self.stem = PhaseStem(self.encoder.stem)
        self.head = PhaseHead(self.local_decoder.head)

    def predict(self, x: Tensor) -> tuple[GlobalOutput, Tensor]:
        """The same as :meth:`p3m_edge.model.p3mnet.P3MNet.predict`."""
        kernel, phases = self.encoder.kernel, self.stem(x)
        pooled, winners = pool_phases(phases, kernel)
        if kernel == 2:
            detail = pooled
        else:  # the maximum of each 2x2 cell
            ee, eo, oe, oo = phases
            detail = torch.maximum(torch.maximum(ee, eo), torch.maximum(oe, oo))
        features = self.encoder.trunk(StemOutput(pooled, winners, detail))
        coarse: GlobalOutput = self.global_decoder(features)
        inner = self.local_decoder.body(features, coarse.guides)
        return coarse, torch.sigmoid(self.head(unpool_phases(inner, winners, kernel)))


class PhaseStem(nn.Module):
    """The stem's convolution and activation, giving its output as four phases.

    Phase (p, q) is the same convolution with stride 2, its padding moved by (p, q).
    """

    def __init__(self, stem: ConvUnit) -> None:
        super().__init__()
        self.conv = stem.conv
        self.act = stem.act
        pad = stem.conv.kernel_size[0] // 2
        self.pads = [(pad - q, pad - 1 + q, pad - p, pad - 1 + p) for p in (0, 1) for q in (0, 1)]

    def forward(self, x: Tensor) -> Phases:
        """``[N, 3, H, W]``, 0..255 less the mean -> four phases ``[N, C0, H/2, W/2]`` of the stem's output."""
        weight, bias = self.conv.weight, self.conv.bias
        moved = (functional.pad(x, pads) for pads in self.pads)
        ee, eo, oe, oo = (self.act(functional.conv2d(part, weight, bias, stride=2)) for part in moved)
        return ee, eo, oe, oo


class PhaseHead(nn.Module):
    """A 3x3 convolution to one channel whose input comes as four phases; only its one-channel output is assembled."""

    def __init__(self, head: nn.Conv2d) -> None:
        super().__init__()
        channels = head.in_channels
        parts = [nn.Conv2d(channels, 4, 3, padding=1, bias=k == 0) for k in range(4)]
        self.parts = nn.ModuleList(parts)
        self.parts.requires_grad_(requires_grad=False)
        weight = torch.zeros(4, 4, channels, 3, 3)  # input phase, output phase, channels, kernel
        for p, q, row, column in product((0, 1), (0, 1), range(3), range(3)):
            down, right = p + row - 1, q + column - 1  # where the tap lies, in full-resolution cells
            source = 2 * (down % 2) + right % 2
            weight[source, 2 * p + q, :, down // 2 + 1, right // 2 + 1] = head.weight[0, :, row, column]
        for part, values in zip(parts, weight, strict=True):
            part.weight.copy_(values)
        parts[0].bias.fill_(head.bias.item())  # type: ignore[union-attr]  # both have one

    def forward(self, phases: Phases) -> Tensor:
        """Four phases ``[N, C, H/2, W/2]`` -> ``[N, 1, H, W]``."""
        ee, eo, oe, oo = (part(phase) for part, phase in zip(self.parts, phases, strict=True))
        return functional.pixel_shuffle(ee + eo + oe + oo, 2)


def _fold_scale(encoder: Encoder) -> None:
    """Let the convolutions that see the picture take 0..255 less the mean, instead of the normalised picture."""
    scale = 1.0 / (255.0 * torch.tensor(IMAGENET_STD, dtype=torch.float64)).reshape(1, 3, 1, 1)
    for stem in encoder.stems():
        stem.conv.weight.copy_(stem.conv.weight.double() * scale)


def _fold_norms(network: nn.Module) -> None:
    """Fold every batch norm into the convolution before it."""
    for unit in network.modules():
        if isinstance(unit, ConvUnit) and isinstance(unit.norm, nn.BatchNorm2d):
            unit.conv = fusion.fuse_conv_bn_eval(unit.conv, unit.norm)
            unit.norm = nn.Identity()
