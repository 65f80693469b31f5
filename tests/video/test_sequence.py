"""A folder of numbered pictures as a video."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from p3m_edge.errors import InputError, UsageError
from p3m_edge.imageio import write_png
from p3m_edge.runtimes import Matting
from p3m_edge.video import FileSource, SequenceSource, matte_video
from tests.artefacts import make_artefact
from tests.video.clips import picture

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

NAMES = ("a1.png", "a2.png", "a10.png", "a11.png")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "frames"
    made.mkdir()
    for number, name in enumerate(NAMES):
        write_png(made / name, picture(number, 48, 32))
    (made / "notes.txt").touch()
    return made


def test_it_becomes_a_video(folder: Path, tmp_path: Path) -> None:
    with Matting(make_artefact(tmp_path / "artefact"), threads=1) as matting:
        for rate, exact in ((25, Fraction(25)), (29.97, Fraction(2997, 100))):
            done = matte_video(folder, {"base": tmp_path / "out.mov"}, matting, codec="qtrle", rate=rate)
            assert (done.frames, done.width, done.height, done.remarks) == (4, 48, 32, ())
            with FileSource(tmp_path / "out.mov") as made:
                frames, base = list(made), made.info.format.time_base
            for number, frame in enumerate(frames):
                np.testing.assert_array_equal(frame.image, picture(number, 48, 32))
                assert frame.stamp is not None
                assert frame.stamp * base == number / exact
        write_png(folder / "a3.png", picture(2, 40, 32))
        with pytest.raises(InputError, match="frame 2 is 40x32, and those before it are 48x32"):
            matte_video(folder, {"base": tmp_path / "out.mp4"}, matting, rate=25)
        (folder / "a3.png").write_bytes(b"no picture")
        with pytest.raises(InputError, match=r"a3\.png"):
            matte_video(folder, {"base": tmp_path / "out.mp4"}, matting, rate=25)
        with pytest.raises(InputError, match="cannot be read as a video"):
            matte_video(folder, {"base": tmp_path / "out.mp4"}, matting)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["artefact", "frames", "out.mov"]


def test_it_goes_on_at_a_frame(folder: Path) -> None:
    source = SequenceSource(folder, rate=0.5)
    source.start = 2
    assert [(frame.index, frame.time) for frame in source] == [(2, 4.0), (3, 6.0)]


def test_what_is_none(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no pictures"):
        SequenceSource(tmp_path / "empty")
    with pytest.raises(InputError, match="cannot be listed"):
        SequenceSource(tmp_path / "none")
    with pytest.raises(UsageError, match="a rate is"):
        SequenceSource(folder, rate=0)
