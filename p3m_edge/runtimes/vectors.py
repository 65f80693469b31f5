"""The golden vectors: a few network inputs and the outputs they must give, carried by every artefact.

``golden.npz`` holds for each picture ``i`` the array ``image_<i>`` (uint8 ``[N, H, W, 3]``) and for each output of
the model ``alpha_<i>``, ``local_alpha_<i>``, ``global_logits_<i>`` (float32 ``[N, C, H, W]``): the reference values
of the eager module in float32. Any runtime in any language can test itself with it. An artefact for several sizes holds
pictures of each of them, one size after the other.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from p3m_edge.atomic import reason
from p3m_edge.errors import ArtefactError
from p3m_edge.manifest import GOLDEN, Manifest
from p3m_edge.records import MAX_INPUT_PIXELS
from p3m_edge.smallfile import open_regular

_npy: Any = npy_format  # whose functions have no types
_MAX_VALUES = 3 * MAX_INPUT_PIXELS
_MOST = 64
"""Pictures; an export writes two of each size."""
_Number = TypeVar("_Number", np.uint8, np.float32)


@dataclass(frozen=True)
class GoldenVector:
    """One picture, ``[N, H, W, 3]`` uint8, and its reference outputs, ``[N, C, H, W]`` float32 by name."""

    image: NDArray[np.uint8]
    outputs: dict[str, NDArray[np.float32]]


def read(folder: Path, manifest: Manifest) -> tuple[GoldenVector, ...]:
    """Read and check ``folder/golden.npz``; where an artefact takes several sizes, the pictures of the manifest's.

    Raises
    ------
    ArtefactError
        The file is missing, unreadable, empty, or does not match the manifest.
    """
    path = folder / GOLDEN
    try:
        with open_regular(path) as stream, zipfile.ZipFile(stream) as archive:
            vectors = tuple(_vectors(archive, manifest))
    except Exception as error:  # what a crafted file makes ZIP, its compressions and NumPy raise has no common base
        told = reason(error) if isinstance(error, OSError) else str(error)
        raise ArtefactError(f"{path} cannot be read: {' '.join(told.split()) or type(error).__name__}") from error
    if not manifest.functions:
        return vectors
    size = (manifest.input.height, manifest.input.width)
    fitting = tuple(vector for vector in vectors if vector.image.shape[1:3] == size)
    if not fitting:
        raise ArtefactError(f"{path} holds no picture of {size[1]}x{size[0]}")
    return fitting


def _vectors(archive: zipfile.ZipFile, manifest: Manifest) -> Iterator[GoldenVector]:
    """Every picture with its outputs. What does not say to be of the manifest's input is not unpacked."""
    count = sum(name.startswith("image_") for name in archive.namelist())
    if not 1 <= count <= _MOST:
        raise ValueError(f"it holds {count or 'no'} pictures")
    inputs = [(each.input.batch, each.input.height, each.input.width, 3) for each in manifest.by_size()]
    for index in range(count):
        image = _array(archive, f"image_{index}", np.uint8, inputs, "the manifest's input")
        batch, height, width, _ = image.shape
        outputs: dict[str, NDArray[np.float32]] = {}
        for output in manifest.outputs:
            shape = (batch, output.channels, height, width)
            outputs[output.name] = _array(archive, f"{output.name}_{index}", np.float32, [shape], f"image_{index}")
        yield GoldenVector(image, outputs)


def _array(
    archive: zipfile.ZipFile, name: str, dtype: type[_Number], shapes: Sequence[tuple[int | None, ...]], what: str
) -> NDArray[_Number]:
    """An array of NumPy's format, unpacked if its header says the dtype and one of the shapes (None: any side)."""
    with archive.open(f"{name}.npy") as member:
        version = _npy.read_magic(member)
        read_header = _npy.read_array_header_1_0 if version == (1, 0) else _npy.read_array_header_2_0
        found, fortran, kind = read_header(member)
        if kind != np.dtype(dtype):
            raise ValueError(f"{name} is {kind}, not {np.dtype(dtype)}")
        if not any(_fits(found, shape) for shape in shapes):
            raise ValueError(f"{name} does not fit {what}: it is {list(found)}")
        wanted = math.prod(found) * kind.itemsize
        data = bytearray(member.read(wanted + 1))
    if len(data) != wanted:
        raise ValueError(f"{name} has not the bytes of {list(found)}")
    return np.frombuffer(data, kind).reshape(found, order="F" if fortran else "C")


def _fits(found: tuple[int, ...], shape: tuple[int | None, ...]) -> bool:
    if len(found) != len(shape) or math.prod(found) > _MAX_VALUES or min(found) < 1:
        return False
    return all(want is None or have == want for have, want in zip(found, shape, strict=True))
