"""From a picture and its alpha to what was asked for: an alpha, a cut-out, a composite, a blurred background."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ImageColor

from p3m_edge import imageio
from p3m_edge.arrays import Pixels
from p3m_edge.errors import UsageError
from p3m_edge.imageio import MAX_PIXELS, Picture
from p3m_edge.pictures.memory import BYTES_PER_PIXEL
from p3m_edge.runtimes import compose
from p3m_edge.runtimes.compose import Effect
from p3m_edge.runtimes.people import Who
from p3m_edge.video.codecs import is_video

KINDS = tuple(BYTES_PER_PIXEL)
_PLAIN = Effect()

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Recipe:
    """What to write for each picture: results of these ``kinds``, of ``KINDS``.

    ``background`` is for ``composite``: a colour (R, G, B; 0..255, sRGB) or a picture. With ``force``, files that exist
    are replaced; else they stay, and only what is missing is made. ``people`` are those whose alpha is wanted. The
    ``effect`` is for all results but the alpha; each has a background of its own.
    """

    kinds: tuple[str, ...]
    background: Colour | Picture | None
    force: bool
    people: Who = "all"
    effect: Effect = _PLAIN

    def files(self, folder: Path, name: os.PathLike[str]) -> dict[str, Path]:
        """The files of one picture, by kind: ``<name>.<kind>.png``."""
        base = folder / name
        return {kind: base.with_name(f"{base.name}.{kind}.png") for kind in self.kinds}

    def render(
        self, picture: Picture, alpha: NDArray[np.float32], kinds: Iterable[str]
    ) -> Iterator[tuple[str, Pixels]]:
        """The results, one by one: ``[H, W]`` for alpha, ``[H, W, 4]`` for the cut-out, ``[H, W, 3]`` else.

        uint16 for pictures of that depth, uint8 otherwise; in the colours of the picture's profile. What is transparent
        in the picture stays so: the alpha is multiplied by the picture's own, a blurred picture keeps that as a fourth
        channel, and colours under full transparency are in no result.
        """
        frame, given = picture.own, picture.alpha
        shown = alpha
        if given is not None:
            frame = imageio.fill_hidden(frame, given)
            shown = np.asarray(alpha * (given * np.float32(1 / np.iinfo(given.dtype).max)), np.float32)
        colours = None  # of the subject: estimating them costs more than all else
        for kind in sorted(kinds, key=KINDS.index):
            if kind == "alpha":
                yield kind, compose.quantized(shown, frame.dtype)
            elif kind == "blur":
                blurred = compose.apply(frame, alpha, replace(self.effect, background="blur"))
                yield kind, blurred if given is None else np.dstack([blurred, given])
            elif kind == "cutout" or self.background is not None:
                colours = compose.foreground(frame, alpha) if colours is None else colours
                behind: compose.Behind = "transparent"
                if kind == "composite" and self.background is not None:
                    behind = _in_colours_of(picture.icc_profile, self.background)
                yield kind, compose.apply(frame, shown, replace(self.effect, background=behind), foreground=colours)


@lru_cache(maxsize=2)
def _in_colours_of(profile: bytes | None, background: Colour | Picture) -> Colour | Pixels:
    """A background as the values of another picture's space; a picture that is transparent in places is on white."""
    if isinstance(background, Picture):
        if background.alpha is not None:
            return imageio.convert(imageio.flatten(background.rgb, background.alpha, 255), None, profile)
        if background.icc_profile == profile:
            return background.own
        return imageio.convert(background.rgb, None, profile)
    red, green, blue = imageio.convert(np.array([[background]], np.uint8), None, profile)[0, 0].tolist()
    return red, green, blue


def read_background(text: str, max_pixels: int = MAX_PIXELS) -> Colour | Picture:
    """A colour (``#00ff00``, ``#0f0``, ``white``) or a picture file. A file with a colour's name: ``./white``.

    :class:`UsageError`: it is neither, or a video; :class:`InputError`: the picture cannot be read.
    """
    named = text.strip().lower()
    if re.fullmatch("#([0-9a-f]{3}|[0-9a-f]{6})", named) or named in ImageColor.colormap:
        red, green, blue = ImageColor.getrgb(named)[:3]
        return red, green, blue
    path = Path(text).expanduser()
    if is_video(path):
        raise UsageError(f"the background {text} is a video, which pictures cannot have", hint="matte a video on it")
    if path.exists() or path.suffix.lower() in imageio.IMAGE_SUFFIXES:
        return imageio.read_image(path, max_pixels=max_pixels)
    raise UsageError(
        f"background {text!r} is neither a colour nor a picture",
        hint="for example --background '#00ff00', --background white, --background beach.jpg",
    )
