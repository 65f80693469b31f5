"""The network's size for a frame. A size that the artefact cannot take is a ``UsageError``."""

from __future__ import annotations

import math

from p3m_edge.errors import P3MEdgeError, UsageError
from p3m_edge.manifest import Manifest
from p3m_edge.manifest_schema import InputRecord, ProfileRecord

# An artefact of dynamic size computes at most that many pixels, unless told otherwise: those of the default size.
_DYNAMIC_AREA = 512 * 512


def at_size(manifest: Manifest, size: tuple[int, int] | None) -> Manifest:
    """The artefact as it is for a size: one that takes several has a function for each. None: the default one."""
    if size is None or not manifest.functions:
        return manifest
    known = {(each.input.width, each.input.height): each for each in manifest.by_size()}
    if size not in known:
        names = ", ".join(f"{width}x{height}" for width, height in known)
        raise UsageError(f"the artefact is made for {names}, not {size[0]}x{size[1]}")
    return known[size]


def profile_of(manifest: Manifest) -> ProfileRecord | None:
    """The sizes that a TensorRT engine of dynamic size is made for; None: no such engine, or not built."""
    return None if manifest.engine.build is None else manifest.engine.build.profile


def check_profile(size: tuple[int, int], profile: ProfileRecord, kind: type[P3MEdgeError] = UsageError) -> None:
    """Raise an error of the ``kind`` unless a TensorRT engine is made for that (width, height)."""
    for side, value, low, high in zip(("width", "height"), size, profile.minimum, profile.maximum, strict=True):
        if not low <= value <= high:
            raise kind(
                f"the engine is made for a {side} of {low} to {high}, not {value}",
                hint="p3m-edge build takes other sizes with --min, --opt and --max",
            )


def fixed_size(
    record: InputRecord, size: tuple[int, int] | None, profile: ProfileRecord | None = None
) -> tuple[int, int] | None:
    """The (width, height) for every frame; None: it depends on the frame.

    ``size`` is what the user asks for; ``record`` and ``profile`` are the artefact's input, and the sizes that its
    engine is made for, if it is made for some.
    """
    if size is not None:
        width, height = size
        if width < 1 or height < 1 or width % record.multiple_of or height % record.multiple_of:
            raise UsageError(f"the size must be positive multiples of {record.multiple_of}, not {width}x{height}")
        if (record.width or width, record.height or height) != (width, height):
            raise UsageError(f"the artefact is made for {record.width}x{record.height}, not {width}x{height}")
        if profile is not None:
            check_profile(size, profile)
        return size
    if record.width is None or record.height is None:
        return None
    return record.width, record.height


def fitting_size(width: int, height: int, step: int, profile: ProfileRecord | None = None) -> tuple[int, int]:
    """The (width, height) for one frame of an artefact of dynamic size.

    At most 512 x 512 pixels and no more than the frame has, in its aspect; each side is the nearest multiple of
    ``step``, and within the engine's ``profile``. Where that makes more than 512 x 512 pixels, the longer side gives
    way: the other one is what limits the detail. (Only a profile whose smallest size is larger than that is stronger.)
    """
    scale = min(1.0, math.sqrt(_DYNAMIC_AREA / (height * width)))
    low = (step, step) if profile is None else profile.minimum
    high = (_DYNAMIC_AREA // step,) * 2 if profile is None else profile.maximum

    def fitted(side: float, axis: int) -> int:
        return min(high[axis], max(low[axis], round(side / step) * step))

    sides = [fitted(width * scale, 0), fitted(height * scale, 1)]
    longer = int(height > width)
    for axis in (longer, 1 - longer):
        if sides[0] * sides[1] > _DYNAMIC_AREA:
            sides[axis] = max(low[axis], _DYNAMIC_AREA // sides[1 - axis] // step * step)
    return sides[0], sides[1]
