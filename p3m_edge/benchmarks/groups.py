"""MAD on ``people-held`` by skin tone, size of the person and light: whom a network serves worse than others.

    python -m p3m_edge.benchmarks.groups ARTEFACT --data DATA [--sheet PNG] [--json]

Each group has its mean, a bootstrap interval of it (95 %, over pictures), and the mean's ratio to that of all
pictures; above 1.5 it is marked. The mattes are IS-Net's: they say where a network departs from IS-Net, in which group
more than in others, and rank neither.

Skin tone is estimated from pixels. Faces in that set are hidden by cell means, which keep their colour.
Of the median colour inside the largest face the individual typology angle is taken, ``arctan((L* - 50) / b*)`` in
degrees (Chardon et al., Int. J. Cosmet. Sci. 1991), and its six usual classes are joined to three: very light, light
and intermediate (above 28), tan and brown (-30 to 28), dark (below -30). The angle was made for a calibrated
instrument: in a photograph the light and the white balance move it, too. Looked at on a sheet (``--sheet`` draws the
faces in their groups, hidden as they are), about a third of "dark" are faces in shade, and "medium" is mixed. Hair and
beard under the mask enter, and of several faces only the largest counts. Faces without a colour (grey pictures, grey
light) or without a mask are "not known".

Size is the share of the picture that the true matte covers; light is the picture's median lightness (L*, 0..100).
"""

from __future__ import annotations

import argparse
import math
import sys
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge.benchmarks import quality
from p3m_edge.benchmarks.photographs import Photograph, measure
from p3m_edge.data import sets
from p3m_edge.data.sample import Sample
from p3m_edge.data.sheet import sheet
from p3m_edge.imageio import write_png
from p3m_edge.metrics import bootstrap
from p3m_edge.table import Table

SET = "people-held"
WORSE = 1.5
"""The ratio to the mean of all above which a group is marked."""
NOT_KNOWN = "not known"
TRAITS: dict[str, tuple[tuple[float, float], tuple[str, str, str]]] = {
    "skin tone (ITA, degrees)": ((-30, 28), ("dark", "medium", "light")),
    "size (share of the picture)": ((0.45, 0.55), ("small", "middle", "large")),
    "light (median L*)": ((35, 65), ("dark", "middle", "bright")),
}
"""What pictures are grouped by: two limits, and the names of the groups below, between and from the upper one on."""
_TONE, _SIZE, _LIGHT = TRAITS
_COLOURLESS = 5  # of chroma (CIELAB): skin has 10 to 35 in a colour picture; nearer to grey the angle is noise
_COLUMNS = 12  # of the sheet

Traits = Mapping[str, float | None]
"""The value of each trait of a picture; None where it is unknown."""


@dataclass(frozen=True)
class Group:
    """Pictures of one kind: the mean of MAD (0..1), its interval, its ratio to the mean of all, and the mark."""

    by: str
    group: str
    pictures: int
    mad: float
    low: float
    high: float
    ratio: float
    worse: bool


def traits(sample: Sample) -> Traits:
    """What a picture is grouped by."""
    lab = cv2.cvtColor(sample.image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)  # L* 0..100
    face = largest_face(sample.face_mask)
    return {
        _TONE: None if face is None else typology_angle(np.asarray(lab[face], dtype=np.float32)),
        _SIZE: float(sample.alpha.mean()) / 255,
        _LIGHT: float(np.median(lab[..., 0])),
    }


def largest_face(face_mask: NDArray[np.uint8] | None) -> NDArray[np.bool_] | None:
    """The largest connected part of a mask of hidden faces, bool ``[H, W]``; None without any."""
    if face_mask is None or not face_mask.any():
        return None
    _, labels, stats, _ = cv2.connectedComponentsWithStats((face_mask != 0).astype(np.uint8))
    return np.asarray(labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA])))


def typology_angle(lab: NDArray[np.float32]) -> float | None:
    """The individual typology angle of the median colour of pixels (CIELAB, ``[N, 3]``), -90..90 degrees.

    None where there is too little colour to be skin's, or it is bluish.
    """
    lightness, a, b = np.median(lab, axis=0).tolist()
    if math.hypot(a, b) < _COLOURLESS or b <= 0:
        return None
    return math.degrees(math.atan((lightness - 50) / b))


