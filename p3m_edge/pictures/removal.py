"""``remove``: a picture without its background, in one call; the network is kept between calls."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import overload

import numpy as np
from PIL import Image

from p3m_edge import arguments, imageio
from p3m_edge.arrays import Pixels
from p3m_edge.errors import UsageError, shown
from p3m_edge.imageio import InMemory, Picture
from p3m_edge.imageio.colour import to_8_bits
from p3m_edge.pictures.memory import Budget
from p3m_edge.pictures.results import Colour, Recipe, read_background
from p3m_edge.runtimes import Matting, default
from p3m_edge.runtimes.forks import bind
from p3m_edge.runtimes.people import Who, check_who, select

Background = str | os.PathLike[str] | tuple[int, int, int] | list[int] | InMemory


class _Network:
    """The default artefact, opened once in a process, by whichever thread comes first."""

    def __init__(self) -> None:
        self._matting: Matting | None = None
        self.forked()

    def forked(self) -> None:
        """In a child of its process, where no thread is left that could hold the lock."""
        self._lock = threading.Lock()

    def __call__(self) -> Matting:
        bind(self)
        with self._lock:
            if self._matting is None:
                self._matting = Matting(default.artefact(), check=False)  # that has just been done
            return self._matting


_network = _Network()


@overload
def remove(
    picture: str | os.PathLike[str] | Image.Image,
    *,
    background: Background | None = None,
    only_alpha: bool = False,
    people: Who = "all",
) -> Image.Image: ...
@overload
def remove(
    picture: bytes, *, background: Background | None = None, only_alpha: bool = False, people: Who = "all"
) -> bytes: ...
@overload
def remove(
    picture: Pixels, *, background: Background | None = None, only_alpha: bool = False, people: Who = "all"
) -> Pixels: ...
def remove(
    picture: str | os.PathLike[str] | InMemory, *,
    background: Background | None = None, only_alpha: bool = False, people: Who = "all",
) -> InMemory:  # fmt: skip
    """Cut the people out of a picture.

    The first call opens the network that comes with the package (or, with OpenVINO, what ``p3m-edge run`` has exported
    into the user's cache), and the process keeps it. Any thread may call this. For frames of a camera or video, take
    :class:`p3m_edge.runtimes.Matting` or :class:`p3m_edge.video.MattingStream`.

    Parameters
    ----------
    picture
        A path, the bytes of a file, an image of Pillow, or an array of sRGB values, uint8 or uint16: ``[H, W]`` grey,
        ``[H, W, 3]`` RGB, ``[H, W, 4]`` RGBA. It is never written to.
    background
        None: transparent. ``"blur"``: its own, blurred. Else a colour (``"#00ff00"``, ``"white"``, or red, green and
        blue in 0..255) or a picture of any kind (a path, too), scaled to cover.
    only_alpha
        Give the alpha matte, and not the picture.
    people
        Whose alpha is kept: ``all``, ``largest``, how many of the largest, or those at a point or box
        (:data:`~p3m_edge.runtimes.people.Who`).

    Returns
    -------
    result
        For an array an array ``[H, W, 4]`` of its dtype, for bytes those of a PNG file (16 bits if the picture has
        them), for Pillow's images and for paths an image of Pillow, mode ``RGBA``, 8 bits: upright, with the colour
        profile, in straight colours freed from the background's. On a background there is no fourth channel (blurred:
        none but that of the picture); the alpha alone is ``[H, W]``, grey, mode ``L``.

    Raises
    ------
    InputError
        The picture or background is missing, empty, damaged, no picture, too large, or does not fit into memory.
    MissingError
        Neither ONNX Runtime nor OpenVINO is installed; or OpenVINO alone, and nothing has been exported.
    UsageError
        An argument is of another type or makes no sense.

    Examples
    --------
    >>> remove("portrait.jpg").save("portrait.png")  # doctest: +SKIP
    """
    who = check_who(people)
    kind, behind = _wanted(background, only_alpha=arguments.switch("only_alpha", only_alpha))
    source = _source(picture)
    with Budget().read(source, None, (kind,)) as found:
        if isinstance(source, Path | Image.Image):  # Pillow has no colours of 16 bits
            own_alpha = None if found.alpha is None else to_8_bits(found.alpha)
            found = replace(found, own=to_8_bits(found.own), alpha=own_alpha)
        alpha = _network()(found.visible)
        alpha = alpha if who == "all" else select(alpha, who).alpha
        ((_, result),) = Recipe((kind,), behind, force=False).render(found, np.asarray(alpha, np.float32), (kind,))
    profile = None if only_alpha else found.icc_profile
    if isinstance(source, bytes):
        return imageio.png_bytes(result, icc_profile=profile, result=True)
    if isinstance(source, np.ndarray):
        return result
    image = Image.fromarray(result)
    if profile is not None:
        image.info["icc_profile"] = profile
    return image


def _wanted(background: Background | None, *, only_alpha: bool) -> tuple[str, Colour | Picture | None]:
    """The kind of result, and what is behind it."""
    if background is None:
        return ("alpha" if only_alpha else "cutout"), None
    if only_alpha:
        raise UsageError("the alpha matte has no background", hint="leave out background or only_alpha")
    if isinstance(background, str):
        return ("blur", None) if background == "blur" else ("composite", read_background(background))
    if isinstance(background, list | tuple):
        if len(background) != 3:
            raise UsageError(f"a colour is red, green and blue, not {shown(background)}")
        red, green, blue = (arguments.count("a value of a colour", value, 0, 255) for value in background)
        return "composite", (red, green, blue)
    with Budget().read(_source(background), None, ("alpha",)) as found:
        return "composite", found


def _source(picture: str | os.PathLike[str] | InMemory) -> Path | InMemory:
    if isinstance(picture, bytes | Image.Image | np.ndarray):
        return picture
    if isinstance(picture, str | os.PathLike):
        return arguments.path("a picture", picture)
    raise UsageError(f"a picture is a path, bytes, an image of Pillow or an array of NumPy, not {shown(picture)}")
