"""Finding faces, so that they can be hidden: the cascade that scikit-image ships, or YuNet from a file of the user.

A detector looks at several views of a picture (sizes, mirrored, turned) and maps what it finds back. Every box means
the same, whoever found it: hairline to chin, cheek to cheek.

The cascade (LBP features; Liao et al. 2007, "Learning multi-scale block local binary patterns for face recognition")
knows frontal faces alone: no profiles, few that are turned by more than some 30 degrees, covered or in deep shadow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import NamedTuple, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge.data.sample import Image
from p3m_edge.errors import InputError, missing_package

CASCADE = "cascade"
"""The name of the embedded detector; all others are paths of YuNet files."""
_WINDOW = 24  # the cascade's smallest window, in pixels
_YUNET_KEEP, _YUNET_SURE = 0.5, 0.7  # confidences
_MAX_ENLARGED = 2.0  # beyond that, a small picture has nothing more to show


@dataclass(frozen=True)
class Box:
    """A face, from hairline to chin and cheek to cheek, in pixels of the whole picture; it may reach beyond its edge.

    Attributes
    ----------
    x, y, width, height
        Left upper corner and size.
    score
        0..1. Cascade: the share of views in which the face was found; YuNet: its highest confidence.
    detector
        Who found it.
    sure
        Whether the score is high enough to take it for a face. The others are blurred too, but do not count as found.
    """

    x: float
    y: float
    width: float
    height: float
    score: float
    detector: str
    sure: bool = True

    @property
    def centre(self) -> tuple[float, float]:
        return self.x + self.width / 2, self.y + self.height / 2


class View(NamedTuple):
    """How a picture is looked at: its longer side in pixels, mirrored or not, turned by ``angle`` degrees."""

    side: int
    mirrored: bool = False
    angle: float = 0.0


# Two sizes have it found twice; the turned views are small because they are costly and tilted heads are large enough.
VIEWS = (
    View(320), View(320, mirrored=True), View(320, angle=15), View(320, angle=-15),
    View(480), View(480, mirrored=True), View(640), View(640, mirrored=True),
)  # fmt: skip
# For looking again: sizes between, below and above (0.5 to 2 times the first views' smaller two), turned views larger.
OTHER_VIEWS = (
    View(240), View(240, mirrored=True), View(400, mirrored=True), View(400, angle=15), View(400, angle=-15),
    View(560, mirrored=True), View(800), View(960, mirrored=True),
)  # fmt: skip
_YUNET_VIEWS = (View(320), View(640))
_OTHER_YUNET_VIEWS = (View(240, mirrored=True), View(480, angle=15), View(480, angle=-15), View(960, mirrored=True))

Find = Callable[[Image], Iterable[tuple[float, float, float, float, float]]]
"""Gives x, y, width, height and score of the faces in a view, in its pixels."""


@dataclass(frozen=True, eq=False)
class Detector:
    """What finds faces: see :func:`cascade` and :func:`yunet`.

    Attributes
    ----------
    name
        For the report.
    find, views
        Looks at each view of a picture, uint8 ``[H, W]`` or RGB ``[H, W, 3]``.
    keep, sure
        The score from which a box is given, and from which it is sure.
    by_agreement
        Views are grey, and a score is the share of views that agree; else it is the highest one.
    """

    name: str
    find: Find
    views: tuple[View, ...]
    keep: float
    sure: float
    by_agreement: bool = False

    def detect(self, rgb: Image) -> tuple[Box, ...]:
        """The faces of a picture, uint8 ``[H, W, 3]``, RGB, the most certain first."""
        picture = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8) if self.by_agreement else rgb
        found = []
        for number, view in enumerate(self.views):
            seen, back = _view(picture, view)
            found += [(number, _map(Box(*one, self.name), back)) for one in self.find(seen)]
        result = []
        for group in _group(found):
            box = _hull([box for _, box in group])
            score = len({number for number, _ in group}) / len(self.views) if self.by_agreement else box.score
            if score >= self.keep:
                result.append(replace(box, score=score, sure=score >= self.sure))
        return _sorted(result)


@cache  # one for each process
def open_detector(spec: str, *, again: bool = False) -> Detector:
    """A detector by its name or file; ``again``: with other views and settings, to look at what is left."""
    if spec != CASCADE:
        name = f"yunet ({Path(spec).name})"
        return yunet(spec, _OTHER_YUNET_VIEWS, name=f"{name}, other views") if again else yunet(spec, name=name)
    if again:
        return cascade(OTHER_VIEWS, name="cascade, other views", growth=1.1, step=1.2, neighbours=3, sure=0.5)
    return cascade()


def cascade(
    views: Sequence[View] = VIEWS, *, name: str = CASCADE, growth: float = 1.15, step: float = 1.1,
    neighbours: int = 4, keep: float = 0.25, sure: float = 0.6,
) -> Detector:  # fmt: skip
    """The frontal-face cascade that comes with scikit-image; it needs no download.

    Views, name, ``keep`` and ``sure`` are as in :class:`Detector`; the others as for
    :func:`p3m_edge.data.lbp.windows`. A :class:`MissingError` says that scikit-image or Numba is not installed.
    """
    try:
        from skimage.data import lbp_frontal_face_cascade_filename
    except ImportError as error:
        raise missing_package("scikit-image", "data", error) from error
    try:
        from p3m_edge.data import lbp
    except ImportError as error:
        raise missing_package("numba", "data", error) from error
    trained = lbp.load(cast("Callable[[], str]", lbp_frontal_face_cascade_filename)())
    find = faces_of(lambda grey: lbp.windows(grey, trained, growth, step, neighbours))
    return Detector(name, find, tuple(views), keep, sure, by_agreement=True)


def faces_of(windows: Callable[[Image], NDArray[np.int64]]) -> Find:
    """The faces in the cascade's windows (rows of row, column and side), which reach from the forehead to the mouth.

    Measured on four faces with boxes placed by hand: the chin is 1.21 sides below the window's top, the cheeks are
    0.07 sides inside it.
    """

    def find(grey: Image) -> list[tuple[float, float, float, float, float]]:
        found = windows(grey).tolist() if min(grey.shape) >= _WINDOW else []
        return [(x + 0.05 * side, y + 0.03 * side, 0.9 * side, 1.18 * side, 1.0) for y, x, side in found]

    return find


def yunet(path: str | Path, views: Sequence[View] = _YUNET_VIEWS, *, name: str = "yunet") -> Detector:
    """YuNet (Wu et al. 2023, "YuNet: a tiny millisecond-level face detector") from an ONNX file, by OpenCV.

    It finds profiles and covered faces too. It also takes many a blurred face for one, as it goes by the outline of
    the head: see :func:`p3m_edge.data.anonymize.hide.remaining`. An :class:`InputError` says that the file is missing,
    unreadable, damaged, or not YuNet.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist or is no file", hint="give a YuNet model as an ONNX file")
    try:
        network = _load_yunet(path)

        def find(rgb: Image) -> list[tuple[float, float, float, float, float]]:
            network.setInputSize((rgb.shape[1], rgb.shape[0]))
            _, rows = network.detect(np.ascontiguousarray(rgb[..., ::-1]))
            return [] if rows is None else [(*row[:4], row[14]) for row in rows.tolist()]

        detector = Detector(name, find, tuple(views), 0.0, _YUNET_SURE)
        detector.detect(np.zeros((64, 64, 3), np.uint8))
    except (cv2.error, SystemError) as error:
        raise InputError(
            f"{path} is damaged, or not a YuNet face detector", hint="give a YuNet model of any input size as ONNX"
        ) from error
    return detector


