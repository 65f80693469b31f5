"""Light: where it comes from, and how surfaces answer it. Colours are linear; the display's are their square roots."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from p3m_edge.data.synth.raster import Array, f32


@dataclass(frozen=True, eq=False)
class Light:
    """A key light, the light of the surroundings from above and below, and a light from behind.

    Directions are unit vectors towards the light: x right, y up, z towards the camera.
    """

    key: Array
    key_colour: Array
    above: Array
    below: Array
    rim: Array
    rim_colour: Array


def draw_light(rng: np.random.Generator, surroundings_above: Array, surroundings_below: Array) -> Light:
    """Draw the light of a scene; the colours of its background tint the ambient part."""
    side = rng.normal(0, 0.6)
    key = _unit([side, rng.uniform(0.1, 0.9), rng.uniform(0.35, 1.1)])
    warmth = rng.normal(0, 0.08)
    strength = rng.uniform(0.55, 1.15)
    key_colour = strength * np.array([1 + warmth, 1, 1 - warmth], np.float32)
    level = rng.uniform(0.25, 0.6) * (1.3 - 0.5 * strength)

    def tinted(colour: Array) -> Array:
        grey = max(float(colour.mean()), 0.02)
        return (level * (0.72 + 0.28 * np.clip(colour / grey, 0, 2))).astype(np.float32)

    rim_strength = rng.choice([0.0, rng.uniform(0.2, 1.6)], p=[0.45, 0.55])
    rim_warmth = rng.normal(0.05, 0.15)
    rim_colour = rim_strength * np.array([1 + rim_warmth, 1, 1 - rim_warmth], np.float32)
    rim = _unit([np.sign(-side) * rng.uniform(0.3, 1), rng.uniform(0, 0.8), -rng.uniform(0.5, 1.0)])
    return Light(key, key_colour, tinted(surroundings_above), 0.6 * tinted(surroundings_below), rim, rim_colour)


def diffuse(
    light: Light, normal: Array, wrap: tuple[float, float, float] = (0.1, 0.1, 0.1), shadow: Array | None = None
) -> Array:
    """Light received by a matt surface.

    Parameters
    ----------
    light
        The scene's.
    normal
        ``[..., 3]``, unit length.
    wrap
        How far light creeps round the terminator, per channel: skin scatters red the farthest.
    shadow
        ``[...]``: the share of the key light that arrives, 0..1; None: all.

    Returns
    -------
    light
        ``[..., 3]``, to be multiplied with the surface's colour.
    """
    facing = normal @ light.key
    sky = (0.5 + 0.5 * normal[..., 1:2]) * light.above + (0.5 - 0.5 * normal[..., 1:2]) * light.below
    spread = np.array(wrap, np.float32)
    direct = np.maximum((facing[..., None] + spread) / (1 + spread), 0) * light.key_colour
    if shadow is not None:
        direct *= shadow[..., None]
    edge = np.maximum(normal @ light.rim, 0) * (1 - np.clip(normal[..., 2], 0, 1)) ** 2
    return f32(direct + sky * (0.35 + 0.65 * np.clip(normal[..., 2:3], 0, 1)) + edge[..., None] * light.rim_colour)


def gloss(light: Light, normal: Array, power: float) -> Array:
    """The highlight of the key light, ``[...]``: Blinn and Phong's, seen from the camera."""
    half = _unit(light.key + np.array([0, 0, 1], np.float32))
    return f32(np.maximum(normal @ half, 0) ** power)


def display(linear: Array) -> Array:
    """Linear light to display values 0..1, with a soft shoulder instead of hard clipping."""
    bounded = np.clip(linear, 0, 1.4)
    bright = np.maximum(bounded - 0.6, 0)
    return f32(np.sqrt(bounded - 0.625 * bright * bright))


def _unit(vector: object) -> Array:
    array = np.asarray(vector, np.float32)
    return array / np.linalg.norm(array)
