"""Give public-domain portraits mattes and face boxes: the PEOPLE of `train_mobile.py`.

    pip install mediapipe==0.10.21 pymatting
    git clone https://github.com/presidential-innovation-fellows/pif-website
    git clone https://github.com/18F/18f.gsa.gov
    git clone https://github.com/GSA/digitalcorps.gsa.gov
    git clone https://github.com/GSA/cio.gov-redo
    python tools/label_portraits.py OUT pif-website 18f.gsa.gov digitalcorps.gsa.gov cio.gov-redo

The portraits are those of ``p3m_edge/weights/training-list.csv`` whose names begin with ``pif_``, ``f18_``, ``dc_`` or
``cio_``; each is looked for by its SHA-256 in the whole history of the clones, so that the list needs nobody's name. A
coarse segmentation (MediaPipe's Selfie Segmentation, Apache-2.0, three views of each picture) becomes a trimap, and
closed-form matting (PyMatting) the matte. MediaPipe's face mesh and detector mark the faces. OUT gets, for each of the
collections, ``<name>/image``, ``<name>/alpha`` and ``<name>.csv``, the boxes for ``p3m-edge data anonymize --boxes``.
Nothing is anonymised here: that comes next. ``--list p3m_edge/weights/ordinary-list.csv`` gives the portraits that were
left out of training, to measure with.

It imports nothing of the package: MediaPipe wants older NumPy, so it has an environment of its own.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib.util
import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageOps

LIST = Path(__file__).resolve().parent.parent / "p3m_edge" / "weights" / "training-list.csv"
COLLECTIONS = ("pif", "f18", "dc", "cio")
FLAGS = ("cio",)
"""Collections of officials before flags, whose stripes closed-form matting takes for hair."""
OUTSIDE, OUTSIDE_FLAGS = 0.028, 0.012
"""How far the unknown of a trimap reaches outside, in longest sides: as far as hair, and less before flags."""
SEGMENTED, SIDE = 1024, 640
"""Longest sides, in pixels: of what MediaPipe sees, and of the result."""
FOREHEAD = 0.08
"""MediaPipe's mesh ends below the hairline: by so much of its height the box goes up."""
Box = tuple[float, float, float, float]


def main() -> int:
    """Find the pictures, and label each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--list", type=Path, metavar="FILE", default=LIST, help="which (default: the training list)")
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR", help="a clone with its history")
    arguments = parser.parse_args()
    wanted = listed(arguments.list)
    found = find(wanted, arguments.folders)
    if missing := wanted.keys() - found.keys():
        sys.exit(f"{len(missing)} of {len(wanted)} pictures of {arguments.list.name} are in none of the clones")
    labeller = Labeller()
    for collection in COLLECTIONS:
        names = {name: found[digest] for digest, name in sorted(wanted.items()) if name.startswith(f"{collection}_")}
        if not names:
            continue
        rows: list[tuple[object, ...]] = []
        for number, (name, data) in enumerate(names.items(), 1):
            print(f"\r{collection}: {number} of {len(names)}", end="", file=sys.stderr, flush=True)
            picture, alpha, boxes = labeller.label(data, flags=collection in FLAGS)
            for kind, array in (("image", picture[..., ::-1]), ("alpha", alpha)):
                folder = arguments.out / collection / kind
                folder.mkdir(parents=True, exist_ok=True)
                if not cv2.imwrite(str(folder / f"{name}.png"), array):
                    sys.exit(f"{folder / name}.png cannot be written")
            rows += [(name, round(x0), round(y0), round(x1 - x0), round(y1 - y0)) for x0, y0, x1, y1 in boxes]
        print(file=sys.stderr)
        with (arguments.out / f"{collection}.csv").open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([("name", "x", "y", "width", "height"), *rows])
    return 0


def listed(path: Path = LIST) -> dict[str, str]:
    """Names by SHA-256 of the file."""
    with path.open(newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row.get("kind") == "portrait"]
    wanted = {row["sha256"]: row["name"] for row in rows if row["name"].split("_")[0] in COLLECTIONS}
    if not wanted:
        sys.exit(f"{path} lists no portrait of {', '.join(COLLECTIONS)}")
    return wanted


def find(wanted: dict[str, str], clones: list[Path]) -> dict[str, bytes]:
    """Files by SHA-256, as far as they are in the clones' histories."""
    found: dict[str, bytes] = {}
    for clone in clones:
        for data in pictures(clone):
            digest = hashlib.sha256(data).hexdigest()
            if digest in wanted:
                found[digest] = data
    return found


