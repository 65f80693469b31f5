"""What the network looks at when a stream follows a person."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from p3m_edge.errors import UsageError
from p3m_edge.preprocess import Resize, fit, to_network
from p3m_edge.runtimes import Matting
from p3m_edge.video import MattingStream
from p3m_edge.video.follow import Follower, View
from tests.artefacts import make_artefact, picture

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

HEIGHT, WIDTH = 360, 640
WHOLE = slice(0, HEIGHT), slice(0, WIDTH)


def person(left: int, top: int, width: int = 60, height: int = 100) -> NDArray[np.uint8]:
    """A frame with a white person."""
    frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    frame[max(0, top) : top + height, max(0, left) : left + width] = 255
    return frame


def look(follower: Follower, frame: NDArray[np.uint8], time: float, resize: Resize = "stretch") -> View:
    """What is seen of the frame, by a network that takes white for people."""
    view = follower.view(frame.shape, time)
    image, geometry = to_network(frame[view], 128, 128, resize)
    alpha: NDArray[np.float32] = np.float32(1 / 255) * image[..., 0]
    follower.found(alpha, geometry, view)
    return view


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
def test_it_looks_around_a_person_who_is_small(resize: Resize) -> None:
    follower = Follower()
    assert look(follower, person(300, 100), 0.0, resize) == WHOLE
    rows, columns = look(follower, person(300, 100), 0.1, resize)
    assert rows.start < 80 < 220 < rows.stop
    assert columns.start < 280 < 380 < columns.stop
    size = rows.stop - rows.start, columns.stop - columns.start
    assert size[0] < 0.7 * HEIGHT
    assert size[0] / size[1] == pytest.approx(HEIGHT / WIDTH, rel=0.02)
    assert fit(*size, 128, 128).frame_width == size[1]


def test_a_view_stands_still_until_the_person_comes_near_its_edge() -> None:
    follower = Follower()
    look(follower, person(300, 100), 0.0)
    first = look(follower, person(300, 100), 0.1)
    assert look(follower, person(306, 103), 0.2) == first
    views = [look(follower, person(300 + 8 * step, 100), 0.2 + step / 30) for step in range(30)]
    assert 2 <= len({(rows.start, columns.start) for rows, columns in views}) <= 8
    for step, (_, columns) in enumerate(views):
        assert columns.start <= 300 + 8 * step
        assert columns.stop >= 360 + 8 * step


def test_at_the_edge_of_the_frame_there_is_no_room_to_keep() -> None:
    follower = Follower()
    look(follower, person(0, 260), 0.0)
    view = look(follower, person(0, 260), 0.1)
    assert (view[0].stop, view[1].start) == (HEIGHT, 0)
    assert look(follower, person(0, 260), 0.2) == view


@pytest.mark.parametrize("what", ["lost", "large", "later", "back", "size"])
def test_it_comes_back_to_the_whole_frame(what: str) -> None:
    follower, frame, time = Follower(), person(300, 100), 0.1
    look(follower, frame, 0.0)
    if what == "lost":
        look(follower, np.zeros_like(frame), time)
    elif what == "large":
        for _ in range(6):  # nearer than the view shows
            look(follower, person(100, 0, 400, 360), time)
    elif what == "size":
        frame = frame[:300]
    seen = follower.view(frame.shape, {"later": 2.5, "back": -1.0}.get(what, 0.2))
    assert seen == (slice(0, frame.shape[0]), slice(0, WIDTH))


def test_a_stream_has_mattes_of_whole_frames(tmp_path: Path) -> None:
    frames = [picture(70, 110, seed) for seed in range(4)]
    with Matting(make_artefact(tmp_path / "artefact", size=(64, 96)), threads=1) as matting:
        one, other = (list(MattingStream(frames, matting, follow=True)) for _ in range(2))
        for result, again in zip(one, other, strict=True):
            assert result.alpha.shape == (70, 110)
            np.testing.assert_array_equal(result.alpha, again.alpha)
        with pytest.raises(UsageError):
            MattingStream(frames, matting, follow=1)  # type: ignore[arg-type]  # no truth value
        matting.select = (3, 3)
        with pytest.raises(UsageError, match="places in the frame"):
            MattingStream(frames, matting, follow=True)
