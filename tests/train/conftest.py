"""A small set of portrait-like pictures, and a way to train on it."""

import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest

from p3m_edge.train import config as configs
from p3m_edge.train.request import TrainRequest, TrainResult
from p3m_edge.train.run import train

# The smallest input, few steps, one process, all in memory.
TINY = (
    "data.size=32", "data.crops=[48, 64]", "data.workers=0", "run.batch=2", "run.epochs=2", "optim.ema=0",
    "optim.warmup_steps=0", "log.every=1", "run.device=cpu",
)  # fmt: skip


def write_set(root: Path, count: int, *, colours: bool = False) -> Path:
    """An ellipse with a soft edge on a coloured ground, and a face mask in it."""
    rng = np.random.default_rng(0)
    for index in range(count):
        height, width = 72 + 8 * (index % 3), 88
        y, x = np.mgrid[:height, :width]
        radius = np.hypot((y - height / 2) / (height * 0.35), (x - width / 2 - index % 5) / (width * 0.25))
        alpha = np.clip((1.15 - radius) * 4, 0, 1)[..., None]
        person, ground = (np.full((height, width, 3), rng.uniform(*limits, 3)) for limits in ((100, 255), (0, 120)))
        files = {
            "blurred_image": alpha * person + (1 - alpha) * ground,
            "mask": alpha[..., 0] * 255,
            "facemask": (radius < 0.5) * 255.0,
        }
        if colours:
            files |= {"fg": person, "bg": ground}
        for folder, picture in files.items():
            (root / folder).mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(root / folder / f"p{index:02}.png"), picture.astype(np.uint8))
    return root


@pytest.fixture(scope="session")
def portraits(tmp_path_factory) -> Path:
    """Ten pictures; tests must not change them."""
    return write_set(tmp_path_factory.mktemp("portraits"), 10)


@dataclass
class Told:
    """A reporter that remembers."""

    warnings: list[str] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)

    def progress(self, what: str, done: int, total: int) -> None:
        self.steps.append(done)

    def warn(self, message: str) -> None:
        self.warnings.append(message)


@pytest.fixture
def training(portraits, tmp_path) -> Callable[..., TrainResult]:
    """Train the tiny network in this process."""

    def run(
        *overrides: str,
        data: Path | None = portraits,
        out_name: str = "run",
        told: Told | None = None,
        faces: str | None = None,
        teacher: Path | None = None,
        unlabelled: Path | None = None,
    ) -> TrainResult:
        config = configs.load("smoke", overrides=(*TINY, *overrides))
        places = (None if path is None else str(path) for path in (data, unlabelled))
        request = TrainRequest(
            config, next(places), tmp_path / out_name, faces, teacher=teacher, unlabelled=next(places)
        )
        result = train(request, told or Told())
        assert result is not None
        return result

    return run


class Interrupting(Told):
    """A reporter that interrupts at so many steps, as Ctrl-C does.

    But for the system's part: engines that other tests have loaded may have handlers of their own there.
    """

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def progress(self, what: str, done: int, total: int) -> None:
        super().progress(what, done, total)
        if done == self.step and "test" not in what:
            handler = signal.getsignal(signal.SIGINT)
            assert callable(handler)
            handler(signal.SIGINT, None)
