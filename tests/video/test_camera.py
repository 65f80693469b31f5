"""Cameras: what OpenCV opens; one that stalls, vanishes and comes back; a clip that is played as a camera."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from p3m_edge.errors import InputError, MissingError, UsageError
from p3m_edge.video import ArraySource, CameraSource, PacedSource

PATIENCE = 20.0


def write_stream(path: Path, count: int) -> Path:
    """A file that OpenCV opens as it does a camera's stream; its frames get brighter."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for number in range(count):
        writer.write(np.full((48, 64, 3), (0, 0, 20 + 10 * number), np.uint8))
    writer.release()
    return path


def test_the_latest_picture_is_given(tmp_path: Path) -> None:
    with CameraSource(str(write_stream(tmp_path / "stream.avi", 20)), patience=PATIENCE) as camera:
        frames = iter(camera)
        first = next(frames)
        time.sleep(0.3)
        second = next(frames)
        assert second.index > first.index
        assert second.captured > first.captured
        assert second.time >= first.time >= 0
        assert (second.image[..., 0] > second.image[..., 2]).all()  # RGB: the stream is red


def test_a_camera_that_vanishes_and_comes_back(tmp_path: Path) -> None:
    stream = write_stream(tmp_path / "stream.avi", 5)
    with CameraSource(str(stream), patience=PATIENCE) as camera:
        frames = iter(camera)
        last = next(frames).index
        stream.rename(tmp_path / "away.avi")  # its end is that of the cable
        time.sleep(0.5)
        (tmp_path / "away.avi").rename(stream)
        while last < 12:  # more than it holds
            index = next(frames).index
            assert index > last
            last = index


def test_a_camera_that_does_not_come_back(tmp_path: Path) -> None:
    stream = write_stream(tmp_path / "stream.avi", 3)
    with CameraSource(str(stream), patience=1.0) as camera:
        stream.unlink()
        with pytest.raises(InputError, match="has given no picture for 1 s"):
            for _ in camera:
                pass


@pytest.mark.skipif(sys.platform == "win32", reason="no named pipes")
def test_a_camera_that_stalls(tmp_path: Path) -> None:
    content, pipe = write_stream(tmp_path / "stream.avi", 10).read_bytes(), tmp_path / "pipe.avi"
    os.mkfifo(pipe)
    given_up = threading.Event()

    def feed() -> None:
        with pipe.open("wb") as stream:
            stream.write(content)
            stream.flush()
            given_up.wait(60)

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        with CameraSource(str(pipe), patience=1.0) as camera:
            frames = iter(camera)
            assert next(frames).index >= 0
            with pytest.raises(InputError, match="has given no picture for 1 s"):
                list(frames)
    finally:
        given_up.set()
        feeder.join()


def test_closing_ends_the_iteration(tmp_path: Path) -> None:
    with CameraSource(str(write_stream(tmp_path / "stream.avi", 3))) as camera:
        frames = iter(camera)
        next(frames)
        camera.close()
        assert list(frames) == []


def test_what_is_no_camera(tmp_path: Path) -> None:
    for absent in (99, str(tmp_path / "none"), str(tmp_path)):
        with pytest.raises(MissingError, match="cannot be opened"):
            CameraSource(absent)
    wrong: list[Any] = [-1, "", None, 1.5, True]
    for device in wrong:
        with pytest.raises(UsageError, match="a camera is a number"):
            CameraSource(device)
    for size in ((640,), "640x480"):
        with pytest.raises(UsageError, match="a size is"):
            CameraSource(0, size)  # type: ignore[arg-type]  # that is what is tested
    with pytest.raises(UsageError, match="a rate is"):
        CameraSource(0, rate=0)


def test_a_source_at_its_own_pace() -> None:
    images = [np.zeros((4, 4, 3), np.uint8)] * 5
    start = time.perf_counter()
    frames = list(PacedSource(ArraySource(images, rate=50)))
    for frame in frames:
        assert frame.captured - start >= frame.time
    paced = PacedSource(ArraySource(images, rate=0.001))
    rest = iter(paced)
    next(rest)
    paced.close()
    assert list(rest) == []
