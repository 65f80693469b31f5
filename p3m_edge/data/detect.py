"""Finding faces, so that they can be hidden: the cascade that scikit-image ships, or YuNet from a file of the user.

A detector looks at several views of a picture (sizes, mirrored, turned) and maps what it finds back. Every box means
the same, whoever found it: hairline to chin, cheek to cheek.

The cascade (LBP features; Liao et al. 2007, "Learning multi-scale block local binary patterns for face recognition")
knows frontal faces alone: no profiles, few that are turned by more than some 30 degrees, covered or in deep shadow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge.data.sample import Image
from p3m_edge.errors import InputError, missing_package

_WINDOW = 24  # the cascade's smallest window, in pixels
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


class Detector(Protocol):
    """What finds faces. ``name`` says which one it is and how it is set, for the report."""

    @property
    def name(self) -> str: ...

    def detect(self, rgb: Image) -> tuple[Box, ...]:
        """The faces of a picture, uint8 ``[H, W, 3]``, RGB, the most certain first."""
        ...


@dataclass(frozen=True)
class View:
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


def cascade(
    views: Sequence[View] = VIEWS,
    *,
    name: str = "cascade",
    scale_factor: float = 1.15,
    step: float = 1.1,
    neighbours: int = 4,
    keep: float = 0.25,
    sure: float = 0.6,
) -> CascadeDetector:
    """The frontal-face cascade that comes with scikit-image; it needs no download.

    Parameters
    ----------
    views
        How each picture is looked at.
    name
        For reports.
    scale_factor, step, neighbours
        Growth of the window and of its step from size to size, windows that must agree within one view
        (:func:`p3m_edge.data.lbp.windows`).
    keep, sure
        The share of views that must agree for a box to be given, and for it to be sure.

    Raises
    ------
    MissingError
        scikit-image or Numba is not installed.
    """
    try:
        from skimage.data import lbp_frontal_face_cascade_filename
    except ImportError as error:
        raise missing_package("scikit-image", "data", error) from error
    try:
        from p3m_edge.data import lbp
    except ImportError as error:
        raise missing_package("numba", "data", error) from error
    trained = lbp.load(cast("Any", lbp_frontal_face_cascade_filename)())
    find = partial(lbp.windows, trained=trained, growth=scale_factor, step=step, neighbours=neighbours)
    return CascadeDetector(find, name, tuple(views), keep, sure)


def other_cascade() -> Detector:
    """The same cascade looking in other ways than :func:`cascade` does by default, to check what that one left."""
    return cascade(OTHER_VIEWS, name="cascade, other views", scale_factor=1.1, step=1.2, neighbours=3, sure=0.5)


def yunet(
    path: str | Path,
    views: Sequence[View] = (View(320), View(640)),
    *,
    name: str = "yunet",
    keep: float = 0.5,
    sure: float = 0.7,
) -> Detector:
    """YuNet (Wu et al. 2023, "YuNet: a tiny millisecond-level face detector") from an ONNX file, by OpenCV.

    It finds profiles and covered faces too. It also takes many a blurred face for one, as it goes by the outline of
    the head: see :func:`p3m_edge.data.anonymize.remaining`.

    Raises
    ------
    InputError
        The file is missing, unreadable, damaged, or not YuNet.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist or is no file", hint="give a YuNet model as an ONNX file")
    try:
        network = _load_yunet(path, keep)
        detector = _YuNet(network, name, tuple(views), sure)
        detector.detect(np.zeros((64, 64, 3), np.uint8))
    except (cv2.error, SystemError) as error:
        raise InputError(
            f"{path} is damaged, or not a YuNet face detector", hint="give a YuNet model of any input size as ONNX"
        ) from error
    return detector


def _load_yunet(path: Path, keep: float) -> Any:
    from cv2.utils import logging

    level = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_ERROR)  # OpenCV 5 warns that its new engine has no choice of devices
    try:
        return cv2.FaceDetectorYN.create(str(path), "", (64, 64), keep)
    finally:
        logging.setLogLevel(level)


def merge(boxes: Sequence[Box]) -> tuple[Box, ...]:
    """Boxes of several detectors as one list: those that mean one face become one, with the higher score."""
    groups = _group([(0, box) for box in boxes])
    return _sorted([_hull([box for _, box in group]) for group in groups])


