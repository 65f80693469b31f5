"""What a camera does to a scene: motion blur, focus, colours, noise and compression."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge.arrays import Array
from p3m_edge.data.synth.raster import blur, f32


@dataclass(frozen=True)
class Look:
    """What may happen to a picture; each is a probability, or the largest strength.

    Attributes
    ----------
    motion, motion_length
        Probability of motion blur, of person and matte, and its longest way as a share of the picture's longer side.
    soft
        Largest blur of the person at the focus, pixels at 512.
    grade, grey
        Strength of changes of colour, contrast and brightness, and probability of a grey picture; the same for person
        and background.
    noise
        Largest standard deviation of sensor noise, display values 0..1.
    jpeg, quality
        Probability of JPEG compression of the image, and its lowest and highest quality.
    """

    motion: float = 0.12
    motion_length: float = 0.018
    soft: float = 0.9
    grade: float = 1.0
    grey: float = 0.06
    noise: float = 0.035
    jpeg: float = 0.7
    quality: tuple[int, int] = (60, 96)


CLEAN = Look(motion=0, soft=0, grade=0, grey=0, noise=0, jpeg=0)
"""Nothing happens: no blur of the person, no noise, no compression."""


def expose(person: Array, look: Look, rng: np.random.Generator) -> Array:
    """Blur the person's premultiplied layer ``[H, W, 4]``, colours and matte together."""
    size = max(person.shape[:2])
    soft, moved = float(rng.uniform(0.2, 1)) * look.soft * size / 512, rng.random() < look.motion
    angle, way = rng.uniform(0, np.pi), rng.uniform(0.2, 1) * look.motion_length * size
    person = blur(person, soft * 0.6)
    if not moved:
        return person
    half = int(np.ceil(way / 2)) + 1
    shift = 0.5 * way * np.array([np.cos(angle), np.sin(angle)])
    ends = np.rint((half + np.stack([-shift, shift])) * 16).astype(int)
    line = np.zeros((2 * half + 1, 2 * half + 1), np.uint8)
    cv2.line(line, tuple(ends[0]), tuple(ends[1]), 255, 1, cv2.LINE_AA, 4)
    return cv2.filter2D(person, -1, f32(line) / line.sum(), borderType=cv2.BORDER_REPLICATE)


def draw_grade(look: Look, rng: np.random.Generator) -> Callable[[Array], Array]:
    """A change of colours, one for the whole scene: display values ``[H, W, 3]`` to display values."""
    s = look.grade
    warm, tint, gain = rng.normal(0, (0.035, 0.012, 0.06))
    gains = 1 + s * (gain + np.array([warm, tint, -warm]))
    contrast, saturation = 1 + s * rng.normal(0.04, 0.1), float(np.clip(1 + s * rng.normal(-0.1, 0.15), 0, 1.6))
    lift, vignette = s * rng.normal(0, 0.03), s * max(0.0, rng.normal(0.02, 0.06))
    if rng.random() < look.grey:
        saturation = 0.0
    colours = gains[:, None] * (saturation * np.eye(3) + (1 - saturation) * np.array([0.3, 0.59, 0.11]))
    matrix = np.concatenate([contrast * colours, np.full((3, 1), 0.45 * (1 - contrast) + lift)], 1)

    def grade(picture: Array) -> Array:
        y, x = (np.linspace(-1, 1, side, dtype=np.float32) for side in picture.shape[:2])
        fading = 1 - vignette * (np.square(x)[None] + np.square(y)[:, None])
        return f32(np.clip(cv2.transform(picture, matrix) * fading[..., None], 0, 1))

    return grade


def develop(image: NDArray[np.uint8], look: Look, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Add sensor noise and compress; the clean image itself where the look has neither."""
    sigma = float(rng.beta(1, 2.5)) * look.noise
    compress, quality = rng.random() < look.jpeg, int(rng.integers(look.quality[0], look.quality[1] + 1))
    if sigma > 0.002:  # below half a step of 8 bits nothing remains
        grain: Array = rng.standard_normal(image.shape, np.float32)
        if rng.random() < 0.5:
            grain = 1.6 * blur(grain, 0.7)
        value = image.astype(np.float32)
        image = np.clip(value + 255 * sigma * grain * (0.6 + 0.5 * np.sqrt(value / 255)), 0, 255).astype(np.uint8)
    if compress:
        _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        image = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB), np.uint8)
    return image
