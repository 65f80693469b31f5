"""Parts of a body: an outline cut out of the picture, made round, and lit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from p3m_edge.data.synth.light import Light, diffuse, display, gloss
from p3m_edge.data.synth.raster import Array, coverage, inflate, normals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p3m_edge.data.synth.body import Figure


@dataclass(frozen=True, eq=False)
class Part:
    """The rectangle of the picture that a part needs, and the part's coverage of it.

    Attributes
    ----------
    y, x
        First row and column in the picture.
    cover
        ``[h, w]``, 0..1.
    shade
        ``[h, w]``: the share of the key light that arrives.
    figure
        The body in the rectangle's pixels.
    """

    y: int
    x: int
    cover: Array
    shade: Array
    figure: Figure


def cut_out(figure: Figure, outlines: Sequence[Array], shade: Array) -> Part | None:
    """The part within outlines in body coordinates; None where nothing of it is in the picture."""
    polygons = [figure.place(outline) for outline in outlines]
    points = np.concatenate(polygons)
    height, width = shade.shape
    x0, y0 = np.clip(np.floor(points.min(0)).astype(int) - 2, 0, (width, height))
    x1, y1 = np.clip(np.ceil(points.max(0)).astype(int) + 2, 0, (width, height))
    if x1 - x0 < 2 or y1 - y0 < 2:
        return None
    corner = np.array([x0, y0], np.float32)
    cover = coverage([polygon - corner for polygon in polygons], int(y1 - y0), int(x1 - x0))
    return Part(int(y0), int(x0), cover, shade[y0:y1, x0:x1], figure.moved(-float(x0), -float(y0)))


def received(
    part: Part,
    light: Light,
    bulge: float,
    wrap: tuple[float, float, float],
    relief: Array | None = None,
    shine: float = 0.0,
) -> Array:
    """Light on a part that bulges by ``bulge`` pixels, ``[h, w, 3]``.

    It is worked out at half the resolution, as it varies slowly; ``relief`` (``[ceil(h/2), ceil(w/2)]``, full pixels)
    adds folds, ``shine`` a highlight.
    """
    height, width = part.cover.shape
    size = (-(-width // 2), -(-height // 2))
    small = cv2.resize(part.cover, size, interpolation=cv2.INTER_AREA)
    surface = inflate(small, bulge / 2)
    if relief is not None:
        surface = surface + relief / 2
    normal = normals(surface)
    shade = cv2.resize(part.shade, size, interpolation=cv2.INTER_AREA)
    lit = diffuse(light, normal, wrap, shade)
    if shine:
        lit += (shine * gloss(light, normal, 16) * shade)[..., None] * light.key_colour
    return cv2.resize(lit, (width, height), interpolation=cv2.INTER_LINEAR)


def finish(colour: Array, cover: Array) -> Array:
    """A premultiplied layer of display values from linear colours."""
    result = np.empty((*cover.shape, 4), np.float32)
    np.multiply(display(colour), cover[..., None], out=result[..., :3])
    result[..., 3] = cover
    return result