def pictures(clone: Path) -> Iterator[bytes]:
    """Every picture that was ever committed: portraits of those who left are in the history alone."""
    git = ("git", "-C", str(clone))
    listed = subprocess.run(
        (*git, "rev-list", "--objects", "--all", "--missing=allow-any"), capture_output=True, text=True
    )
    if listed.returncode:
        sys.exit(f"{clone} is no clone that git can read: {listed.stderr.strip()}")
    names = (line.split(" ", 1) for line in listed.stdout.splitlines() if " " in line)
    wanted = [blob for blob, path in names if path.lower().endswith((".jpg", ".jpeg", ".png", ".webp"))]
    with subprocess.Popen((*git, "cat-file", "--batch"), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        for blob in wanted:
            reader.stdin.write(f"{blob}\n".encode())
            reader.stdin.flush()
            header = reader.stdout.readline().split()
            if len(header) == 3:  # else the clone is a partial one, and lacks it
                yield reader.stdout.read(int(header[2]))
                reader.stdout.read(1)


class Labeller:
    """MediaPipe's models, opened once."""

    def __init__(self) -> None:
        missing = [name for name in ("mediapipe", "pymatting") if importlib.util.find_spec(name) is None]
        if missing:
            hint = "in an environment of its own: pip install mediapipe==0.10.21 pymatting"
            sys.exit(f"missing: {', '.join(missing)}; {hint}")
        import mediapipe

        solutions: Any = mediapipe.solutions
        self._segmentation = solutions.selfie_segmentation.SelfieSegmentation(model_selection=0)
        self._mesh = solutions.face_mesh.FaceMesh(static_image_mode=True, max_num_faces=4, min_detection_confidence=0.3)
        self._detector = solutions.face_detection.FaceDetection(model_selection=1, min_detection_confidence=0.3)

    def label(self, data: bytes, *, flags: bool = False) -> tuple[np.ndarray, np.ndarray, list[Box]]:
        """What a file shows: a picture, H x W x 3, RGB; its matte, H x W, 0 to 255; and faces.

        Faces are left, top, right, bottom in pixels. Before flags, the matte is close to the person and in one piece.
        """
        large = limited(np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")), SEGMENTED)
        coarse = self._coarse(large)
        picture = limited(large, SIDE)
        height, width = picture.shape[:2]
        if picture.shape != large.shape:
            coarse = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_AREA)
        boxes = [clipped(box, width, height) for box in self._faces(large)]
        alpha = matte(picture, trimap(coarse, OUTSIDE_FLAGS if flags else OUTSIDE))
        return picture, one_piece(alpha) if flags else alpha, [box for box in boxes if box[2] - box[0] >= 4]

    def _coarse(self, picture: np.ndarray) -> np.ndarray:
        """Probability of a person: the mean of the picture, its mirror image, and a view with a margin."""
        height, width = picture.shape[:2]
        top, side = height // 8, width // 8
        wide = cv2.copyMakeBorder(picture, top, 0, side, side, cv2.BORDER_REPLICATE)
        views = [
            self._segment(picture),
            self._segment(np.ascontiguousarray(picture[:, ::-1]))[:, ::-1],
            self._segment(wide)[top:, side : side + width],
        ]
        return np.asarray(np.mean(np.stack(views), axis=0, dtype=np.float32))

    def _segment(self, picture: np.ndarray) -> np.ndarray:
        mask = self._segmentation.process(picture).segmentation_mask
        return np.asarray(cv2.resize(mask, (picture.shape[1], picture.shape[0]), interpolation=cv2.INTER_CUBIC))

    def _faces(self, picture: np.ndarray) -> list[Box]:
        """In shares of the sides. The mesh is the more exact; the detector sees what the mesh does not."""
        meshes = []
        for face in self._mesh.process(picture).multi_face_landmarks or []:
            x, y = ([getattr(point, axis) for point in face.landmark] for axis in "xy")
            meshes.append((min(x), min(y) - FOREHEAD * (max(y) - min(y)), max(x), max(y)))
        others = []
        for face in self._detector.process(picture).detections or []:
            box = face.location_data.relative_bounding_box
            x, y = box.xmin + box.width / 2, box.ymin + box.height / 2
            if not any(x0 < x < x1 and y0 < y < y1 for x0, y0, x1, y1 in meshes):
                top = box.ymin - FOREHEAD * box.height
                others.append((box.xmin, top, box.xmin + box.width, box.ymin + box.height))
        return meshes + others


def limited(picture: np.ndarray, side: int) -> np.ndarray:
    """A picture no larger than so many pixels."""
    factor = side / max(picture.shape[:2])
    if factor >= 1:
        return picture
    size = (round(picture.shape[1] * factor), round(picture.shape[0] * factor))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))


def clipped(box: Box, width: int, height: int) -> Box:
    """From shares to pixels inside the picture."""
    left, top, right, bottom = box
    return max(0, left * width), max(0, top * height), min(width, right * width), min(height, bottom * height)


def trimap(coarse: np.ndarray, outside: float) -> np.ndarray:
    """0, 0.5 and 1: what the segmentation is sure of, less a band, which is wider outside by so many longest sides."""
    # others, and patches of the background, are no part of the person
    coarse = np.where(largest(coarse > 0.5, 9), coarse, np.minimum(coarse, 0.05))
    side = max(coarse.shape)
    result = np.full(coarse.shape, 0.5)
    result[shrunk(coarse > 0.85, max(2, round(0.012 * side)))] = 1
    result[shrunk(coarse < 0.2, max(3, round(outside * side)))] = 0
    return result


def one_piece(alpha: np.ndarray) -> np.ndarray:
    """A matte without what hangs together with the person nowhere."""
    return np.where(largest(alpha > 40, 5), alpha, 0).astype(np.uint8)


def largest(mask: np.ndarray, reach: int) -> np.ndarray:
    """The largest piece of a mask, dilated by a square of so many pixels."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if len(stats) == 1:
        return np.zeros(mask.shape, bool)
    piece = (labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))).astype(np.uint8)
    return np.asarray(cv2.dilate(piece, np.ones((reach, reach))) > 0)


def shrunk(mask: np.ndarray, radius: int) -> np.ndarray:
    """Eroded; beyond the picture's border it goes on as at the border."""
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    wide = cv2.copyMakeBorder(mask.astype(np.uint8), radius, radius, radius, radius, cv2.BORDER_REPLICATE)
    return np.asarray(cv2.erode(wide, ellipse)[radius:-radius, radius:-radius] > 0)


def matte(picture: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Closed-form matting (Levin et al., 2008)."""
    from pymatting import estimate_alpha_cf

    return np.asarray(np.round(255 * estimate_alpha_cf(picture / 255.0, known))).astype(np.uint8)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:  # a picture that cannot be read, a place that cannot be written
        sys.exit(f"error: {error}")
