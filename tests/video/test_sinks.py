"""Where results go besides video files."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from p3m_edge.errors import MissingError, OutputError, UsageError
from p3m_edge.imageio import read_image
from p3m_edge.video import ArraySource, Frame, ImageSource, SequenceSink, VirtualCameraSink, WindowSink
from tests.artefacts import picture


def frame(number: int) -> Frame:
    return Frame(picture(8, 12, number), number, number / 30, 0.0)


def test_a_sequence_is_read_back_as_a_source(tmp_path: Path) -> None:
    with SequenceSink(tmp_path / "new" / "frames") as sink:
        for number in range(3):
            sink.write(frame(number), frame(number).image)
    paths = sorted((tmp_path / "new" / "frames").iterdir())
    assert [path.name for path in paths] == [f"frame-00000{number}.png" for number in range(3)]
    found = list(ImageSource(paths, rate=10))
    assert [each.time for each in found] == [0, 0.1, 0.2]
    for number, each in enumerate(found):
        np.testing.assert_array_equal(each.image, frame(number).image)


@pytest.mark.parametrize(("shape", "dtype"), [((8, 12), np.uint8), ((8, 12, 4), np.uint16)])
def test_a_sequence_of_alphas(tmp_path: Path, shape: tuple[int, ...], dtype: type[np.uint8]) -> None:
    values = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    with SequenceSink(tmp_path) as sink:
        sink.write(frame(0), values)
    found = read_image(tmp_path / "frame-000000.png")
    if len(shape) == 2:
        np.testing.assert_array_equal(found.own[..., 0], values)
    else:
        np.testing.assert_array_equal(found.alpha, values[..., 3])


def test_folders_that_a_sequence_cannot_have(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be made a folder"):
        SequenceSink(tmp_path / "file")
    with SequenceSink(tmp_path / "a") as sink:
        sink.write(frame(0), frame(0).image)
    with pytest.raises(OutputError, match="pictures of another video"):
        SequenceSink(tmp_path / "a")
    with pytest.raises(UsageError, match="is a path"):
        SequenceSink("")


def test_sources_that_are_none() -> None:
    with pytest.raises(UsageError, match="row of arrays"):
        ArraySource(3)  # type: ignore[arg-type]  # that is what is tested
    for rate in (0, -1, float("nan"), "30", True):
        with pytest.raises(UsageError, match="frames a second"):
            ArraySource([], rate)  # type: ignore[arg-type]  # that is what is tested


def test_a_window_needs_a_display() -> None:
    code = (
        "from p3m_edge.video import WindowSink; from p3m_edge.errors import MissingError\n"
        "try: WindowSink()\nexcept MissingError as error: print(error)"
    )
    paths = {"PYTHONPATH": os.pathsep.join(sys.path)}
    surroundings = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=surroundings | paths, check=True, capture_output=True, text=True
    )
    if sys.platform == "linux":
        assert "no window can be opened here" in done.stdout


@pytest.mark.skipif(importlib.util.find_spec("pyvirtualcam") is not None, reason="pyvirtualcam is here")
def test_a_virtual_camera_without_its_package() -> None:
    with pytest.raises(MissingError, match="pyvirtualcam") as raised:
        VirtualCameraSink()
    assert "GPL" in str(raised.value.hint)
    with pytest.raises(UsageError, match="frames a second"):
        VirtualCameraSink(0)


def test_windows_are_where_opencv_has_them() -> None:
    import cv2

    if cv2.currentUIFramework():
        pytest.skip("this OpenCV has windows")
    with pytest.raises(MissingError, match="this OpenCV has none"):
        WindowSink()
