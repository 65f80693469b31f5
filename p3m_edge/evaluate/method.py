"""What every method of matting is to the evaluation: something that knows what it is and mattes a picture.

Shape legend: H and W, the picture's size.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from p3m_edge.arrays import Array
from p3m_edge.errors import InputError
from p3m_edge.preprocess import scale_to
from p3m_edge.smallfile import open_regular

Image = NDArray[np.uint8]
Predict = Callable[[Image, Image], Array]
"""``predict(rgb, trimap) -> alpha``: uint8 ``[H, W, 3]`` and ``[H, W]`` (0, 128, 255) -> float ``[H, W]``, 0..1.

It raises :class:`InputError` for a picture that the method cannot matte; the others go on.
"""


@dataclass(frozen=True)
class MethodInfo:
    """What is being evaluated; figures of stand-in weights, which are not ``trained``, mean nothing.

    Attributes
    ----------
    trimap_based
        Whether it is given the trimap; then it is measured in the unknown region alone.
    identity
        Tells two versions of it apart: a hash of its files, or a package's version.
    """

    name: str
    kind: Literal["checkpoint", "artefact", "onnx", "pymatting", "baseline"]
    trimap_based: bool
    identity: str
    trained: bool = True


@dataclass
class Method:
    """A method, loaded and ready.

    Attributes
    ----------
    prepare
        From a set's name to how it treats the pictures of that set, in words for the protocol, and the function that
        does it: the published evaluation treats one set in its own way.
    close
        Frees what it holds.
    """

    info: MethodInfo
    prepare: Callable[[str], tuple[str, Predict]]
    close: Callable[[], None] = lambda: None


def alpha_at_size(alpha: Array, height: int, width: int) -> NDArray[np.float32]:
    """A foreign method's alpha, in 0..1 and at the picture's size; :class:`InputError` if it is no finite plane."""
    plane = alpha[..., 0] if alpha.ndim == 4 and alpha.shape[3] == 1 < alpha.shape[1] else alpha  # channels last
    if plane.ndim < 2 or plane.size == 0 or plane.size != plane.shape[-2] * plane.shape[-1]:
        raise InputError(f"the method's alpha is {list(alpha.shape)}, not one plane")
    values = plane.reshape(plane.shape[-2:]).astype(np.float32)
    if not np.isfinite(values).all():
        raise InputError("the method's alpha holds NaN or infinity")
    return np.asarray(scale_to(np.clip(values, 0, 1), height, width), dtype=np.float32)


def kind_of_path(path: Path) -> Literal["file", "folder"] | None:
    """None where nothing is, or for a name that no file can have, for which ``Path.exists`` raises."""
    try:
        return "folder" if stat.S_ISDIR(path.stat().st_mode) else "file"
    except (OSError, ValueError):
        return None


def file_hash(*paths: Path) -> str:
    """SHA-256 over the files' bytes; :class:`InputError` if one cannot be read."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            with open_regular(path) as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}") from error
    return digest.hexdigest()
