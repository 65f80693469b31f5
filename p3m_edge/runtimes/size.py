"""The size at which the network sees a frame."""

from __future__ import annotations

import math

from p3m_edge.errors import P3MEdgeError, UsageError
from p3m_edge.manifest import Manifest
from p3m_edge.records import InputRecord, ProfileRecord

# An artefact of dynamic size computes at most that many pixels, unless told otherwise: those of the default size.
_DYNAMIC_AREA = 512 * 512


def at_size(manifest: Manifest, size: tuple[int, int] | None) -> Manifest:
    """The artefact as it is for a size: one that takes several has a function for each. None: the default one.

    Raises
    ------
    UsageError
        It has none for that size.
    """
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
    """Whether a TensorRT engine is made for that (width, height).

    Raises
    ------
    P3MEdgeError
        Of the ``kind``: it is not; the side and its range are named.
    """
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

    Parameters
    ----------
    record, profile
        The artefact's input, and the sizes that its engine is made for, if it is made for some.
    size
        What the user asks for, (width, height); None: nothing.

    Raises
    ------
    UsageError
        The artefact cannot take that size.
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

    The frame's aspect, at most 512 x 512 pixels and no more than the frame has, sides rounded to multiples of ``step``;
    then each side as near to that as the engine's ``profile`` allows.
    """
    scale = min(1.0, math.sqrt(_DYNAMIC_AREA / (height * width)))
    # The short side is at least one step; so the long one must have an end, or the area would have none.
    longest = _DYNAMIC_AREA // step
    sides = (
        min(longest, max(step, round(width * scale / step) * step)),
        min(longest, max(step, round(height * scale / step) * step)),
    )
    if profile is None:
        return sides
    fitted = [
        min(high, max(low, side)) for side, low, high in zip(sides, profile.minimum, profile.maximum, strict=True)
    ]
    return fitted[0], fitted[1]
