"""Drawn hats on the heads of anonymous portraits, as `train_mobile.py` needs them.

Official portraits show hardly a hat, and a network that has seen few loses their brims. Here brimmed hats, caps and
knitted caps are drawn, placed by the mask of the hidden face: cloth with folds, light and shade, and a shadow on the
forehead. Hair that a hat would cover is gone from the matte but not from the picture, so that such portraits are for
composites, which take only what the matte covers, and not to be used whole.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

KINDS = ("brim", "brim", "cap", "knitted")
SMALLEST = 400
"""Pixels of a face's mask: a smaller one is no place for a hat."""
SUBPIXELS = 2
"""Bits of a pixel that `cv2.fillPoly` gets, on a canvas of twice the size: edges as soft as a camera's."""


class Head(NamedTuple):
    """Where a face is, and the row where the hair above it begins, in pixels."""

    x: float
    top: float
    width: float
    height: float
    summit: float


class Hat(NamedTuple):
    """A hat as it lies on a picture, each ``[H, W]``."""

    opacity: np.ndarray
    light: np.ndarray
    """What its colours are multiplied with."""
    shadow: np.ndarray
    """Where it darkens what is under it, 0 to 1."""
    covered: np.ndarray
    """bool: hair that is under the hat, were it real."""


def put_on_hat(
    picture: np.ndarray, alpha: np.ndarray, face: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray] | None:
    """A portrait, uint8 ``[H, W, 3]``, and its matte, uint8 ``[H, W]``, with a hat; None where no face is marked."""
    head = find_head(alpha, face)
    if head is None:
        return None
    hat = draw_hat(head, alpha.shape, rng)
    colours = cloth(alpha.shape, head.width, rng) * hat.light[..., None]
    shadow = 1 - 0.45 * cv2.GaussianBlur(hat.shadow, (0, 0), max(1.0, 0.06 * head.width))
    opacity = hat.opacity
    mixed = colours * opacity[..., None] + picture * shadow[..., None] * (1 - opacity[..., None])
    matte = opacity + np.where(hat.covered, 0, alpha / 255.0) * (1 - opacity)
    return np.clip(mixed, 0, 255).astype(np.uint8), np.rint(255 * np.clip(matte, 0, 1)).astype(np.uint8)


def find_head(alpha: np.ndarray, face: np.ndarray) -> Head | None:
    """The head of the largest face of a mask."""
    count, _, stats, _ = cv2.connectedComponentsWithStats(face.astype(np.uint8))
    if count == 1:
        return None
    left, top, width, height, area = stats[1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))]
    if area < SMALLEST:
        return None
    rows = np.nonzero((alpha[: top + 1, left : left + width] > 128).any(axis=1))[0]
    summit = float(rows[0]) if len(rows) else float(top)
    return Head(left + width / 2, float(top), float(width), float(height), summit)


