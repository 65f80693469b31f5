"""From one picture to the files that were asked for: within the memory that there is, and without touching an input."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import psutil
from numpy.typing import NDArray
from PIL import ImageColor

from p3m_edge import imageio
from p3m_edge.arrays import Pixels
from p3m_edge.errors import InputError, OutputError, P3MEdgeError, UsageError
from p3m_edge.imageio import MAX_PIXELS, InMemory, Picture, TooLargeError
from p3m_edge.pictures.sources import Source, output_names
from p3m_edge.resources import memory_left
from p3m_edge.runtimes import compose
from p3m_edge.runtimes.compose import Effect
from p3m_edge.runtimes.people import Who, select

if TYPE_CHECKING:
    from p3m_edge.runtimes import Matting

BYTES_PER_PIXEL = {"alpha": 14, "cutout": 26, "composite": 26, "blur": 20}
"""What each kind of result takes at its peak, of a picture of 8 bits that is opaque; they are made one by one."""
KINDS = tuple(BYTES_PER_PIXEL)
_DEEP = 2.75  # times as much, with 16 bits a channel
_TRANSPARENT = 16  # bytes more
EFFECTS = 12
"""Bytes more for each pixel with a feather or a light wrap."""
_PLAIN = Effect()
_TOUCHING = "people seem to touch, and are kept together"
# What OpenCV, engines and C++ say.
_NO_MEMORY = re.compile(r"Insufficient memory|bad_alloc|bad allocation|Failed to allocate", re.IGNORECASE)

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Outcome:
    """The result of one picture, or of one ``page`` of it, from 1 on.

    ``outputs`` are the files that are there now; with ``skipped`` they were there before. ``reason`` says why it failed
    or was skipped. ``seconds`` are for decoding, matting and writing. ``remarks`` are those of
    :class:`p3m_edge.imageio.Picture`, and that the people who were kept touch.
    """

    input: Path
    status: Literal["done", "skipped", "failed"]
    outputs: tuple[Path, ...] = ()
    reason: str | None = None
    width: int | None = None
    height: int | None = None
    seconds: float = 0.0
    page: int | None = None
    remarks: tuple[str, ...] = ()


def identities(path: Path) -> set[object]:
    """The identities of a file: its real path and its inode, so that links and other spellings are recognised."""
    found: set[object] = {os.path.realpath(path)}
    with suppress(OSError):
        status = path.stat()
        found.add((status.st_dev, status.st_ino))
    return found


@dataclass(frozen=True)
class Budget:
    """How large a picture may be.

    ``max_memory`` are the bytes for a picture and its results; None: what is free when its turn comes. ``more`` are
    bytes that each pixel takes besides :data:`BYTES_PER_PIXEL`.
    """

    max_pixels: int = MAX_PIXELS
    max_memory: int | None = None
    more: int = 0

    def read(self, source: Path | InMemory, page: int | None, kinds: Iterable[str]) -> Picture:
        """Decode a picture, or a page of it from 1 on, if there is room for it and for the results of these kinds.

        Else an :class:`InputError`, which is also that of :func:`p3m_edge.imageio.read_image`.
        """
        room = self.max_memory
        if room is None:  # what this process may still take: of the machine, its container and its own limits
            free, left = int(psutil.virtual_memory().available), memory_left()
            room = free if left is None else min(free, left)
        each = self.more + max(BYTES_PER_PIXEL[kind] for kind in kinds)
        allowed = min(self.max_pixels, room // each)
        try:
            if isinstance(source, Path):
                picture = imageio.read_image(source, max_pixels=allowed, frame=None if page is None else page - 1)
            else:
                picture = imageio.as_picture(source, max_pixels=allowed)
        except TooLargeError as error:
            if error.pixels is None or error.pixels > self.max_pixels:
                raise TooLargeError(error.path, self.max_pixels, error.pixels) from error
            raise self._no_room(error.path, error.pixels * each, room) from error
        of_depth = _DEEP if picture.own.dtype == np.uint16 else 1
        of_alpha = 0 if picture.alpha is None else _TRANSPARENT
        needed = int(picture.own.shape[0] * picture.own.shape[1] * (each * of_depth + of_alpha))
        if needed > room:
            raise self._no_room(picture.path, needed, room)
        return picture

    def _no_room(self, path: Path, needed: int, room: int) -> InputError:
        there = "{:.2g} GB is free" if self.max_memory is None else "--max-memory allows {:.2g} GB"
        return InputError(
            f"{path} takes about {needed / 1e9:.2g} GB of memory with its results, and {there.format(room / 1e9)}",
            hint="scale it down first, ask for fewer kinds of results, or set --max-memory",
        )


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

    :class:`UsageError`: it is neither; :class:`InputError`: the picture cannot be read.
    """
    named = text.strip().lower()
    if re.fullmatch("#([0-9a-f]{3}|[0-9a-f]{6})", named) or named in ImageColor.colormap:
        red, green, blue = ImageColor.getrgb(named)[:3]
        return red, green, blue
    path = Path(text).expanduser()
    if path.exists() or path.suffix.lower() in imageio.IMAGE_SUFFIXES:
        return imageio.read_image(path, max_pixels=max_pixels)
    raise UsageError(
        f"background {text!r} is neither a colour nor a picture",
        hint="for example --background '#00ff00', --background white, --background beach.jpg",
    )


