"""The Swin-T encoder of P3M-Net (IJCV 2023, section 4): shifted-window attention behind a pooling stem.

Everything stays at rank 4 or below, the cyclic shift is slices and a concatenation, and the attention masks are
constants of the feature map's size, so that each engine can take the graph as it is.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor, nn

from p3m_edge.model.layers import Mlp, TokenEncoder, merge_heads, split_heads

WINDOW = 7
SHIFT = 3
_TOKENS = WINDOW * WINDOW
_BLOCKED = -100.0  # added to the attention between tokens of different bands


class WindowAttention(nn.Module):
    """Multi-head self-attention within windows of 7x7 tokens, with a learnt bias for each relative position."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (channels // heads) ** -0.5
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * WINDOW - 1) ** 2, heads))
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def bias(self) -> Tensor:
        """The bias of each pair of tokens, ``[heads, 49, 49]``."""
        index = torch.from_numpy(_relative_positions()).to(self.relative_position_bias_table.device)
        pairs = self.relative_position_bias_table.index_select(0, index)
        return pairs.reshape(_TOKENS, _TOKENS, self.heads).permute(2, 0, 1)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Windows ``[n, 49, C]`` -> the same; a mask, ``[n, 1, 49, 49]``, is added to the attention."""
        q, k, v = (split_heads(part, self.heads) for part in self.qkv(x).chunk(3, dim=-1))
        attention = (q * self.scale) @ k.transpose(-2, -1) + self.bias()
        if mask is not None:
            attention = attention + mask
        out: Tensor = self.proj(merge_heads(attention.softmax(dim=-1) @ v))
        return out


class SwinBlock(nn.Module):
    """Window attention and an MLP, each on the normalised input and added to it.

    ``shift`` is the cyclic shift of the windows: 0, or 3 in every second block. ``drop_path`` is the probability that a
    branch is left out for a picture, in training; what is kept is divided by the probability of keeping it.
    """

    def __init__(self, channels: int, heads: int, shift: int) -> None:
        super().__init__()
        self.shift, self.drop_path = shift, 0.0
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, heads)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = Mlp(channels)

    def attend(self, x: Tensor) -> Tensor:
        """Pad ``[B, h, w, C]`` to whole windows, shift, attend within them, and undo both."""
        batch, height, width, _ = x.shape
        below, right = -height % WINDOW, -width % WINDOW
        if below or right:
            x = functional.pad(x, (0, 0, 0, right, 0, below))
        x = _roll(x, self.shift)
        windows, mask = to_windows(x), window_mask(height, width, self.shift)
        added = None
        if mask is not None:
            added = torch.from_numpy(mask).to(device=x.device, dtype=x.dtype).repeat(batch, 1, 1, 1)
        x = _roll(from_windows(self.attn(windows, added), x.shape[1], x.shape[2]), -self.shift)
        return x[:, :height, :width] if below or right else x

    def forward(self, x: Tensor) -> Tensor:
        """``[B, h, w, C]`` -> ``[B, h, w, C]``."""
        x = x + self._dropped(self.attend(self.norm1(x)))
        return x + self._dropped(self.mlp(self.norm2(x)))

    def _dropped(self, branch: Tensor) -> Tensor:
        if not self.training or not self.drop_path:
            return branch
        kept = torch.rand(len(branch), 1, 1, 1, device=branch.device) >= self.drop_path
        return branch * (kept / (1 - self.drop_path)).to(branch.dtype)


class SwinT(TokenEncoder):
    """Swin-T: widths 96 to 768, depths 2, 2, 6, 2, heads of 32 channels."""

    def __init__(self) -> None:
        widths, depths = (96, 192, 384, 768), (2, 2, 6, 2)
        stages = [
            nn.Sequential(*(SwinBlock(width, width // 32, SHIFT if i % 2 else 0) for i in range(depth)))
            for width, depth in zip(widths, depths, strict=True)
        ]
        super().__init__(48, widths, stages, embed_act=nn.ReLU, norm=nn.LayerNorm(widths[-1]))


def to_windows(x: Tensor) -> Tensor:
    """``[B, h, w, C]`` (h and w multiples of 7) -> ``[B * h/7 * w/7, 49, C]``."""
    batch, height, width, channels = x.shape
    rows = x.reshape(batch * height // WINDOW, WINDOW, width // WINDOW, WINDOW * channels)
    return rows.transpose(1, 2).reshape(-1, _TOKENS, channels)


def from_windows(windows: Tensor, height: int, width: int) -> Tensor:
    """The inverse of :func:`to_windows`."""
    channels = windows.shape[-1]
    rows = windows.reshape(-1, width // WINDOW, WINDOW, WINDOW * channels).transpose(1, 2)
    return rows.reshape(-1, height, width, channels)


@lru_cache(maxsize=64)
def window_mask(height: int, width: int, shift: int) -> NDArray[np.float32] | None:
    """The attention mask of a feature map, of a size before padding, as the published network defines it.

    Each axis is cut into bands: the padding, the picture, and what the cyclic shift (0 or 3) wraps around. Tokens
    attend only within one combination of bands. ``[windows, 1, 49, 49]``, 0 or -100; None where nothing is masked.
    """
    rows, columns = _bands(height, shift), _bands(width, shift)
    if not rows.any() and not columns.any():
        return None
    labels = rows[:, None] * (columns.max() + 1) + columns[None, :]
    tall, wide = len(rows) // WINDOW, len(columns) // WINDOW
    labels = labels.reshape(tall, WINDOW, wide, WINDOW).transpose(0, 2, 1, 3).reshape(-1, 1, _TOKENS)
    return np.where(labels[..., :, None] == labels[..., None, :], 0.0, _BLOCKED).astype(np.float32)


def _bands(size: int, shift: int) -> NDArray[np.int64]:
    """The band of each cell of one axis, padding included."""
    padding = -size % WINDOW
    cuts = [max(padding + shift, WINDOW), min(padding + shift, WINDOW), shift] if shift else [padding]
    length = size + padding
    starts = [max(length - cut, 0) for cut in cuts]
    return np.array([sum(cell >= start for start in starts) for cell in range(length)], dtype=np.int64)


@lru_cache(maxsize=1)
def _relative_positions() -> NDArray[np.int64]:
    """For each pair of tokens in a window, the row of the bias table: ``[49 * 49]``."""
    y, x = np.divmod(np.arange(_TOKENS), WINDOW)
    dy, dx = y[:, None] - y[None, :], x[:, None] - x[None, :]
    rows: NDArray[np.int64] = ((dy + WINDOW - 1) * (2 * WINDOW - 1) + dx + WINDOW - 1).reshape(-1)
    return rows


def _roll(x: Tensor, shift: int) -> Tensor:
    """Cyclic shift of ``[B, h, w, C]`` up and to the left by ``shift`` cells (down and right where negative)."""
    if shift == 0:
        return x
    x = torch.cat((x[:, shift:], x[:, :shift]), dim=1)
    return torch.cat((x[:, :, shift:], x[:, :, :shift]), dim=2)
