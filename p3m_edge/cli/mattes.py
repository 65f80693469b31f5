"""From one picture to the files that were asked for, without ever touching an input."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ImageColor

from p3m_edge import imageio
from p3m_edge.errors import OutputError, P3MEdgeError, UsageError
from p3m_edge.imageio import Picture
from p3m_edge.runtimes import compose

if TYPE_CHECKING:
    from p3m_edge.runtimes import Matting

KINDS = ("alpha", "cutout", "composite", "blur")


@dataclass(frozen=True)
class Outcome:
    """What became of one picture.

    Attributes
    ----------
    outputs
        The files that are there now; with ``skipped`` they were there before.
    reason
        Why it failed, or was skipped.
    seconds
        Decoding, matting and writing.
    """

    input: Path
    status: Literal["done", "skipped", "failed"]
    outputs: tuple[Path, ...] = ()
    reason: str | None = None
    width: int | None = None
    height: int | None = None
    seconds: float = 0.0


class Inputs:
    """The files that no result may replace: told apart by the file itself, so links and other spellings count."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._names = {os.path.realpath(path) for path in paths}
        self._files = {_file_id(Path(name)) for name in self._names} - {None}

    def check(self, output: Path) -> None:
        """Refuse a result that would replace an input.

        Raises
        ------
        OutputError
            It would.
        """
        if os.path.realpath(output) in self._names or _file_id(output) in self._files:
            raise OutputError(f"{output} is one of the inputs and is not overwritten", hint="choose another --out")


def _file_id(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


@dataclass(frozen=True)
class Recipe:
    """What to write for each picture.

    Attributes
    ----------
    kinds
        Of ``KINDS``.
    background
        For ``composite``: a colour (R, G, B; 0..255) or a picture ``[H, W, 3]``, uint8.
    force
        Whether files that exist are replaced; otherwise they stay, and only what is missing is made.
    """

    kinds: tuple[str, ...]
    background: tuple[int, int, int] | NDArray[np.uint8] | None
    force: bool

    def files(self, folder: Path, name: os.PathLike[str]) -> dict[str, Path]:
        """The files of one picture, by kind: ``<name>.<kind>.png``."""
        base = folder / name
        return {kind: base.with_name(f"{base.name}.{kind}.png") for kind in self.kinds}

    def render(
        self, picture: Picture, alpha: NDArray[np.float32], kinds: Iterable[str]
    ) -> Iterator[tuple[str, NDArray[Any]]]:
        """The results, one by one: ``[H, W]`` for alpha, ``[H, W, 4]`` for the cut-out, ``[H, W, 3]`` else.

        uint16 for pictures of that depth, uint8 otherwise.
        """
        frame: NDArray[Any] = picture.rgb if picture.rgb16 is None else picture.rgb16
        colours = None  # of the subject: estimating them costs more than all else
        for kind in sorted(kinds, key=KINDS.index):
            if kind == "alpha":
                yield kind, np.rint(alpha * np.iinfo(frame.dtype).max).astype(frame.dtype)
            elif kind == "cutout":
                cutout = compose.cutout(frame, alpha)
                colours = np.ascontiguousarray(cutout[..., :3])
                yield kind, cutout
            elif kind == "composite" and self.background is not None:
                yield kind, compose.composite(frame, alpha, self.background, foreground=colours)
            elif kind == "blur":
                yield kind, compose.blur_background(frame, alpha)


def background(text: str) -> tuple[int, int, int] | Picture:
    """A colour (``#00ff00``, ``#0f0``, ``white``) or a picture file. A file with a colour's name: ``./white``.

    Raises
    ------
    UsageError
        It is neither.
    InputError
        The picture cannot be read.
    """
    named = text.strip().lower()
    if re.fullmatch("#([0-9a-f]{3}|[0-9a-f]{6})", named) or named in ImageColor.colormap:
        red, green, blue = ImageColor.getrgb(named)[:3]
        return red, green, blue
    path = Path(text).expanduser()
    if path.exists() or path.suffix.lower() in imageio.IMAGE_SUFFIXES:
        return imageio.read_image(path)
    raise UsageError(
        f"background {text!r} is neither a colour nor a picture",
        hint="for example --background '#00ff00', --background white, --background beach.jpg",
    )


def process(
    matting: Matting, source: Path, files: Mapping[str, Path], recipe: Recipe, inputs: Inputs
) -> tuple[Outcome, bool]:
    """Matte one picture and write its files.

    Returns
    -------
    outcome
        An unusable picture is an outcome, not an exception.
    full
        Whether the disc is full: there is no point in going on.
    """
    start = time.perf_counter()
    try:
        for path in files.values():
            inputs.check(path)
        wanted = {kind: path for kind, path in files.items() if recipe.force or not os.path.lexists(path)}
        if not wanted:
            return Outcome(source, "skipped", tuple(files.values()), "its results exist"), False
        picture = imageio.read_image(source)
        alpha = matting(picture.rgb).astype(np.float32, copy=False)
        for kind, result in recipe.render(picture, alpha, wanted):
            wanted[kind].parent.mkdir(parents=True, exist_ok=True)
            profile = None if kind == "alpha" else picture.icc_profile
            imageio.write_png(wanted[kind], result, icc_profile=profile, result=True)
    except (P3MEdgeError, OSError, MemoryError) as error:
        return Outcome(source, "failed", reason=_reason(source, error)), _disc_full(error)
    height, width = alpha.shape
    seconds = round(time.perf_counter() - start, 3)
    return Outcome(source, "done", tuple(files.values()), None, width, height, seconds), False


def _disc_full(error: BaseException) -> bool:
    causes = (error, error.__cause__)
    return any(isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT) for cause in causes)


def _reason(source: Path, error: BaseException) -> str:
    """The error in one line, without the name of the picture in front."""
    if isinstance(error, MemoryError):
        return "does not fit into memory"
    text = " ".join(str(error).split()).removeprefix(f"{source} ")
    hint = getattr(error, "hint", None)
    return f"{text} ({hint})" if hint else text
