"""Where results go: picture files, a window, a virtual camera. Video files are in :mod:`.write`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Protocol, Self

import cv2
import numpy as np

from p3m_edge import arguments
from p3m_edge.arrays import Pixels
from p3m_edge.errors import InputError, MissingError, OutputError, P3MEdgeError
from p3m_edge.imageio import write_png
from p3m_edge.video.frame import Frame, eight_bits
from p3m_edge.video.source import check_rate

_WINDOWS = "opencv-python has windows, opencv-python-headless has none (only one of them can be installed)"
_GPL = "pip install pyvirtualcam: it is under the GPL, version 2, and therefore no part of p3m-edge"
FRAME_NAME = "frame-{:06d}.png"
"""The name of a picture file, by its number from 0."""


class Sink(Protocol):
    """Takes the pictures of a stream, in their order."""

    def write(self, frame: Frame, picture: Pixels) -> None:
        """Take the picture that was made of a frame."""

    def close(self) -> None:
        """Finish what was begun."""

    def abandon(self) -> None:
        """Leave nothing that is incomplete."""


class Closing:
    """A sink as a context manager: finished at the end of the block, abandoned after an exception."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *raised: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()

    def close(self) -> None:
        """Nothing is left to be done."""

    def abandon(self) -> None:
        """As :meth:`close`."""
        self.close()


class SequenceSink(Closing):
    """PNG files in a folder, ``frame-000000.png`` and so on, each of which is there complete or not at all.

    Raises
    ------
    OutputError
        The folder holds such pictures already, or cannot be made.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder, self._count = arguments.path("a folder", folder), 0
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            taken = next(self._folder.glob("frame-*.png"), None)
        except OSError as error:
            raise OutputError(f"{folder} cannot be made a folder: {error.strerror}") from error
        if taken is not None:
            raise OutputError(f"{folder} holds pictures of another video", hint="choose another folder, or delete them")

    def write(self, frame: Frame, picture: Pixels) -> None:
        """Write a picture, ``[H, W]``, ``[H, W, 3]`` or with alpha ``[H, W, 4]``."""
        write_png(self._folder / FRAME_NAME.format(self._count), picture, result=True)
        self._count += 1


class WindowSink(Closing):
    """A window on the screen.

    Raises
    ------
    MissingError
        OpenCV was built without windows (the headless package), or there is no display.
    WindowClosedError
        On the way: the user has closed it, or pressed Escape or q.
    """

    def __init__(self, title: str = "p3m-edge") -> None:
        self._title = title
        lacking = _lacks_windows()
        if lacking is not None:
            raise MissingError(f"no window can be opened here: {lacking}", hint=_WINDOWS)
        cv2.namedWindow(title, cv2.WINDOW_NORMAL)

    def write(self, frame: Frame, picture: Pixels) -> None:
        """Show a picture, ``[H, W, 3]``."""
        cv2.imshow(self._title, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        pressed = cv2.waitKey(1) & 0xFF
        if pressed in (27, ord("q")) or cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1:
            raise WindowClosedError("the window was closed")

    def close(self) -> None:
        """Close the window."""
        cv2.destroyAllWindows()


class WindowClosedError(P3MEdgeError):
    """The user has closed the window: the stream is to end."""


class _VirtualCamera(Protocol):
    def send(self, frame: Pixels) -> None: ...
    def close(self) -> None: ...


class VirtualCameraSink(Closing):
    """A camera that other programs see, by pyvirtualcam, which the user installs: it is under the GPL.

    Raises
    ------
    MissingError
        pyvirtualcam is absent; on the way: the driver that it needs (OBS, v4l2loopback) is.
    InputError
        On the way: a picture has another size than the first one.
    """

    def __init__(self, rate: float = 30.0) -> None:
        self._rate = check_rate(rate)
        try:
            import pyvirtualcam
        except ImportError as error:
            raise MissingError("a virtual camera needs pyvirtualcam, which is not installed", hint=_GPL) from error
        self._module: ModuleType = pyvirtualcam
        self._camera: _VirtualCamera | None = None
        self._size = 0, 0

    def write(self, frame: Frame, picture: Pixels) -> None:
        """Send a picture, ``[H, W, 3]``; all of one size."""
        size = picture.shape[1], picture.shape[0]
        if self._camera is None:
            try:
                camera: _VirtualCamera = self._module.Camera(*size, self._rate, fmt=self._module.PixelFormat.RGB)
            except RuntimeError as error:
                text = f"no virtual camera: {' '.join(str(error).split())}"
                raise MissingError(text, hint="OBS 30 or newer has one; on Linux, load v4l2loopback") from error
            self._camera, self._size = camera, size
        if size != self._size:
            here, there = ("x".join(map(str, each)) for each in (size, self._size))
            raise InputError(f"frame {frame.index} is {here}, and the virtual camera is {there}")
        self._camera.send(np.ascontiguousarray(eight_bits(picture)))

    def close(self) -> None:
        """Give the camera back."""
        if self._camera is not None:
            self._camera.close()


def _lacks_windows() -> str | None:
    """Why there are no windows. To try it would end the process where a display is missing."""
    try:
        if not cv2.currentUIFramework():
            return "this OpenCV has none"
    except (cv2.error, AttributeError):
        return "this OpenCV has none"
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "there is no display"
    return None