def _load_yunet(path: Path) -> cv2.FaceDetectorYN:
    from cv2.utils import logging

    level = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_ERROR)  # OpenCV 5 warns that its new engine has no choice of devices
    try:
        return cv2.FaceDetectorYN.create(str(path), "", (64, 64), _YUNET_KEEP)
    finally:
        logging.setLogLevel(level)


def merge(boxes: Sequence[Box]) -> tuple[Box, ...]:
    """Boxes of several detectors as one list: those that mean one face become one, with the higher score."""
    groups = _group([(0, box) for box in boxes])
    return _sorted([_hull([box for _, box in group]) for group in groups])


def _view(picture: Image, view: View) -> tuple[Image, NDArray[np.float64]]:
    """The picture as a view shows it, and the affine map ``[2, 3]`` from there back to the picture."""
    height, width = picture.shape[:2]
    scale = min(view.side / max(height, width), _MAX_ENLARGED)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    seen = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    forth = cv2.getRotationMatrix2D((size[0] / 2, size[1] / 2), view.angle, 1.0)
    if view.angle:
        seen = cv2.warpAffine(seen, forth, size, borderMode=cv2.BORDER_REPLICATE)
    if view.mirrored:
        seen = cv2.flip(seen, 1)
        forth[0] = -forth[0]
        forth[0, 2] += size[0]
    forth = forth @ np.diag([size[0] / width, size[1] / height, 1.0])
    return np.ascontiguousarray(seen, np.uint8), np.asarray(cv2.invertAffineTransform(forth), np.float64)


def _map(box: Box, back: NDArray[np.float64]) -> Box:
    """The box in the picture: its centre moves, its size is scaled, and it stays upright."""
    x, y = back @ np.array([*box.centre, 1.0])
    scale = float(np.sqrt(abs(np.linalg.det(back[:, :2]))))
    width, height = box.width * scale, box.height * scale
    return replace(box, x=float(x) - width / 2, y=float(y) - height / 2, width=width, height=height)


def _group(found: Sequence[tuple[int, Box]]) -> list[list[tuple[int, Box]]]:
    """Boxes that mean one face: centres within 0.4 of the larger one's width, widths within a factor of 2."""
    groups: list[list[tuple[int, Box]]] = []
    means: list[Box] = []
    for number, box in found:
        near = next((i for i, mean in enumerate(means) if _same(mean, box)), None)
        if near is None:
            groups.append([(number, box)])
            means.append(box)
        else:
            groups[near].append((number, box))
            members = [(b.x, b.y, b.width, b.height) for _, b in groups[near]]
            x, y, width, height = np.mean(members, axis=0).tolist()
            means[near] = replace(means[near], x=x, y=y, width=width, height=height)
    return groups


def _same(a: Box, b: Box) -> bool:
    small, large = sorted((a.width, b.width))
    apart = float(np.hypot(a.centre[0] - b.centre[0], a.centre[1] - b.centre[1]))
    return apart < 0.4 * large and large < 2 * small


def _hull(boxes: Sequence[Box]) -> Box:
    """The box around what views, which may disagree, took for a face, without a fifth of the outliers on each side."""
    sides = np.array([(b.x, b.y, b.x + b.width, b.y + b.height) for b in boxes])
    (x, y), (right, bottom) = np.quantile(sides[:, :2], 0.2, axis=0), np.quantile(sides[:, 2:], 0.8, axis=0)
    return Box(
        float(x), float(y), float(right - x), float(bottom - y),
        score=max(b.score for b in boxes),
        detector=" + ".join(dict.fromkeys(b.detector for b in boxes)),
        sure=any(b.sure for b in boxes),
    )  # fmt: skip


def _sorted(boxes: Sequence[Box]) -> tuple[Box, ...]:
    return tuple(sorted(boxes, key=lambda b: (-b.score, b.x, b.y)))
