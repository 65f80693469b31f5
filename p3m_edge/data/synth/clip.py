"""Short clips with exact alphas, to see whether mattes flicker: a portrait that moves before its background."""

from __future__ import annotations

from collections.abc import Sequence
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
RATE = 30.0
"""Frames a second of a call."""
_REST, _MOVE = (0.3, 1.0), (0.4, 0.8)  # seconds that a person in a call sits still, and that a move takes
_LEAN = (16.0, 6.0, 2.5, 0.015)  # how far, at most, from the middle: pixels across and down, degrees, a share
_BREATH = (1.0, 0.7)  # pixels across and down, all the time, once in 3 to 5 seconds
_SENSOR = (3.0, 5.0)  # standard deviation in grey levels
FAR = 1280, 720
"""Width and height of the frames in which a person is small."""
_WALK = 4.0  # pixels a frame, at most
_LAMP, _HERTZ = 0.01, 10.0  # lamps on 50 Hz flicker 100 times a second, which 30 frames a second show as 10


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
    person, background = _layers(seed)
    rng = np.random.default_rng(seed)
    way, pan = rng.uniform(-_WAY, _WAY, 2), rng.uniform(-_PAN, _PAN, 2)
    turn, growth = rng.uniform(-_TURN, _TURN), rng.uniform(-_GROWTH, _GROWTH)
    shots = []
    for number in range(count):
        layer = _seen(person, number * way, number * turn, 1 + number * growth)
        shots.append(_shot(layer, _seen(background, number * pan), _NOISE, rng))
    clip = _clip(shots)
    drawn: tuple[Array, ...] = (*clip.frames, *clip.alphas)
    for array in drawn:
        array.flags.writeable = False  # they are handed out again
    return clip


def draw_call(seed: int, count: int, enters: int = 0) -> Clip:
    """Draw a person in a video call; the same arguments give the same clip.

    What a camera on a desk sees: the background stands still. The person breathes, rests for a moment, and leans to
    another place, with a few pixels a frame; half of the time goes into such moves. Lamps flicker by 1 %, the sensor
    has its noise, and frames have 8 bits.

    Parameters
    ----------
    seed
        Of the portrait (:func:`p3m_edge.data.synth.portrait`), the motion and the noise, >= 0.
    count
        How many frames.
    enters
        The number of the frame from which on the person is there.
    """
    person, background = _layers(seed)
    rng = np.random.default_rng(seed)
    places, sigma, phases = _leaning(count, rng), rng.uniform(*_SENSOR), rng.uniform(0, 2 * np.pi, 3)
    period = rng.uniform(3, 5)
    wall, shots = _seen(background, np.zeros(2)), []
    for number, (x, y, turn, growth) in enumerate(places):
        time = number / RATE
        way = (x, y) + np.array(_BREATH) * np.sin(2 * np.pi * time / period + phases[:2])
        layer = _seen(person, way, turn, 1 + growth) * np.float32(number >= enters)
        light = 1 + _LAMP * np.sin(2 * np.pi * _HERTZ * time + phases[2])
        shots.append(_shot(layer, wall, sigma, rng, light))
    return _clip(shots)


def draw_far(seed: int, count: int) -> Clip:
    """Draw a person who is small in frames of ``FAR`` and walks by: up to half as high as the frame.

    Parameters
    ----------
    seed
        Of the portrait (:func:`p3m_edge.data.synth.portrait`), the motion and the noise, >= 0.
    count
        How many frames.
    """
    person, background = _layers(seed, *FAR)
    rng = np.random.default_rng(seed)
    share, walk, sigma = rng.uniform(0.3, 0.5), rng.uniform(-_WALK, _WALK), rng.uniform(*_SENSOR)
    small = cv2.resize(person, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
    high, wide = small.shape[:2]
    shots = []
    for number in range(count):
        place = (FAR[0] - wide) / 2 + walk * (number - count / 2), FAR[1] - high + 1
        shift = np.array([[1.0, 0.0, place[0]], [0.0, 1.0, place[1]]])
        shots.append(_shot(f32(cv2.warpAffine(small, shift, FAR)), background, sigma, rng))
    return _clip(shots)


def _clip(shots: Sequence[tuple[Image, NDArray[np.float32]]]) -> Clip:
    return Clip(tuple(frame for frame, _ in shots), tuple(alpha for _, alpha in shots))


def _leaning(count: int, rng: np.random.Generator) -> Array:
    """Where a person is who rests and moves by turns, ``[count, 4]``: pixels across and down, degrees, a share."""
    places: list[Array] = []
    at = rng.uniform(-1, 1, 4)
    while len(places) < count:
        there = rng.uniform(-1, 1, 4)
        rest, move = (round(RATE * rng.uniform(*span)) for span in (_REST, _MOVE))
        eased = 0.5 - 0.5 * np.cos(np.pi * np.arange(move)[:, None] / move)
        places += [*np.repeat(at[None], rest, axis=0), *(at + eased * (there - at))]
        at = there
    return np.array(places[:count]) * _LEAN


def _layers(seed: int, width: int = _CANVAS, height: int = _CANVAS) -> tuple[Array, Array]:
    """A portrait: the person, premultiplied ``[height, width, 4]``, and the background ``[height, width, 3]``."""
    drawn = portrait(seed, width, height, CLEAN)
    assert drawn.foreground is not None
    assert drawn.background is not None
    alpha = drawn.alpha[..., None].astype(np.float32) / 255
    return np.dstack([alpha * drawn.foreground, alpha]), drawn.background.astype(np.float32)


def _shot(
    layer: Array, background: Array, noise: float, rng: np.random.Generator, light: float = 1.0
) -> tuple[Image, NDArray[np.float32]]:  # fmt: skip
    """A frame of the person ``[H, W, 4]`` before the background, with its alpha."""
    scene = light * (layer[..., :3] + (1 - layer[..., 3:]) * background)
    noisy = scene + noise * rng.standard_normal(scene.shape, np.float32)
    return np.rint(np.clip(noisy, 0, 255)).astype(np.uint8), np.clip(layer[..., 3], 0, 1)


def _seen(picture: Array, way: Array, turn: float = 0.0, scale: float = 1.0) -> Array:
    """What the frame shows of a picture of the canvas that has moved."""
    matrix: Array = cv2.getRotationMatrix2D((_CANVAS / 2, _CANVAS / 2), turn, scale)
    matrix[:, 2] += way - ((_CANVAS - SIDE) / 2, _ABOVE)
    return f32(cv2.warpAffine(picture, matrix, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT_101))