@dataclass(frozen=True, eq=False)
class CascadeDetector:
    """See :func:`cascade`.

    Attributes
    ----------
    find
        Gives the windows of a grey picture ``[H, W]`` that show a face: rows of row, column and side.
    name, views, keep, sure
        As there.
    """

    find: Callable[[Image], NDArray[np.int64]]
    name: str
    views: tuple[View, ...]
    keep: float
    sure: float

    def detect(self, rgb: Image) -> tuple[Box, ...]:
        """See :class:`Detector`."""
        grey = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
        found = [(i, box) for i, view in enumerate(self.views) for box in self._look(grey, view)]
        result = []
        for group in _group(found):
            score = len({i for i, _ in group}) / len(self.views)
            if score >= self.keep:
                box = _hull([box for _, box in group])
                result.append(replace(box, score=score, sure=score >= self.sure))
        return _sorted(result)

    def _look(self, grey: Image, view: View) -> list[Box]:
        seen, back = _view(grey, view)
        if min(seen.shape[:2]) < _WINDOW:
            return []
        return [
            _map(_from_window(column, row, side, self.name), back) for row, column, side in self.find(seen).tolist()
        ]


@dataclass(frozen=True, eq=False)
class _YuNet:
    network: Any
    name: str
    views: tuple[View, ...]
    sure: float

    def detect(self, rgb: Image) -> tuple[Box, ...]:
        found = [(i, box) for i, view in enumerate(self.views) for box in self._look(rgb, view)]
        result = [_hull([box for _, box in group]) for group in _group(found)]
        return _sorted([replace(box, sure=box.score >= self.sure) for box in result])

    def _look(self, rgb: Image, view: View) -> list[Box]:
        seen, back = _view(rgb, view)
        self.network.setInputSize((seen.shape[1], seen.shape[0]))
        _, rows = self.network.detect(np.ascontiguousarray(seen[..., ::-1]))
        if rows is None:
            return []
        return [
            _map(Box(x, y, w, h, score, self.name), back) for x, y, w, h, score in rows[:, [0, 1, 2, 3, 14]].tolist()
        ]


def _from_window(left: float, top: float, side: float, name: str) -> Box:
    """The face in a window of the cascade, which reaches from the forehead to the mouth.

    Measured on four faces with boxes placed by hand: the chin is 1.21 sides below the window's top, the cheeks are
    0.07 sides inside it.
    """
    return Box(left + 0.05 * side, top + 0.03 * side, 0.9 * side, 1.18 * side, 1.0, name)


def _view(picture: Image, view: View) -> tuple[Image, NDArray[np.float64]]:
    """The picture as a view shows it, and the affine map ``[2, 3]`` from there back to the picture."""
    height, width = picture.shape[:2]
    scale = min(view.side / max(height, width), _MAX_ENLARGED)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    seen = np.asarray(cv2.resize(picture, size, interpolation=method))
    forth = cv2.getRotationMatrix2D((size[0] / 2, size[1] / 2), view.angle, 1.0)
    if view.angle:
        seen = np.asarray(cv2.warpAffine(seen, forth, size, borderMode=cv2.BORDER_REPLICATE))
    if view.mirrored:
        seen = np.ascontiguousarray(seen[:, ::-1])
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
            means[near] = _mean([member for _, member in groups[near]])
    return groups


def _same(a: Box, b: Box) -> bool:
    small, large = sorted((a.width, b.width))
    apart = float(np.hypot(a.centre[0] - b.centre[0], a.centre[1] - b.centre[1]))
    return apart < 0.4 * large and large < 2 * small


def _mean(boxes: Sequence[Box]) -> Box:
    x, y, width, height = np.mean([(b.x, b.y, b.width, b.height) for b in boxes], axis=0).tolist()
    return replace(boxes[0], x=x, y=y, width=width, height=height)


def _hull(boxes: Sequence[Box]) -> Box:
    """The box around what views, which may disagree, took for a face, without a fifth of the outliers on each side."""
    x, y = (float(np.quantile(values, 0.2)) for values in ([b.x for b in boxes], [b.y for b in boxes]))
    right = float(np.quantile([b.x + b.width for b in boxes], 0.8))
    bottom = float(np.quantile([b.y + b.height for b in boxes], 0.8))
    return Box(
        x, y, right - x, bottom - y,
        score=max(b.score for b in boxes),
        detector=" + ".join(dict.fromkeys(b.detector for b in boxes)),
        sure=any(b.sure for b in boxes),
    )  # fmt: skip


def _sorted(boxes: Sequence[Box]) -> tuple[Box, ...]:
    return tuple(sorted(boxes, key=lambda b: (-b.score, b.x, b.y)))
