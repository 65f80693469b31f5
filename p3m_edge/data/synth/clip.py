"""A short clip with exact alphas, to see whether mattes flicker: a portrait that moves before a panning background."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge.arrays import Array
from p3m_edge.data.sample import Image
from p3m_edge.data.synth.camera import CLEAN
from p3m_edge.data.synth.portraits import portrait
from p3m_edge.data.synth.raster import f32
from p3m_edge.errors import InputError

SIDE, MOST = 512, 16
"""Width and height of the frames in pixels, and how many a clip has at most."""
_CANVAS, _ABOVE = 640, 32  # the portrait is larger than a frame: its cut edges stay outside. Rows above the frame
_WAY, _PAN, _TURN, _GROWTH = 1.5, 3.0, 0.3, 0.004  # at most, in a frame: pixels each way, degrees, a share
_NOISE = 3.0  # standard deviation in grey levels


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames in their order, uint8 ``[SIDE, SIDE, 3]``, RGB, and the alpha of each, float32 ``[SIDE, SIDE]``, 0..1."""

    frames: tuple[Image, ...]
    alphas: tuple[NDArray[np.float32], ...]


@lru_cache(maxsize=4)
def draw_clip(seed: int, count: int) -> Clip:
    """Draw a clip; the same arguments give the same one in every process. The last few are kept in memory.

    The person moves evenly, turns in the picture and comes nearer or goes away; the background moves by itself. Neither
    goes by whole pixels. Noise is the last thing, another one in each frame.

    Parameters
    ----------
    seed
        Of the portrait (:func:`p3m_edge.data.synth.portrait`), the motion and the noise, >= 0.
    count
        How many frames, 2 to ``MOST``.

    Raises
    ------
    InputError
        ``count`` or ``seed`` is out of range.
    """
    if not 2 <= count <= MOST:
        raise InputError(f"a clip has 2 to {MOST} frames, not {count}")
    drawn = portrait(seed, _CANVAS, _CANVAS, CLEAN)
    assert drawn.foreground is not None
    assert drawn.background is not None
    alpha = drawn.alpha[..., None].astype(np.float32) / 255
    person, background = np.dstack([alpha * drawn.foreground, alpha]), drawn.background.astype(np.float32)
    rng = np.random.default_rng(seed)
    way, pan = rng.uniform(-_WAY, _WAY, 2), rng.uniform(-_PAN, _PAN, 2)
    turn, growth = rng.uniform(-_TURN, _TURN), rng.uniform(-_GROWTH, _GROWTH)
    frames, alphas = [], []
    for number in range(count):
        layer = _seen(person, number * way, number * turn, 1 + number * growth)
        scene = layer[..., :3] + (1 - layer[..., 3:]) * _seen(background, number * pan)
        noisy = scene + _NOISE * rng.standard_normal(scene.shape, np.float32)
        frames.append(np.rint(np.clip(noisy, 0, 255)).astype(np.uint8))
        alphas.append(np.clip(layer[..., 3], 0, 1))
    for array in (*frames, *alphas):
        array.flags.writeable = False  # they are handed out again
    return Clip(tuple(frames), tuple(alphas))


def _seen(picture: Array, way: Array, turn: float = 0.0, scale: float = 1.0) -> Array:
    """What the frame shows of a picture of the canvas that has moved."""
    matrix: Array = cv2.getRotationMatrix2D((_CANVAS / 2, _CANVAS / 2), turn, scale)
    matrix[:, 2] += way - ((_CANVAS - SIDE) / 2, _ABOVE)
    return f32(cv2.warpAffine(picture, matrix, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT_101))