def matte_all(
    matting: Matting, sources: Sequence[Source], out: Path, recipe: Recipe, budget: Budget,
    protected: AbstractSet[object], *, step: Callable[[str, int, int], None], trace: Callable[[Exception], None],
) -> Iterator[Outcome]:  # fmt: skip
    """Matte pictures one by one, each as :func:`process` does; a full disc ends it, and the rest counts as failed.

    ``step`` is called before each with its name, how many are done, and how many there are.
    """
    full = False
    for done, (source, name) in enumerate(zip(sources, output_names(sources), strict=True)):
        step(source.path.name, done, len(sources))
        if full:
            yield Outcome(source.path, "failed", reason="not begun: the disc is full", page=source.page)
            continue
        outcome, full = process(matting, source, recipe.files(out, name), recipe, budget, protected, trace)
        yield outcome


def process(
    matting: Matting, source: Source, files: Mapping[str, Path], recipe: Recipe, budget: Budget,
    protected: AbstractSet[object], trace: Callable[[Exception], None],
) -> tuple[Outcome, bool]:  # fmt: skip
    """Matte one picture that fits into the budget, and write its files, but never over one that is ``protected``.

    Returns
    -------
    outcome
        Whatever goes wrong with a picture is an outcome, not an exception; ``trace`` gets the exception.
    full
        Whether the disc is full: there is no point in going on.
    """
    start = time.perf_counter()
    path, page, outputs = source.path, source.page, tuple(files.values())
    try:
        for output in outputs:
            if not protected.isdisjoint(identities(output)):
                raise OutputError(f"{output} is one of the inputs and is not overwritten", hint="choose another --out")
        wanted = {kind: file for kind, file in files.items() if recipe.force or not os.path.lexists(file)}
        if not wanted:
            return Outcome(path, "skipped", outputs, "its results exist", page=page), False
        picture = budget.read(path, page, wanted)
        alpha = matting(picture.visible).astype(np.float32, copy=False)
        remarks = picture.remarks
        if recipe.people != "all":
            chosen = select(alpha, recipe.people)
            alpha = chosen.alpha.astype(np.float32, copy=False)
            remarks += (_TOUCHING,) * chosen.touching
        for kind, result in recipe.render(picture, alpha, wanted):
            wanted[kind].parent.mkdir(parents=True, exist_ok=True)
            profile = None if kind == "alpha" else picture.icc_profile
            imageio.write_png(wanted[kind], result, icc_profile=profile, result=True)
            del result
    except Exception as error:  # noqa: BLE001 - it concerns this picture alone; the others follow
        trace(error)
        causes = (error, error.__cause__)
        full = any(isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT) for cause in causes)
        return Outcome(path, "failed", reason=_reason(path, error), page=page), full
    height, width = alpha.shape
    seconds = round(time.perf_counter() - start, 3)
    return Outcome(path, "done", outputs, None, width, height, seconds, page, remarks), False


def _reason(source: Path, error: Exception) -> str:
    """The error in one line, without the name of the picture in front."""
    text = " ".join(str(error).split()).removeprefix(f"{source} ")
    if isinstance(error, MemoryError) or _NO_MEMORY.search(text):
        return "does not fit into memory"
    if not isinstance(error, P3MEdgeError | OSError):
        return f"internal error: {type(error).__name__}: {text}"
    hint = getattr(error, "hint", None)
    return f"{text} ({hint})" if hint else text
