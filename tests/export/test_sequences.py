"""Parity over time: 300 frames through every engine with the stabiliser's state carried, against PyTorch's mattes."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from p3m_edge import targets
from p3m_edge.export.session import ExportSession
from p3m_edge.runtimes import Matting, golden
from p3m_edge.runtimes.contract import Images
from p3m_edge.video import Frame, MattingStream, Stabiliser
from tests.export.conftest import FLOATS, SIZE, request_for

COUNT, RATE = 300, 30
Floats = NDArray[np.float32]


class Interrupted:
    """A clip that begins again in the middle, and of which every seventh frame, and two seconds, were dropped."""

    live = False

    def __init__(self, picture: NDArray[np.uint8]) -> None:
        self._picture = picture

    def __iter__(self) -> Iterator[Frame]:
        rng = np.random.default_rng(0)
        numbers = itertools.islice((number for number in itertools.count() if number % 7), COUNT)
        for index, number in enumerate(numbers):
            seconds = (number % (COUNT // 2)) / RATE + 2 * (index > COUNT // 4)
            way = 3 * np.sin(number / 10) if number % 90 > 45 else 0  # it rests, and sways
            moved = cv2.warpAffine(self._picture, np.array([[1, 0, way], [0, 1, 0]], np.float32), (SIZE, SIZE))
            noise = rng.normal(0, 2, moved.shape)
            image = np.clip(np.rint(moved + noise), 0, 255).astype(np.uint8)
            yield Frame(image, index, seconds, time.perf_counter())

    def close(self) -> None:
        """Nothing is open."""


class Kept(Stabiliser):
    """The stabiliser, and what came in and out of it."""

    def __init__(self) -> None:
        super().__init__()
        self.images, self.times, self.held = list[Images](), list[float](), list[Floats]()

    def __call__(self, alpha: Floats, image: Images, time: float) -> Floats:
        held = super().__call__(alpha, image, time)
        self.images.append(image)
        self.times.append(time)
        self.held.append(held)
        return held


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> ExportSession:
    return ExportSession(request_for(tmp_path_factory.mktemp("unused"), "onnx-fp32", arch="mobile"))


@pytest.fixture(scope="module")
def picture(session: ExportSession) -> NDArray[np.uint8]:
    image: NDArray[np.uint8] = session.network_images()[0][0]
    return image


@pytest.fixture(scope="module")
def wanted(session: ExportSession, picture: NDArray[np.uint8]) -> list[Floats]:
    """The steadied mattes of the eager module."""
    stabiliser = Stabiliser()
    return [
        stabiliser(session.infer(frame.image[None])["alpha"][0, 0], frame.image, frame.time)
        for frame in Interrupted(picture)
    ]


@pytest.mark.parametrize("target", FLOATS)
def test_mattes_stay_within_the_limits_of_a_picture(
    mobile_artefacts: Path, picture: NDArray[np.uint8], wanted: list[Floats], target: str
) -> None:  # fmt: skip
    kept, limits = Kept(), targets.get(target).limits
    with Matting(mobile_artefacts / target, threads=1, cache=False) as matting:
        for result in MattingStream(Interrupted(picture), matting, stabilise=kept):
            assert result.alpha.shape == (SIZE, SIZE)
    assert len(kept.held) == COUNT
    assert sum(after < before for before, after in itertools.pairwise(kept.times)) >= 2  # it began again
    differences = [
        golden.compare(
            f"frame {index}", {"alpha": want[None, None]}, {"alpha": held[None, None]}, limits.pixel_tolerance
        )
        for index, (want, held) in enumerate(zip(wanted, kept.held, strict=True))
    ]
    assert golden.judge(tuple(differences), limits).failures == ()
    assert min(float(np.abs(after - before).max()) for before, after in itertools.pairwise(wanted)) > 0.01