def group_of(trait: str, value: float | None) -> str:
    """The name of a value's group."""
    limits, names = TRAITS[trait]
    return NOT_KNOWN if value is None else names[bisect_right(limits, value)]


def groups(mads: Mapping[str, float], known: Mapping[str, Traits]) -> Iterator[Group]:
    """All pictures, then each trait's groups as far as there are pictures of them; both are by picture."""
    overall = float(np.mean(list(mads.values())))
    kinds = [("all", "", list(mads.values()))]
    for trait, (_, names) in TRAITS.items():
        for name in (*names, NOT_KNOWN):
            values = [mad for picture, mad in mads.items() if group_of(trait, known[picture][trait]) == name]
            kinds.append((trait, name, values))
    for by, name, values in kinds:
        if values:
            mean = float(np.mean(values))
            ratio = mean / overall if overall else 1.0
            yield Group(by, name, len(values), mean, *bootstrap(values), ratio, ratio > WORSE)


def face_sheet(samples: Iterable[Sample]) -> NDArray[np.uint8]:
    """The hidden faces in their groups of skin tone, by angle: uint8 ``[H, W, 3]``."""
    cells: dict[str, list[tuple[float, str, NDArray[np.uint8]]]] = {}
    for sample in samples:
        angle = traits(sample)[_TONE]
        caption = "" if angle is None else f"{angle:.0f}"
        cells.setdefault(group_of(_TONE, angle), []).append((angle or 0, caption, _head(sample)))
    rows = []
    for name in (*TRAITS[_TONE][1], NOT_KNOWN):
        faces = [(f"{name} {text}", face) for _, text, face in sorted(cells.get(name, []), key=lambda cell: cell[0])]
        rows += [faces[start : start + _COLUMNS] for start in range(0, len(faces), _COLUMNS)]
    return sheet(rows, side=110)


def _head(sample: Sample) -> NDArray[np.uint8]:
    """The surroundings of the largest face, or the whole picture without any."""
    face = largest_face(sample.face_mask)
    if face is None:
        return sample.image
    x, y, width, height = cv2.boundingRect(face.astype(np.uint8))
    margin = max(width, height) // 2
    return sample.image[max(0, y - margin) : y + height + margin, max(0, x - margin) : x + width + margin]


def report(arguments: argparse.Namespace) -> tuple[object, Iterable[Table]]:
    """The document and the table."""
    items = sets.open_set(arguments.data / SET).items
    predict = quality.artefact(arguments.artefact, arguments.threads)
    if arguments.sheet is not None:
        write_png(arguments.sheet, face_sheet(map(sets.read, items)))
    known = {item.name: traits(sets.read(item)) for item in items}
    pictures = [Photograph(item.name, SET, "", item.image, item.alpha) for item in items if item.alpha is not None]
    mads = {row.name: row.mad for row in measure(str(arguments.artefact), predict, pictures)}
    found = list(groups(mads, known))
    document = {
        "groups": list(map(asdict, found)),
        "pictures": {name: {"MAD": mad, **known[name]} for name, mad in mads.items()},
    }
    shown = [replace(group, group=_described(group)) for group in found]
    formats = {"mad": ".4f", "low": ".4f", "high": ".4f", "ratio": ".2f"}
    return document, [quality.table("", shown, "by group pictures mad low high ratio worse", **formats)]


def _described(group: Group) -> str:
    """A group's name, with its limits."""
    (low, high), names = TRAITS.get(group.by, ((0, 0), ()))
    if group.group not in names:
        return group.group
    return f"{group.group}: {(f'below {low:g}', f'{low:g} to {high:g}', f'from {high:g} on')[names.index(group.group)]}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = quality.parser(__doc__)
    parser.add_argument("artefact", type=Path, metavar="ARTEFACT")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help=f"holds {SET}/")
    parser.add_argument("--sheet", type=Path, metavar="PNG", help="draw the faces in their groups")
    return quality.run(parser, report, arguments)


if __name__ == "__main__":
    sys.exit(main())
