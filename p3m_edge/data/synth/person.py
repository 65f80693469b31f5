"""Who is in the picture: the numbers that decide about face, skin, hair and clothes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from p3m_edge.data.synth.raster import Array, srgb

# Display colours from light to dark.
_SKIN = np.array(
    [[250, 222, 205], [241, 201, 175], [229, 183, 150], [208, 155, 117], [177, 120, 83], [133, 85, 58], [95, 60, 44]],
    np.float32,
)
_HAIR = {
    "black": (26, 22, 22), "dark": (48, 34, 27), "brown": (84, 56, 38), "chestnut": (110, 64, 38), "red": (150, 74, 36),
    "dark blond": (146, 112, 74), "blond": (200, 164, 110), "platinum": (226, 208, 174), "grey": (150, 148, 148),
    "white": (222, 220, 216), "dyed": (120, 60, 130),
}  # fmt: skip
STYLES = ("bald", "buzz", "short", "swept", "parted", "fringe", "long", "wavy", "curly", "afro", "bun", "tail", "bob")


@dataclass(frozen=True, eq=False)
class Person:
    """One person. Lengths and strengths are factors around 1; colours are linear light.

    Attributes
    ----------
    style
        The hair's, one of ``STYLES``.
    beard
        0 none, to 0.3 stubble, to 1 full.
    age
        0 young to 1 old.
    """

    width: float
    jaw: float
    long: float
    nose_length: float
    nose_width: float
    brow: float
    cheek: float
    lips: float
    chin: float
    weight: float
    age: float
    masculine: bool
    skin: Array
    hair: Array
    style: str
    beard: float
    smile: float
    open_mouth: bool
    makeup: float
    iris: Array


def draw_person(rng: np.random.Generator) -> Person:
    """Draw a person."""
    masculine = bool(rng.random() < 0.45)
    tone = rng.beta(1.1, 1.3) * (len(_SKIN) - 1)
    age = float(rng.beta(1.3, 2.2))
    lower, share = int(tone), tone - int(tone)
    skin = _SKIN[lower] * (1 - share) + _SKIN[min(lower + 1, len(_SKIN) - 1)] * share + rng.normal(0, 4, 3)
    smile = float(rng.choice([0.0, rng.uniform(0.2, 1.0)], p=[0.4, 0.6]))
    irises = ((70, 44, 28), (84, 58, 34), (110, 84, 50), (92, 108, 88), (96, 126, 148), (120, 130, 136))
    dark = tone > 3.2
    iris = irises[int(rng.integers(0, 2 if dark else len(irises)))]

    def about(spread: float, shift: float = 0.0) -> float:
        return float(np.clip(rng.normal(1 + shift, spread), 1 + shift - 2.2 * spread, 1 + shift + 2.2 * spread))

    return Person(
        width=about(0.035),
        jaw=about(0.06, 0.07 if masculine else -0.04),
        long=about(0.04, 0.03 if masculine else -0.02),
        nose_length=about(0.14),
        nose_width=about(0.13, 0.1 if dark else 0),
        brow=about(0.3, 0.3 if masculine else -0.3),
        cheek=about(0.3),
        lips=about(0.25, 0.15 if dark else 0),
        chin=about(0.3),
        weight=float(rng.normal(0.6, 0.9)),
        age=age,
        masculine=masculine,
        skin=srgb(*np.clip(skin, 20, 255)),
        hair=_draw_hair_colour(rng, age, dark),
        style=_draw_style(rng, masculine, age),
        beard=_draw_beard(rng, masculine),
        smile=smile,
        open_mouth=bool(smile > 0.5 and rng.random() < 0.6),
        makeup=0.0 if masculine else float(rng.beta(1, 1.5)),
        iris=srgb(*iris),
    )


def _draw_hair_colour(rng: np.random.Generator, age: float, dark: bool) -> Array:
    names = list(_HAIR)
    weights = np.array([22, 20, 12, 5, 2, 3, 2, 1, 1, 1, 1] if dark else [10, 14, 16, 10, 6, 12, 12, 4, 2, 1.5, 1.5])
    weights[names.index("grey")] += 40 * max(age - 0.55, 0) * 2
    weights[names.index("white")] += 30 * max(age - 0.6, 0) * 2
    name = names[int(rng.choice(len(names), p=weights / weights.sum()))]
    base = np.array(_HAIR[name], np.float32)
    if name == "dyed":
        base = rng.uniform(30, 210, 3).astype(np.float32)
    return srgb(*np.clip(base * rng.uniform(0.85, 1.15) + rng.normal(0, 3, 3), 8, 245))


def _draw_style(rng: np.random.Generator, masculine: bool, age: float) -> str:
    if masculine:
        weights = [6 + 10 * age, 8, 22, 18, 8, 6, 5, 4, 10, 4, 2, 1, 1]
    else:
        weights = [0.5, 1, 4, 3, 5, 9, 20, 18, 12, 6, 9, 8, 9]
    return STYLES[int(rng.choice(len(STYLES), p=np.array(weights) / sum(weights)))]


def _draw_beard(rng: np.random.Generator, masculine: bool) -> float:
    if not masculine or rng.random() < 0.5:
        return 0.0
    return float(rng.uniform(0.05, 0.9))
