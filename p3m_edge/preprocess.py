"""A frame becomes the network's input, and the network's alpha becomes the frame's alpha.

This is the only implementation: runtimes, parity, calibration and evaluation all come through here, so what is
measured is what apps run. Mean and standard deviation live in the network itself; its input is uint8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast, get_args, overload

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge import arguments
from p3m_edge.arrays import Array, Shares
from p3m_edge.errors import InputError, UsageError, one_of, shown

Resize = Literal["stretch", "letterbox"]
Colour = Literal["RGB", "BGR"]
Frame = Shares
"""``[H, W, 3]``: uint8, or float in 0..1."""

# The ImageNet mean. The network subtracts it, so the bars hold zeros like the padding of its convolutions.
PADDING_RGB = (124, 116, 104)

# How far one bilinear pass may shrink an axis. Up to 2, no pixel is skipped; 2.5 lets 1280 go to 512 in one pass.
_MAX_SHRINK = 2.5

# A float frame may leave 0..1 by this much: the rounding of somebody's earlier resize.
_FLOAT_SLACK = 1e-3


@dataclass(frozen=True)
class Geometry:
    """Where a frame lies in the network's input. All values are pixels.

    Attributes
    ----------
    frame_height, frame_width
        The frame.
    height, width
        The network's input.
    top, left, content_height, content_width
        The part of the network's input that the frame fills; the rest is padding.
    """

    frame_height: int
    frame_width: int
    height: int
    width: int
    top: int
    left: int
    content_height: int
    content_width: int


def fit(frame_height: int, frame_width: int, height: int, width: int, resize: Resize = "stretch") -> Geometry:
    """Where :func:`to_network` puts a frame of that size.

    ``stretch`` fills the whole input and changes the aspect; ``letterbox`` keeps the aspect and centres the frame.

    Raises
    ------
    UsageError
        The network's size is no positive whole numbers, or ``resize`` is unknown.
    """
    if not all((arguments.whole(side) or 0) > 0 for side in (height, width)):
        raise UsageError(f"the network's size must be positive whole numbers, not {shown(width)} x {shown(height)}")
    one_of("resize", resize, get_args(Resize))
    if resize == "stretch":
        return Geometry(frame_height, frame_width, height, width, 0, 0, height, width)
    scale = min(height / frame_height, width / frame_width)
    content_height = min(height, max(1, round(frame_height * scale)))
    content_width = min(width, max(1, round(frame_width * scale)))
    top, left = (height - content_height) // 2, (width - content_width) // 2
    return Geometry(frame_height, frame_width, height, width, top, left, content_height, content_width)


@np.errstate(all="ignore")  # whatever the app has set: values may underflow, and infinities are refused below
def to_network(
    frame: Frame, height: int, width: int, resize: Resize = "stretch", colour: Colour = "RGB"
) -> tuple[NDArray[np.uint8], Geometry]:
    """Resize a frame to the network's input.

    Parameters
    ----------
    frame
        ``[H, W, 3]``, uint8, or float in 0..1 (rounded to 8 bits first, so a float frame gives the alpha of its
        uint8 twin), of all strides. It is never written to.
    height, width
        The network's input in pixels.
    resize
        ``stretch`` or ``letterbox`` (see :func:`fit`).
    colour
        The order of the frame's channels.

    Returns
    -------
    image
        ``[height, width, 3]``, uint8, RGB, C-contiguous. It is the frame's own memory if the frame has that form
        already.
    geometry
        What :func:`from_network` needs to go back.

    Raises
    ------
    InputError
        The frame is no array, empty, of another rank or dtype, or holds NaN or values outside 0..1.
    UsageError
        The network's size is no positive whole numbers, or ``resize`` or ``colour`` is unknown.
    """
    one_of("colour order", colour, get_args(Colour))
    _check_frame(frame)
    geometry = fit(frame.shape[0], frame.shape[1], height, width, resize)
    frame, order = as_uint8(frame, colour)
    image = scale_to(frame, geometry.content_height, geometry.content_width)
    if order == "BGR":
        image = cast(NDArray[np.uint8], cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
    bottom = height - geometry.top - geometry.content_height
    right = width - geometry.left - geometry.content_width
    if geometry.top or bottom or geometry.left or right:
        padded = cv2.copyMakeBorder(
            image, geometry.top, bottom, geometry.left, right, cv2.BORDER_CONSTANT, value=PADDING_RGB
        )
        image = cast(NDArray[np.uint8], padded)
    return np.ascontiguousarray(image), geometry


@overload
def from_network(alpha: Shares, geometry: Geometry, dtype: type[np.float32] = ...) -> NDArray[np.float32]: ...
@overload
def from_network(alpha: Shares, geometry: Geometry, dtype: type[np.uint8]) -> NDArray[np.uint8]: ...


@np.errstate(all="ignore")
def from_network(
    alpha: Shares, geometry: Geometry, dtype: type[np.float32] | type[np.uint8] = np.float32
) -> NDArray[np.float32] | NDArray[np.uint8]:
    """Bring the network's alpha back to the frame: crop the padding, resize, limit to 0..1.

    Parameters
    ----------
    alpha
        ``[height, width]`` of the geometry, float. Values that leave 0..1 (half precision does that) are clipped.
    geometry
        From :func:`to_network`.
    dtype
        ``np.float32`` (0..1), or ``np.uint8`` (0..255, rounded after the resize).

    Returns
    -------
    alpha
        ``[frame_height, frame_width]``; always memory of its own.

    Raises
    ------
    InputError
        The alpha has another shape or is not float, or holds NaN or infinity.
    UsageError
        Another ``dtype``, or no geometry.
    """
    if dtype is not np.float32 and dtype is not np.uint8:
        raise UsageError(f"an alpha can be np.float32 or np.uint8, not {shown(dtype)}")
    content = content_of(alpha, geometry)  # limited where it is small: linear interpolation stays inside
    scaled = scale_to(content, geometry.frame_height, geometry.frame_width)
    if dtype is np.uint8:
        return cast(NDArray[np.uint8], cv2.convertScaleAbs(scaled, alpha=255))
    return scaled.copy() if np.may_share_memory(scaled, alpha) else scaled


def content_of(alpha: Shares, geometry: Geometry) -> NDArray[np.float32]:
    """The part of the network's alpha that the frame fills, limited to 0..1; errors as :func:`from_network`."""
    arguments.instance("a geometry", geometry, Geometry)
    if not isinstance(alpha, np.ndarray) or not np.issubdtype(alpha.dtype, np.floating):
        raise InputError(f"the network's alpha must be float, not {arguments.described(alpha)}")
    if alpha.shape != (geometry.height, geometry.width):
        raise InputError(f"the network's alpha is {list(alpha.shape)}, not [{geometry.height}, {geometry.width}]")
    rows = slice(geometry.top, geometry.top + geometry.content_height)
    columns = slice(geometry.left, geometry.left + geometry.content_width)
    content = alpha[rows, columns].astype(np.float32, copy=False)
    low, high = float(content.min()), float(content.max())
    if not np.isfinite(low + high):
        raise InputError("the network's alpha holds NaN or infinity")
    return np.clip(content, 0, 1) if low < 0 or high > 1 else content


