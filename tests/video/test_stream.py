"""The loop: order, bounds, what a camera drops, errors of each part, the end in the middle."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from p3m_edge.errors import InputError, UsageError
from p3m_edge.preprocess import Colour
from p3m_edge.runtimes import Matting
from p3m_edge.video import ArraySource, Frame, Matted, MattingStream
from tests.artefacts import picture

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

COUNT = 12


@pytest.fixture(scope="module")
def frames() -> list[NDArray[np.uint8]]:
    return [picture(70, 110, seed) for seed in range(COUNT)]


class Camera:
    """A source that waits for nobody: it gives its pictures at a rate."""

    live = True
    colour: Colour | None = None

    def __init__(self, images: list[NDArray[np.uint8]], rate: float, *, fails: Exception | None = None) -> None:
        self._images, self._rate, self._fails, self.closed = images, rate, fails, False

    def __iter__(self) -> Iterator[Frame]:
        for index, image in enumerate(self._images):
            if self.closed:
                return
            time.sleep(1 / self._rate)
            yield Frame(image, index, index / self._rate, time.perf_counter())
        if self._fails is not None:
            raise self._fails

    def close(self) -> None:
        self.closed = True


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("matting")}


def test_every_frame_of_a_source_that_waits(matting: Matting, frames: list[NDArray[np.uint8]]) -> None:
    results = list(MattingStream(frames, matting, stabilise=False))
    assert [result.frame.index for result in results] == list(range(COUNT))
    for result, image in zip(results, frames, strict=True):
        shown, alpha = result
        assert shown is image
        np.testing.assert_array_equal(alpha, matting(image))
        assert result.picture is None
        assert min(result.timings) >= 0
        assert result.timings.age >= result.timings.inferred
    assert threads() == set()


def test_the_effect_makes_the_picture(matting: Matting, frames: list[NDArray[np.uint8]]) -> None:
    stream = MattingStream(frames, matting, effect=lambda image, alpha: image[::-1])
    for result, image in zip(stream, frames, strict=True):
        np.testing.assert_array_equal(result.picture, image[::-1])


def test_of_a_camera_the_newest_frame_is_taken(matting: Matting, frames: list[NDArray[np.uint8]]) -> None:
    seen = []
    with MattingStream(Camera(frames * 4, 500), matting) as stream:
        for result in stream:
            time.sleep(0.02)
            seen.append(result.frame.index)
            assert result.dropped == result.frame.index + 1 - len(seen)
        dropped = stream.dropped
    assert seen == sorted(seen)
    assert dropped > 0
    assert len(seen) + dropped == 4 * COUNT


def test_frames_of_a_camera_do_not_wait_in_queues(matting: Matting, frames: list[NDArray[np.uint8]]) -> None:
    """A frame is taken only after the result two before it was asked for: what a slow consumer gets is new."""
    asked, taken = [], []
    with MattingStream(Camera(frames * 20, 200), matting, stabilise=False) as stream:
        results = iter(stream)
        for _ in range(8):
            asked.append(time.perf_counter())
            result = next(results)
            taken.append(result.frame.captured + result.timings.waited / 1e3)
            time.sleep(0.05)
    for later, earlier in zip(taken[2:], asked, strict=False):
        assert later >= earlier - 1e-6


def test_streams_share_a_matting(matting: Matting, frames: list[NDArray[np.uint8]]) -> None:
    parts = (frames, frames[::-1], frames[::2], frames[1::3])
    alone = [np.stack([result.alpha for result in MattingStream(part, matting)]) for part in parts]
    found: dict[int, NDArray[np.generic]] = {}

    def work(number: int, part: list[NDArray[np.uint8]]) -> None:
        found[number] = np.stack([result.alpha for result in MattingStream(part, matting)])

    workers = [threading.Thread(target=work, args=each) for each in enumerate(parts)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for number, wanted in enumerate(alone):
        np.testing.assert_array_equal(found[number], wanted)


def test_pushed_frames_come_back_by_callback(matting: Matting, frames: list[NDArray[np.uint8]]) -> None:
    results: list[Matted] = []
    arrived = threading.Event()

    def hear(result: Matted) -> None:
        results.append(result)
        arrived.set()

    stream = MattingStream(None, matting)
    worker = stream.run(hear)
    for image in frames[:4]:
        arrived.clear()
        stream.push(image)
        assert arrived.wait(60)
    stream.finish()
    worker.join(60)
    assert [result.frame.index for result in results] == [0, 1, 2, 3]
    assert threads() == set()


def test_a_pushed_array_may_be_overwritten(matting: Matting, frames: list[NDArray[np.uint8]]) -> None:
    results: list[Matted] = []
    stream = MattingStream(None, matting, stabilise=False)
    own = frames[0].copy()
    stream.push(own)
    own[:] = 0
    stream.finish()
    stream.run(results.append).join(60)
    np.testing.assert_array_equal(results[0].alpha, matting(frames[0]))


def test_an_error_of_the_callback_comes_out_of_push(matting: Matting, frames: list[NDArray[np.uint8]]) -> None:
    def fail(result: Matted) -> None:
        raise ZeroDivisionError

    stream = MattingStream(None, matting)
    worker = stream.run(fail)
    stream.push(frames[0])
    worker.join(60)
    with pytest.raises(ZeroDivisionError):
        stream.push(frames[1])
    assert threads() == set()


def test_a_stage_of_the_apps_own(matting: Matting, frames: list[NDArray[np.uint8]]) -> None:
    times: list[float] = []

    def nothing(alpha: NDArray[np.float32], image: NDArray[np.uint8], time: float) -> NDArray[np.float32]:
        times.append(time)
        return np.zeros_like(alpha)

    results = list(MattingStream(frames[:3], matting, stabilise=nothing))
    assert [result.alpha.max() for result in results] == [0, 0, 0]
    assert times == [0, 1 / 30, 2 / 30]


def test_a_consumer_that_stops_in_the_middle(matting: Matting, frames: list[NDArray[np.uint8]]) -> None:
    camera = Camera(frames * 100, 200)
    for result in MattingStream(camera, matting):
        if result.frame.index >= 2:
            break
    del result
    deadline = time.monotonic() + 30
    while threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threads() == set()
    assert camera.closed


@pytest.mark.parametrize("live", [True, False])
def test_an_error_of_the_source_comes_after_its_frames(
    matting: Matting, frames: list[NDArray[np.uint8]], live: bool
) -> None:
    camera = Camera(frames[:3], 20, fails=InputError("the cable is out"))
    camera.live = live
    seen: list[int] = []
    with pytest.raises(InputError, match="the cable is out"), MattingStream(camera, matting) as stream:
        seen.extend(result.frame.index for result in stream)
    assert threads() == set()


def test_an_error_of_the_matting(matting: Matting) -> None:
    wrong = [np.zeros((10, 10, 4), np.uint8)]
    with pytest.raises(InputError, match=r"\[H, W, 3\]"):
        list(MattingStream(wrong, matting))
    assert threads() == set()


def test_an_error_of_the_effect(matting: Matting, frames: list[NDArray[np.uint8]]) -> None:
    def fails(image: object, alpha: object) -> NDArray[np.uint8]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(MattingStream(frames, matting, effect=fails))
    assert threads() == set()


def test_frames_may_change_their_size(matting: Matting) -> None:
    sizes = [(40, 50), (40, 50), (90, 60), (33, 101)]
    results = list(MattingStream([picture(*size) for size in sizes], matting))
    assert [result.alpha.shape for result in results] == sizes


def test_sixteen_bits(matting: Matting, frames: list[NDArray[np.uint8]]) -> None:
    deep = [image.astype(np.uint16) * 257 for image in frames[:2]]
    for result, image in zip(MattingStream(deep, matting, stabilise=False), frames, strict=False):
        np.testing.assert_array_equal(result.alpha, matting(image))


def test_misuse(matting: Matting, frames: list[NDArray[np.uint8]]) -> None:
    stream = MattingStream(ArraySource(frames[:1]), matting)
    with pytest.raises(UsageError, match="reads its frames from a source"):
        stream.push(frames[0])
    list(stream)
    with pytest.raises(UsageError, match="iterated once"):
        list(stream)
    assert list(MattingStream([], matting)) == []
    camera = Camera(frames, 100)
    camera.colour = "BGR"
    with pytest.raises(UsageError, match="the source gives BGR, and the matting takes RGB"):
        MattingStream(camera, matting)
    wrong: list[dict[str, Any]] = [
        {"source": 3}, {"matting": None}, {"stabilise": "no"}, {"effect": "blur"}, {"source": None, "stabilise": 1},
    ]  # fmt: skip
    for arguments in wrong:
        given: dict[str, Any] = {"source": frames, "matting": matting} | arguments
        with pytest.raises(UsageError):
            MattingStream(**given)
