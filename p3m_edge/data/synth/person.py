"""Who is in the picture: the numbers that decide about face, skin, hair and garment."""

from __future__ import annotations

import numpy as np

from p3m_edge.data.synth.raster import srgb

# Display colours from light to dark.
_SKIN = np.array(
    [[250, 222, 205], [241, 201, 175], [229, 183, 150], [208, 155, 117], [177, 120, 83], [133, 85, 58], [95, 60, 44]]
)
# Display colours, and how often each is seen on people of light and of dark skin; what age adds to grey and white.
_HAIR = np.array(
    [[26, 22, 22], [48, 34, 27], [84, 56, 38], [110, 64, 38], [150, 74, 36], [146, 112, 74], [200, 164, 110],
     [226, 208, 174], [120, 60, 130], [150, 148, 148], [222, 220, 216]]
)  # fmt: skip
_HAIR_LIGHT = np.array([10, 14, 16, 10, 6, 12, 12, 4, 1.5, 2, 1.5])
_HAIR_DARK = np.array([22, 20, 12, 5, 2, 3, 2, 1, 1, 1, 1])
_HAIR_OLD = np.array([0, 0, 0, 0, 0, 0, 0, 0, 0, 80, 60])
_IRIS = ((70, 44, 28), (84, 58, 34), (110, 84, 50), (92, 108, 88), (96, 126, 148), (120, 130, 136))
_STYLES = {  # of hair, and how often each is seen on men and on women
    "bald": (8, 0.5), "buzz": (8, 1), "short": (22, 4), "swept": (18, 3), "parted": (8, 5), "fringe": (6, 9),
    "long": (5, 20), "wavy": (4, 18), "curly": (10, 12), "afro": (4, 6), "bun": (2, 9), "tail": (1, 8), "bob": (1, 9),
}  # fmt: skip


class Person:
    """One person, drawn at random. Lengths and strengths are factors around 1; colours are linear light.

    Attributes
    ----------
    age
        0 young to 1 old.
    beard
        0 none, to 0.3 stubble, to 1 full.
    style
        The hair's, which :func:`p3m_edge.data.synth.hair.draw_cut` knows.
    neckline
        The garment's: ``round``, ``deep`` or ``high``.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        def about(spread: float, shift: float = 0.0) -> float:
            return 1 + shift + spread * float(np.clip(rng.normal(), -2.2, 2.2))

        self.masculine = masculine = bool(rng.random() < 0.45)
        self.age = float(rng.beta(1.3, 2.2))
        self.weight = float(rng.normal(0.6, 0.9))
        tone = float(rng.beta(1.1, 1.3)) * (len(_SKIN) - 1)
        dark = tone > 3.2
        skin = [np.interp(tone, range(len(_SKIN)), _SKIN[:, channel]) for channel in range(3)] + rng.normal(0, 4, 3)
        self.skin = srgb(*np.clip(skin, 20, 255))
        self.iris = srgb(*_IRIS[int(rng.integers(2 if dark else len(_IRIS)))])
        self.width = about(0.035)
        self.jaw = about(0.06, 0.07 if masculine else -0.04)
        self.long = about(0.04, 0.03 if masculine else -0.02)
        self.nose_length = about(0.14)
        self.nose_width = about(0.13, 0.1 if dark else 0)
        self.brow = about(0.3, 0.3 if masculine else -0.3)
        self.lips = about(0.25, 0.15 if dark else 0)
        self.smile = float(rng.uniform(0.2, 1.0)) if rng.random() < 0.6 else 0.0
        self.open_mouth = bool(self.smile > 0.5 and rng.random() < 0.6)
        self.makeup = 0.0 if masculine else float(rng.beta(1, 1.5))
        self.beard = float(rng.uniform(0.05, 0.9)) if masculine and rng.random() < 0.5 else 0.0
        shares = (_HAIR_DARK if dark else _HAIR_LIGHT) + _HAIR_OLD * max(self.age - 0.55, 0)
        hair = rng.choice(_HAIR, p=shares / shares.sum()) * rng.uniform(0.85, 1.15) + rng.normal(0, 3, 3)
        self.hair = srgb(*np.clip(hair, 8, 245))
        shares = np.array(list(_STYLES.values()))[:, 0 if masculine else 1]
        self.style = str(rng.choice(list(_STYLES), p=shares / shares.sum()))
        # Mostly grey, dark, white and muted colours, sometimes strong ones.
        wheel = np.clip(np.abs((rng.uniform(0, 6) + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
        strength = float(rng.choice([0.05, rng.uniform(0.1, 0.5), rng.uniform(0.5, 0.85)], p=[0.35, 0.45, 0.2]))
        self.garment = srgb(*(255 * (1 - strength + strength * wheel) * rng.uniform(0.1, 0.95)))
        self.neckline = str(rng.choice(["round", "deep", "high"]))