def draw_hat(head: Head, shape: tuple[int, int], rng: np.random.Generator) -> Hat:
    """A hat of a random kind, tilt and size, sitting on a forehead.

    Inside, u goes across in half widths of the crown and v down in its heights, from where it sits on the forehead.
    """
    kind = rng.choice(KINDS)
    low, high = (0.02, 0.18) if kind == "knitted" else (0.0, 0.14)
    line = head.top + head.height * rng.uniform(low, high)
    half = head.width * rng.uniform(0.62, 0.76)
    rise = max(head.width * rng.uniform(0.55, 0.85), line - head.summit + head.width * rng.uniform(0.02, 0.15))
    angle = np.deg2rad(rng.normal(0, 5))
    height, width = shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    u = ((x - head.x) * np.cos(angle) + (y - line) * np.sin(angle)) / half
    v = (-(x - head.x) * np.sin(angle) + (y - line) * np.cos(angle)) / rise

    def filled(*outlines: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """What lies within an outline of (u, v), 0 to 1."""
        across, down = (np.concatenate(part) for part in zip(*outlines, strict=True))
        across, down = across * half, down * rise
        points = np.stack(
            [
                head.x + across * np.cos(angle) - down * np.sin(angle),
                line + across * np.sin(angle) + down * np.cos(angle),
            ],
            axis=1,
        ).astype(np.float32)
        large = np.zeros((height * 2, width * 2), np.uint8)
        fine = np.rint(points * 2 * 2**SUBPIXELS).astype(np.int32)
        cv2.fillPoly(large, [fine], 255, cv2.LINE_AA, shift=SUBPIXELS)
        return cv2.resize(large, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255

    arc, ring, base = np.linspace(0, np.pi, 60), np.linspace(0, 2 * np.pi, 120), np.linspace(-1, 1, 30)
    boxy = rng.uniform(0.45, 0.9) if kind == "brim" else rng.uniform(0.75, 1.0)
    taper = rng.uniform(0.0, 0.2) if kind == "brim" else 0.0
    crown_u = np.sign(np.cos(arc)) * np.abs(np.cos(arc)) ** boxy
    crown_v = -(np.sin(arc) ** boxy)
    if kind == "brim":  # a dent on top
        crown_v = crown_v + rng.uniform(0, 0.14) * np.exp(-((crown_u / 0.35) ** 2)) * (crown_v < -0.6)
    crown_u = crown_u * (1 + taper * crown_v)
    sag = rng.uniform(0.05, 0.16)
    crown = filled((crown_u, crown_v), (base, sag * (1 - base**2)))
    light = 1 + 0.28 * np.clip(rng.uniform(-1, 1) * u, -1, 1) - 0.12 * np.clip(u * u, 0, 1)
    if kind == "brim":
        reach = rng.uniform(1.25, 2.3)
        flat = head.width * rng.uniform(0.1, 0.36) / rise
        bend = rng.uniform(-0.25, 0.25)
        brim_u = reach * np.cos(ring)
        brim_v = flat * np.sin(ring) - bend * (np.abs(brim_u) / reach) ** 2 + 0.02
        brim = filled((brim_u, brim_v))
        opacity = np.maximum(crown, brim)
        light = light * (1 - brim * (1 - crown * (v < sag * (1 - np.clip(u * u, 0, 1)))) * rng.uniform(-0.1, 0.35))
        shadow = filled((brim_u * 0.9, brim_v + 1.2 * flat))
        if rng.random() < 0.7:  # a band around the crown
            light = light * (1 - crown * ((v > -rng.uniform(0.12, 0.3)) & (np.abs(u) < 1.2)) * rng.uniform(0.1, 0.6))
    elif kind == "cap":
        reach, flat = rng.uniform(0.85, 1.15), head.width * rng.uniform(0.18, 0.4) / rise
        bill_u, bill_v = reach * np.cos(arc), flat * np.sin(arc)
        aside = rng.normal(0, 0.12)
        bill = filled((bill_u + aside * np.sin(arc), flat * np.sin(arc) ** 0.8), (reach * base, -0.1 * (1 - base**2)))
        opacity = np.maximum(crown, bill)
        light = light * (1 - bill * (v > 0) * rng.uniform(-0.1, 0.5))
        shadow = filled((0.95 * bill_u, 1.9 * bill_v))
    else:  # knitted: ribs, and an edge that is turned up
        light = light * (1 + 0.13 * np.sin(rng.uniform(14, 34) * np.arcsin(np.clip(u, -1, 1))) * (np.abs(u) < 1))
        light = light * (1 - 0.2 * np.exp(-(((v + rng.uniform(0.2, 0.4)) / 0.05) ** 2)))
        opacity = cv2.GaussianBlur(crown, (0, 0), max(0.6, 0.008 * head.width))
        shadow = filled((0.9 * np.cos(2 * arc), 0.1 + 0.12 * np.sin(2 * arc)))
    covered = (v < 0) & (opacity < 0.5) & (np.abs(u) < 2.5)
    return Hat(opacity.astype(np.float32), light.astype(np.float32), shadow, covered)


def cloth(shape: tuple[int, int], scale: float, rng: np.random.Generator) -> np.ndarray:
    """Colours, float32 ``[H, W, 3]``, 0 to about 255: one, or two in stripes, checks or patches, with folds and grain.

    ``scale`` is the width of the face in pixels.
    """
    height, width = shape
    first, second = dye(rng), dye(rng)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    turn, period = rng.uniform(0, np.pi), scale * rng.uniform(0.06, 0.3)
    along = (x * np.cos(turn) + y * np.sin(turn)) * 2 * np.pi / period
    across = (-x * np.sin(turn) + y * np.cos(turn)) * 2 * np.pi / period
    pattern = rng.choice(["plain", "stripes", "checks", "patches"], p=[0.72, 0.1, 0.1, 0.08])
    share = {
        "plain": np.zeros(shape),
        "stripes": np.sin(along) > 0.2,
        "checks": 0.5 * (np.sin(along) > 0) + 0.5 * (np.sin(across) > 0),
        "patches": noise(shape, scale * 0.12, rng) > 0,
    }[str(pattern)]
    share = cv2.GaussianBlur(share.astype(np.float32), (0, 0), 0.8)[..., None]
    folds = 1 + 0.09 * noise(shape, scale * 0.15, rng) + 0.05 * noise(shape, scale * 0.04, rng)
    grain = rng.normal(0, rng.uniform(1, 6), (height, width, 1))
    return np.asarray((first * (1 - share) + second * share) * folds[..., None] + grain, dtype=np.float32)


def dye(rng: np.random.Generator) -> np.ndarray:
    """A colour that hats have, float32 ``[3]``, 0 to 255: more often dull than bright."""
    hsv = rng.uniform(0, 180), 255 * rng.beta(1.2, 2.5), 255 * rng.beta(1.6, 1.8)
    return np.asarray(cv2.cvtColor(np.array([[hsv]], np.uint8), cv2.COLOR_HSV2RGB)[0, 0], dtype=np.float32)


def noise(shape: tuple[int, int], size: float, rng: np.random.Generator) -> np.ndarray:
    """Smooth random numbers, float32 ``[H, W]``, about -1 to 1, with bumps of so many pixels."""
    height, width = shape
    cells = max(2, round(height / max(2.0, size))), max(2, round(width / max(2.0, size)))
    return cv2.resize(rng.normal(0, 0.6, cells).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
