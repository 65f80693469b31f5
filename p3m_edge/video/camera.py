"""Cameras, by OpenCV: a thread takes every picture from the driver, and whoever asks gets the latest."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Self, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge import arguments
from p3m_edge.errors import InputError, MissingError, UsageError, shown
from p3m_edge.preprocess import Colour
from p3m_edge.video.frame import Frame
from p3m_edge.video.source import check_rate

_RELEASE = 1.0  # seconds for the driver to give a camera back
_RETRY = 0.5  # seconds between two attempts to open a camera that has gone


class CameraSource:
    """A camera that the system knows. One that vanishes is opened again when it comes back.

    Parameters
    ----------
    device
        Its number, from 0, or its path or address.
    size
        (width, height) to ask it for; it may give another.
    rate
        Frames a second to ask it for.
    patience
        Seconds without a picture after which it is given up.

    Raises
    ------
    MissingError
        There is no such camera, or another program has it.
    UsageError
        An argument of another type or value.
    InputError
        On the way: it gives no pictures any more.
    """

    live = True
    colour: Colour | None = "RGB"

    def __init__(
        self, device: int | str = 0, size: Sequence[int] | None = None, rate: float | None = None,
        patience: float = 10.0,
    ) -> None:  # fmt: skip
        number = arguments.whole(device)
        if not (isinstance(device, str) and device) and (number is None or number < 0):
            raise UsageError(f"a camera is a number from 0 or a path, not {shown(device)}")
        self._device = device if number is None else number
        self._wanted = {cv2.CAP_PROP_BUFFERSIZE: 1.0}  # else some drivers hand out old frames
        if (sides := arguments.size(size)) is not None:
            self._wanted |= {cv2.CAP_PROP_FRAME_WIDTH: sides[0], cv2.CAP_PROP_FRAME_HEIGHT: sides[1]}
        if rate is not None:
            self._wanted[cv2.CAP_PROP_FPS] = check_rate(rate)
        self._patience = check_rate(patience)
        self._changed, self._closed = threading.Condition(), False
        self._latest: tuple[NDArray[np.uint8], int, float] | None = None
        camera = self._open()
        if camera is None:
            raise MissingError(
                f"the camera {device} cannot be opened", hint="is it plugged in, and used by no other program?"
            )
        self._thread = threading.Thread(target=self._grab, args=(camera,), name="matting-camera", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        start = time.perf_counter()
        while True:
            with self._changed:
                came = self._changed.wait_for(lambda: self._closed or self._latest is not None, self._patience)
                found, self._latest = self._latest, None
            if self._closed:
                return
            if not came or found is None:
                raise InputError(
                    f"the camera {self._device} has given no picture for {self._patience:g} s",
                    hint="is it still plugged in?",
                )
            image, index, captured = found
            rgb = cast(NDArray[np.uint8], cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
            yield Frame(rgb, index, max(0.0, captured - start), captured)

    def close(self) -> None:
        """Give the camera back. A driver that is stuck in the middle of a picture is left to itself after a second."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(_RELEASE)

    def _open(self) -> cv2.VideoCapture | None:
        camera = cv2.VideoCapture(self._device)
        if not camera.isOpened():
            return None
        for what, value in self._wanted.items():
            camera.set(what, value)
        return camera

    def _grab(self, camera: cv2.VideoCapture | None) -> None:
        """In the thread: every picture, until it is closed. A driver may block here for as long as it likes."""
        index = 0
        while not self._closed:
            there, image = (False, None) if camera is None else camera.read()
            if there and image is not None:
                with self._changed:
                    self._latest = cast(NDArray[np.uint8], image), index, time.perf_counter()
                    self._changed.notify_all()
                index += 1
                continue
            if camera is not None:
                camera.release()
            time.sleep(_RETRY)
            camera = None if self._closed else self._open()
        if camera is not None:
            camera.release()
