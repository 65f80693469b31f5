"""Arrays of more than one dtype, as annotations name them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
"""Of any dtype."""
Pixels = NDArray[np.uint8 | np.uint16]
"""Colours or transparency as files hold them."""
Shares = NDArray[np.uint8 | np.floating]
"""Brightness or alpha: float in 0..1, or uint8 in 0..255."""
