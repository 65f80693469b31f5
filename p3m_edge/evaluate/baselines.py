"""What others are compared with: pymatting's trimap-based methods, a face box grown into a trimap, and all background.

Shape legend: H and W, the picture's size; h and w, the size it is worked on at.
"""

from __future__ import annotations

import importlib.metadata
import io
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace

import cv2
import numpy as np

from p3m_edge.arrays import Array
from p3m_edge.data import detect
from p3m_edge.data.detect import Box
from p3m_edge.errors import InputError, missing_package
from p3m_edge.evaluate.method import Image, Method, MethodInfo, alpha_at_size
from p3m_edge.metrics import BACKGROUND, FOREGROUND, UNKNOWN

BASELINES = ("background", "facebox")
"""The names on the command line."""

PYMATTING = {
    "cf": ("estimate_alpha_cf", "closed-form matting (Levin et al. 2008)"),
    "knn": ("estimate_alpha_knn", "KNN matting (Chen et al. 2013)"),
    "lbdm": ("estimate_alpha_lbdm", "learning-based digital matting (Zheng and Kambhamettu 2009)"),
    "rw": ("estimate_alpha_rw", "random-walk matting (Grady et al. 2005)"),
}
"""Name on the command line -> function of pymatting, and what it is."""

LONGER_SIDE = 512
"""Larger pictures are shrunk to this and the alpha enlarged: closed-form matting has one equation for each pixel."""

# Of a person who stands or sits upright, in widths and heights of the face from hairline to chin.
_FACE, _FACE_DOWN = 0.4, 0.45  # half axes of what is surely face
_NECK, _CHEST, _CHEST_FROM, _CHEST_TO = 0.2, 0.6, 0.6, 2.2  # half widths; below the chin
_HEAD, _ABOVE = 1.2, 0.9  # half width of what may be hair, and how far it may rise above the hairline
_MARGIN = 0.02  # of the picture's width
_BODY, _BODY_TO = 2.2, 8.5  # half width and length, below the chin, of what may be body, arms and clothes


def pymatting_method(name: str) -> Method:
    """One of :data:`PYMATTING`, with pymatting's own settings, at the picture's size.

    :class:`MissingError` if pymatting is not installed.
    """
    try:
        import pymatting
    except ImportError as error:
        raise missing_package("pymatting", "data", error) from error
    function, what = PYMATTING[name]
    solve: Callable[[Array, Array], Array] = getattr(pymatting, function)

    def predict(rgb: Image, trimap: Image) -> Array:
        known = (trimap == BACKGROUND) | (trimap == FOREGROUND)
        if known.all():  # some of the solvers never end there
            return np.asarray(trimap == FOREGROUND, dtype=np.float32)
        levels = np.where(known, trimap / 255.0, 0.5)
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # these and what it prints concern the solver's speed
            try:
                alpha = solve(rgb / 255.0, levels)
            except ValueError as error:  # nothing certain in the trimap; no convergence
                raise InputError(f"pymatting: {error}") from error
        return alpha_at_size(alpha, *trimap.shape)

    identity = f"pymatting {importlib.metadata.version('pymatting')} {function}"
    info = MethodInfo(name, "pymatting", trimap_based=True, identity=identity)
    return Method(info, lambda _set: (f"{what}, full size", predict))


def background_method() -> Method:
    """Nothing is foreground."""
    info = MethodInfo("background", "baseline", trimap_based=False, identity="1")
    return Method(info, lambda _set: ("alpha 0 everywhere", lambda rgb, _trimap: np.zeros(rgb.shape[:2], np.float32)))


def face_box_method() -> Method:
    """Closed-form matting with a trimap that is grown from the face which the embedded cascade is surest of.

    A picture in which it is sure of none is all background. :class:`MissingError` without scikit-image or pymatting.
    """
    detector, matting = detect.cascade(), pymatting_method("cf")
    _, matte = matting.prepare("")

    def predict(rgb: Image, _trimap: Image) -> Array:
        face = next((box for box in detector.detect(rgb) if box.sure), None)
        if face is None:
            return np.zeros(rgb.shape[:2], np.float32)
        height, width = rgb.shape[:2]
        scale = min(1.0, LONGER_SIDE / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        shrunk = {name: scale * getattr(face, name) for name in ("x", "y", "width", "height")}
        return alpha_at_size(matte(small, trimap_from_face(replace(face, **shrunk), *size[::-1])), height, width)

    version = importlib.metadata.version("scikit-image")
    identity = f"scikit-image {version}, {matting.info.identity}, {LONGER_SIDE}, 1"
    words = f"a trimap grown from the face box, closed-form matting, longer side at most {LONGER_SIDE}"
    return Method(MethodInfo("facebox", "baseline", False, identity), lambda _set: (words, predict))


def trimap_from_face(face: Box, height: int, width: int) -> Image:
    """The trimap of an upright person with this face; uint8 ``[H, W]``: 0, 128, 255.

    Foreground are the inner face, a strip for the neck and the upper chest; unknown is what may be hair, body, arms or
    clothes; all other pixels are background. Where that leaves none, the margins beside the face are it.
    """
    middle, chin = face.centre[0], face.y + face.height
    y, x = np.mgrid[:height, :width].astype(np.float32) + 0.5
    aside, below = np.abs(x - middle) / face.width, (y - chin) / face.height
    head = (below <= 0) & (below >= -1 - _ABOVE) & (aside <= _HEAD)
    body = (below > 0) & (below <= _BODY_TO) & (aside <= np.minimum(_HEAD + below, _BODY))
    inner = (aside / _FACE) ** 2 + ((y - face.centre[1]) / (_FACE_DOWN * face.height)) ** 2 <= 1
    neck = (below > -0.5) & (below <= _CHEST_TO) & (aside <= _NECK)
    chest = (below >= _CHEST_FROM) & (below <= _CHEST_TO) & (aside <= _CHEST)
    trimap = np.where(head | body, UNKNOWN, BACKGROUND).astype(np.uint8)
    trimap[inner | neck | chest] = FOREGROUND
    if (trimap != BACKGROUND).all():  # the solver wants to be told of both
        margin = max(1, round(_MARGIN * width))
        trimap[: max(1, round(chin)), :margin] = trimap[: max(1, round(chin)), -margin:] = BACKGROUND
    return trimap
