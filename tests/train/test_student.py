"""What a teacher is good for: few portraits with mattes, many without, and a network that has seen more."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from p3m_edge import model
from p3m_edge.data.cache import Cache
from p3m_edge.data.sets import open_set
from p3m_edge.data.synth import portrait
from p3m_edge.train import config as configs
from p3m_edge.train.inputs import Files
from p3m_edge.train.request import TrainRequest
from p3m_edge.train.run import train
from p3m_edge.train.validate import score_held_out
from tests.train.conftest import TINY, Told

SIDE = 96
MANY, FEW, TEST = range(1000, 1096), range(1000, 1008), range(5000, 5024)
SETTINGS = (
    *TINY, "data.crops=[64, 80, 96]", "run.batch=8", "run.epochs=10000", "optim.lr=3e-3", "optim.schedule=cosine",
    "validation.every=10000", "run.checkpoint_every=10000", "distillation.unlabelled=0.8",
)  # fmt: skip
STEPS = {"teacher": 300, "student": 150}


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> Path:
    """Portraits: many and few with mattes, the many without those of the few and without mattes, and others to test."""
    root: Path = tmp_path_factory.mktemp("student")

    def write(path: Path, picture: np.ndarray) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), picture)

    for seed in (*MANY, *TEST):
        drawn = portrait(seed, SIDE, SIDE)
        image, name = cv2.cvtColor(drawn.image, cv2.COLOR_RGB2BGR), f"{seed}.png"
        for folder, seeds in (("many", MANY), ("few", FEW), ("test", TEST)):
            if seed in seeds:
                write(root / folder / "image" / name, image)
                write(root / folder / "alpha" / name, drawn.alpha)
        if seed in MANY and seed not in FEW:
            write(root / "unlabelled" / name, image)
    return root


def fitted(sets: Path, out: Path, kind: str, seed: int, data: str | None, teacher: Path | None = None) -> Path:
    """The weights of a training with the budget of its kind."""
    config = configs.load("smoke", overrides=(*SETTINGS, f"run.seed={seed}", f"run.max_steps={STEPS[kind]}"))
    unlabelled = None if teacher is None else str(sets / "unlabelled")
    given = None if data is None else str(sets / data)
    result = train(TrainRequest(config, given, out, teacher=teacher, unlabelled=unlabelled), Told())
    assert result is not None
    assert result.step == STEPS[kind]
    return result.last


def error(sets: Path, weights: Path) -> float:
    """Mean SAD, in thousands, on portraits that nobody has seen, against their exact mattes."""
    source = Files(open_set(sets / "test").items, Cache(0))
    found = score_held_out(model.load_checkpoint(weights), source, range(len(source)), 32, 0, None)
    assert found.pictures == len(TEST)
    return found.sad / found.pictures


def compared(sets: Path, out: Path, teacher: Path, seed: int) -> dict[str, float]:
    """The student without a teacher, with one, and without any mattes; the same first weights and budget."""
    students = {
        "without": fitted(sets, out / "without", "student", seed, "few"),
        "with": fitted(sets, out / "with", "student", seed, "few", teacher),
        "unlabelled alone": fitted(sets, out / "alone", "student", seed, None, teacher),
    }
    return {name: error(sets, weights) for name, weights in students.items()}


@pytest.mark.full
def test_a_student_with_a_teacher_beats_one_without(sets, tmp_path):
    """Seeds scatter by some hundredths of SAD; what the teacher is worth is several tenths."""
    teacher = fitted(sets, tmp_path / "teacher", "teacher", 0, "many")
    found = compared(sets, tmp_path, teacher, seed=1)
    print(f"SAD: teacher {error(sets, teacher):.3f}, student {found}")
    assert found["with"] < 0.93 * found["without"]
    assert found["unlabelled alone"] < 0.93 * found["without"]
