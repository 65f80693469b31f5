"""Maps in cells: a network that predicts at 1/n of the picture's size gives n x n values for the pixels of each cell.

The published networks predict at full size, n = 1, and all functions here return what they are given.
"""

from __future__ import annotations

import torch.nn.functional as functional
from torch import Tensor


def assembled(x: Tensor, cell: int) -> Tensor:
    """``[B, n * n, h, w]``, the pixels of a cell row by row -> ``[B, 1, n * h, n * w]``."""
    return x if cell == 1 else functional.pixel_shuffle(x, cell)


def spread(x: Tensor, cell: int) -> Tensor:
    """``[B, C, h, w]`` -> ``[B, C, n * h, n * w]``: every pixel of a cell has the cell's value."""
    return x if cell == 1 else functional.interpolate(x, scale_factor=float(cell), mode="nearest")