def scale_to(picture: Array, height: int, width: int) -> Array:
    """Resize a picture by bilinear passes, none of which shrinks an axis by more than 2.5.

    A single bilinear pass over a large frame would skip pixels (aliasing); OpenCV's area filter does not, but takes
    several times as long when the factor is no whole number.

    Parameters
    ----------
    picture
        ``[H, W]`` or ``[H, W, C]``; uint8, uint16 or float32; not empty.
    height, width
        The new size, positive.

    Returns
    -------
    picture
        ``[height, width(, C)]`` of the same dtype; ``picture`` itself if it has that size.
    """
    while picture.shape[:2] != (height, width):
        size = _pass(picture.shape[1], width), _pass(picture.shape[0], height)
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)
    return picture


def _pass(length: int, target: int) -> int:
    return target if length <= _MAX_SHRINK * target else (length + 1) // 2


def _check_frame(frame: Frame) -> None:
    if not isinstance(frame, np.ndarray):
        raise InputError(f"a frame must be a NumPy array, not {type(frame).__name__}")
    if frame.ndim != 3 or frame.shape[2] != 3:
        raise InputError(
            f"a frame must be [H, W, 3], not {list(frame.shape)}",
            hint="one frame at a time, channels last, without an alpha channel",
        )
    if frame.size == 0:
        raise InputError(f"the frame is empty: {list(frame.shape)}")
    if frame.dtype == np.uint8:
        return
    if not np.issubdtype(frame.dtype, np.floating):
        raise InputError(f"a frame must be uint8 or float in 0..1, not {frame.dtype}")
    low, high = float(frame.min()), float(frame.max())
    if not np.isfinite(low + high):
        raise InputError("the frame holds NaN or infinity")
    if low < -_FLOAT_SLACK or high > 1 + _FLOAT_SLACK:
        raise InputError(
            f"a float frame must be in 0..1, but holds {low:.6g} to {high:.6g}",
            hint="divide by 255, or pass the frame as uint8",
        )


def as_uint8(frame: Frame, colour: Colour) -> tuple[NDArray[np.uint8], Colour]:
    """A frame that has been checked, as OpenCV reads it, with the order of its channels."""
    if frame.strides[2] < 0:  # `frame[..., ::-1]`: swapping the small picture is cheaper than copying the large one
        frame, colour = frame[..., ::-1], "BGR" if colour == "RGB" else "RGB"
    picture = _unflipped(frame)
    if picture.dtype == np.uint8:
        return picture, colour
    if picture.dtype not in (np.float32, np.float64):  # native ones; OpenCV reads no other
        picture = picture.astype(np.float32)
    # The absolute value does no harm: the slack below zero is a quarter of a grey level and rounds to 0.
    return cast(NDArray[np.uint8], cv2.convertScaleAbs(picture, alpha=255)), colour


def _unflipped(frame: Frame) -> Array:
    """The same frame without negative strides; OpenCV would copy a mirrored view some fifty times slower."""
    vertical, horizontal = frame.strides[0] < 0, frame.strides[1] < 0
    if not (vertical or horizontal):
        return frame
    forward = frame[:: -1 if vertical else 1, :: -1 if horizontal else 1]
    return cv2.flip(forward, -1 if vertical and horizontal else int(horizontal))
