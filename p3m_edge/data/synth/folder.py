"""A set of synthetic portraits as files; what is there already is kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import msgspec
import numpy as np

from p3m_edge.data.anonymize.hide import anonymize
from p3m_edge.data.detect import Box
from p3m_edge.data.parallel import Progress, parallel_map
from p3m_edge.data.recipe import claim, numbered
from p3m_edge.data.sample import Sample
from p3m_edge.data.synth.portraits import portrait
from p3m_edge.imageio import write_png

_RECORD = "synth.json"


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a folder of portraits was made with; stored there, so that a later run can continue it."""

    seed: int
    width: int
    height: int
    blurred: bool
    colours: bool

    @property
    def folders(self) -> tuple[str, ...]:
        """Folders of the set; the last one gets a portrait's last file, its image."""
        colours = ("fg", "bg") if self.colours else ()
        return (*colours, "alpha", "trimap", "facemask", "blurred_image" if self.blurred else "image")


@dataclass(frozen=True)
class Written:
    """What a run did: how many portraits it drew, and how many complete ones were there."""

    out: Path
    recipe: Recipe
    drawn: int
    kept: int


def write_set(
    out: Path,
    recipe: Recipe,
    count: int,
    *,
    workers: int | None = None,
    progress: Progress = lambda _done, _total: None,
) -> Written:
    """Write portraits 0 to ``count`` - 1 of a recipe.

    Files are written under another name first and then renamed, the image last: a portrait whose image is there is
    complete, whenever the run before ended.

    Raises
    ------
    UsageError
        There are too many, or the folder holds portraits of another recipe.
    InputError
        The recipe's size or seed is out of range.
    OutputError
        Something cannot be written.
    """
    seeds = numbered(recipe.seed, count)
    claim(out / _RECORD, recipe, recipe.folders)
    left = [seed for seed in seeds if not _file(out, recipe.folders[-1], seed).exists()]
    parallel_map(partial(_write, out, recipe), left, workers=workers, progress=progress)
    return Written(out, recipe, len(left), count - len(left))


def hide_face(sample: Sample) -> Sample:
    """The portrait with its face hidden as ``p3m-edge data anonymize`` hides faces; as it is where none is seen.

    The foreground and background stay those of the face that was hidden there.
    """
    assert sample.face_mask is not None
    left, top, width, height = cv2.boundingRect(sample.face_mask)
    if not width:
        return sample
    done = anonymize(sample.image, [Box(left, top, width, height, 1.0, "exact")], sample.alpha)
    return replace(sample, image=done.image, face_mask=done.face_mask)


def _file(out: Path, folder: str, seed: int) -> Path:
    return out / folder / f"{seed:08d}.png"


def _write(out: Path, recipe: Recipe, seed: int) -> None:
    sample = portrait(seed, recipe.width, recipe.height)
    if recipe.blurred:
        sample = hide_face(sample)
    pictures = {
        "fg": sample.foreground, "bg": sample.background, "alpha": sample.alpha, "trimap": sample.trimap,
        "facemask": sample.face_mask, recipe.folders[-1]: sample.image,
    }  # fmt: skip
    for name in recipe.folders:
        write_png(_file(out, name, seed), np.asarray(pictures[name]))
