"""The ViTAE-S encoder of P3M-Net (IJCV 2023, section 4): attention beside a convolution branch in every cell."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from p3m_edge.model.layers import ConvUnit, Mlp, TokenEncoder, channels_first, channels_last, merge_heads, split_heads

_NORM_EPS = 1e-6
_PERFORMER_EPS = 1e-8
PROJECTION = ".attn.projection"  # how the names of the Performer projections end in the state dict


class Attention(nn.Module):
    """Multi-head self-attention over all tokens."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (channels // heads) ** -0.5
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, N, C]`` -> ``[B, N, C]``."""
        q, k, v = (split_heads(part, self.heads) for part in self.qkv(x).chunk(3, dim=-1))
        attention = ((q * self.scale) @ k.transpose(-2, -1)).softmax(dim=-1)
        out: Tensor = self.proj(merge_heads(attention @ v))
        return out


class PerformerAttention(nn.Module):
    """Attention in linear time by positive random features (Choromanski et al., 2021).

    Attributes
    ----------
    projection
        Buffer ``[1, C / 2, C]``, the random directions of the one head: orthogonal rows of norm ``sqrt(C / 2)``. The
        published checkpoints lack it (their code draws it anew at each construction); here it is fixed, and saved.
    """

    projection: Tensor

    def __init__(self, channels: int, layer: int) -> None:
        super().__init__()
        self.kqv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.register_buffer("projection", torch.from_numpy(default_projection(channels, layer)))

    def features(self, x: Tensor) -> Tensor:
        """The positive features ``exp(w x - |x|^2 / 2) / sqrt(m)`` of ``[B, N, C]``, as ``[B, N, m]``."""
        directions = self.projection[0]
        norm = (x * x).sum(dim=-1, keepdim=True) * 0.5
        scale: float = directions.shape[0] ** -0.5
        return (x @ directions.transpose(0, 1) - norm).exp() * scale

    def forward(self, x: Tensor) -> Tensor:
        """``[B, N, C]`` -> ``[B, N, C]``."""
        k, q, v = self.kqv(x).chunk(3, dim=-1)
        key, query = self.features(k), self.features(q)
        weighted = query @ (key.transpose(1, 2) @ v)
        total = query @ key.sum(dim=1, keepdim=True).transpose(1, 2)
        out: Tensor = self.proj(weighted / (total + _PERFORMER_EPS))
        return out


class NormalCell(nn.Module):
    """Attention (``[B, N, C]`` -> the same) and three grouped convolutions in parallel, then an MLP; each added to its
    input.
    """

    def __init__(self, channels: int, groups: int, attn: nn.Module) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=_NORM_EPS)
        self.attn = attn
        self.pcm = nn.Sequential(
            ConvUnit(channels, 4 * channels, act=nn.SiLU, groups=groups),
            ConvUnit(4 * channels, channels, act=nn.SiLU, groups=groups),
            ConvUnit(channels, channels, norm=False, act=nn.SiLU, groups=groups),
        )
        self.norm2 = nn.LayerNorm(channels, eps=_NORM_EPS)
        self.mlp = Mlp(channels)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, h, w, C]`` -> ``[B, h, w, C]``."""
        attended = self.attn(self.norm1(x).flatten(1, 2)).reshape(x.shape)
        x = x + attended + channels_last(self.pcm(channels_first(x)))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class ViTAES(TokenEncoder):
    """ViTAE-S: widths 64 to 512, depths 2, 2, 12, 2, heads of 64 channels; the first stage uses Performer attention."""

    def __init__(self) -> None:
        widths, depths, groups = (64, 128, 256, 512), (2, 2, 12, 2), (1, 32, 64, 128)
        stages = []
        for level, (width, depth, group) in enumerate(zip(widths, depths, groups, strict=True)):
            attentions: list[nn.Module] = [
                Attention(width, width // 64) if level else PerformerAttention(width, layer) for layer in range(depth)
            ]
            stages.append(nn.Sequential(*(NormalCell(width, group, attention) for attention in attentions)))
        super().__init__(32, widths, stages, embed_act=None, norm=nn.Identity())


def default_projection(channels: int, layer: int) -> NDArray[np.float32]:
    """The Performer projection of the network's n-th Performer layer, where a checkpoint holds none.

    Three rounds of random signs and a Hadamard matrix (Yu et al., *Orthogonal Random Features*, section 4): orthogonal
    rows from whole numbers alone, hence the same bits on every machine. ``channels`` is a power of two. The result is
    float32 ``[1, channels / 2, channels]``, its rows of norm ``sqrt(channels / 2)``.
    """
    hadamard = np.ones((1, 1), dtype=np.int64)
    while len(hadamard) < channels:
        hadamard = np.block([[hadamard, hadamard], [hadamard, -hadamard]])
    bits = np.random.PCG64([0, layer]).random_raw(3 * channels) >> 63
    rotation = np.eye(channels, dtype=np.int64)
    for signs in 1 - 2 * bits.astype(np.int64).reshape(3, channels):
        rotation = hadamard @ (signs[:, None] * rotation)
    rows = channels // 2
    # Each Hadamard matrix has grown the norm by sqrt(channels).
    projection: NDArray[np.float32] = (rotation[None, :rows] * np.sqrt(rows / channels**3)).astype(np.float32)
    return projection
