"""Does P3M-CP help? The smallest network, trained with and without it on synthetic portraits whose faces are hidden.

The question is the paper's: how much of the gap between blurred and normal test faces (B:B and B:N) remains (IJCV 2023,
the ablation of P3M-CP). The answer here is about a small network, small generated pictures and a short training; the
same command answers it for other sizes.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import cv2
import msgspec

from p3m_edge.atomic import atomic_write
from p3m_edge.data.anonymize import anonymize
from p3m_edge.data.detect import Box
from p3m_edge.data.parallel import parallel_map
from p3m_edge.data.sample import Sample
from p3m_edge.data.sets import open_set
from p3m_edge.data.synth import portrait
from p3m_edge.errors import InputError, OutputError, UsageError
from p3m_edge.evaluate import runner
from p3m_edge.evaluate.methods import Options, open_method
from p3m_edge.evaluate.results import Result
from p3m_edge.evaluate.scoring import Trimaps
from p3m_edge.imageio import write_png
from p3m_edge.train import config as configs
from p3m_edge.train import run as runs
from p3m_edge.train.config import Config
from p3m_edge.train.loop import Reporter
from p3m_edge.train.request import TrainRequest
from p3m_edge.train.state import STATE

Kept = TypeVar("Kept", "Setting", "Score")

VARIANTS: dict[str, tuple[str, ...]] = {"none": (), "ICP": ("icp",), "FCP": ("fcp",), "both": ("icp", "fcp")}
"""What is compared, by the methods of P3M-CP that are on."""

_TRAIN, _BLURRED, _NORMAL = "train", "test-blurred", "test-normal"
_FOLDERS = {
    _TRAIN: ("blurred_image", "facemask", "mask"),
    _BLURRED: ("blurred_image", "facemask", "mask"),
    _NORMAL: ("original_image", "facemask", "mask"),
}
_FIRST_TEST = 1_000_000  # seed of the first test portrait, far from those of the training


@dataclass(frozen=True)
class Setting:
    """How the question is asked; another setting needs another folder.

    Attributes
    ----------
    train, test
        Portraits to train on and to test on; the test portraits look at the camera.
    seeds
        Trainings of each variant: first weights, order, crops and faces differ.
    steps, batch
        Of each training.
    size
        Side of the network's input; the pictures' sides are half as long again.
    faces
        Generated source faces for P3M-CP.
    overrides
        Settings of the training that differ, ``section.key=value``.
    """

    train: int = 240
    test: int = 60
    seeds: int = 3
    steps: int = 300
    batch: int = 8
    size: int = 96
    faces: int = 64
    overrides: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if min(self.train, self.test, self.seeds, self.steps, self.batch, self.faces) < 1:
            raise UsageError("pictures, seeds, steps, batch and faces are 1 or more")
        if self.size < 32 or self.size % 32:
            raise UsageError(f"the size must be a positive multiple of 32, not {self.size}")


@dataclass(frozen=True)
class Score:
    """Of one trained network: mean SAD (thousands) over the test pictures, whole and inside the face."""

    blurred: float
    normal: float
    blurred_face: float
    normal_face: float

    @property
    def gap(self) -> float:
        """What normal faces cost: B:N less B:B."""
        return self.normal - self.blurred

    @property
    def face_gap(self) -> float:
        """The same inside the face."""
        return self.normal_face - self.blurred_face


@dataclass(frozen=True)
class Variant:
    """One row: a variant's scores, one for each seed."""

    name: str
    scores: tuple[Score, ...]

    def mean(self, figure: Callable[[Score], float]) -> float:
        """Over the seeds."""
        return statistics.fmean(map(figure, self.scores))

    def spread(self, figure: Callable[[Score], float]) -> float:
        """Standard deviation over the seeds; 0 for one."""
        return statistics.stdev(map(figure, self.scores)) if len(self.scores) > 1 else 0.0


@dataclass(frozen=True)
class Ablation:
    """The answer."""

    setting: Setting
    variants: tuple[Variant, ...]


def ablate(setting: Setting, out: Path, reporter: Reporter) -> Ablation:
    """Draw the portraits, train every variant with every seed, and test. What an earlier call finished is kept.

    Parameters
    ----------
    setting
        How.
    out
        The folder for portraits, runs and scores.
    reporter
        Is told how it goes.

    Raises
    ------
    UsageError
        The folder holds an ablation of another setting.
    P3MEdgeError
        As :func:`p3m_edge.train.run.train`.
    """
    _claim(setting, out)
    _draw(setting, out / "data", reporter)
    found: dict[str, list[Score]] = {name: [] for name in VARIANTS}
    for number in range(setting.seeds):
        for place, (name, methods) in enumerate(VARIANTS.items()):
            folder = out / "runs" / f"{name}-{number}"
            told = _Told(reporter, f"{name}, seed {number}", number * len(VARIANTS) + place, setting)
            found[name].append(_score(setting, out / "data", folder, methods, number, told))
    return Ablation(setting, tuple(Variant(name, tuple(scores)) for name, scores in found.items()))


def configuration(setting: Setting, methods: tuple[str, ...], seed: int) -> Config:
    """The settings of one training: published, but for the sizes, the rate and the length."""
    side, steps = setting.size, setting.steps
    values = {
        "model.arch": '"tiny"', "data.size": side, "data.crops": [side, side * 5 // 4, side * 3 // 2],
        "data.workers": 0, "data.cache_mb": 2048, "copy_paste.methods": list(methods),
        "optim.lr": 2e-3, "optim.schedule": '"cosine"', "optim.warmup_steps": min(20, steps // 10),
        "optim.clip_norm": 1.0, "run.max_steps": steps, "run.epochs": steps, "run.batch": setting.batch,
        "run.seed": seed, "run.device": '"cpu"', "run.licence": '"synthetic portraits, no rights reserved"',
        "validation.share": 0.02, "validation.every": steps, "validation.sheet": 0, "log.tensorboard": "false",
        # Not the published scale, which is for CelebAMask-HQ's close-ups.
        "feature_paste.fit": "true", "feature_paste.scale": [0.8, 1.2],
        "feature_paste.from_epoch": max(1, steps * setting.batch // (3 * setting.train)),
    }  # fmt: skip
    overrides = [f"{name}={value}".replace("'", '"') for name, value in values.items()]
    return configs.load(configs.BASE, None, [*overrides, *setting.overrides])


def _claim(setting: Setting, out: Path) -> None:
    """Note the setting in the folder, or see that it is the one noted."""
    path = out / "setting.json"
    if path.is_file():
        if _decoded(path, Setting) != setting:
            raise UsageError(f"{out} holds an ablation of another setting", hint="name another --out")
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is not an empty folder", hint="name a new --out")
    try:
        for where, kinds in _FOLDERS.items():
            for kind in kinds:
                (out / "data" / where / kind).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out} cannot be made: {error.strerror}") from error
    atomic_write(path, msgspec.json.encode(setting))


def _decoded(path: Path, kind: type[Kept]) -> Kept:
    """What an earlier call noted."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError) as error:
        raise InputError(f"{path} cannot be read: {error}", hint=f"delete {path.parent}") from error


def _draw(setting: Setting, data: Path, reporter: Reporter) -> None:
    """The three sets; portraits that are there are kept."""
    side = setting.size * 3 // 2
    jobs = [(_TRAIN, seed) for seed in range(setting.train)]
    jobs += [(_BLURRED, _FIRST_TEST + number) for number in range(setting.test)]
    missing = [job for job in jobs if not (data / job[0] / "mask" / f"{job[1]:07}.png").exists()]

    def progress(done: int, total: int) -> None:
        reporter.progress("portraits", done, total)

    parallel_map(partial(_write, data, side), missing, progress=progress)


def _write(data: Path, side: int, job: tuple[str, int]) -> None:
    """One portrait; the alpha comes last, and says that all is there."""
    where, seed = job
    sample = portrait(seed, side, side, frontal=where != _TRAIN)
    hidden = hide(sample)
    name = f"{seed:07}.png"
    pictures = {(where, "blurred_image"): hidden.image, (where, "facemask"): hidden.face_mask}
    if where == _BLURRED:
        # The same face region in both: what is hidden in the one, and stands there in the other.
        pictures |= {
            (_NORMAL, "original_image"): sample.image,
            (_NORMAL, "facemask"): hidden.face_mask,
            (_NORMAL, "mask"): sample.alpha,
        }
    for (folder, kind), picture in {**pictures, (where, "mask"): sample.alpha}.items():
        if picture is not None:
            write_png(data / folder / kind / name, picture)


def hide(sample: Sample) -> Sample:
    """The portrait with its face hidden as ``p3m-edge data anonymize`` hides it; as it is where none is to be seen."""
    assert sample.face_mask is not None
    left, top, width, height = cv2.boundingRect(sample.face_mask)
    if not width:
        return replace(sample, foreground=None, background=None, trimap=None)
    done = anonymize(sample.image, [Box(left, top, width, height, 1.0, "exact")], sample.alpha)
    return Sample(sample.name, done.image, sample.alpha, face_mask=done.face_mask)


def _score(
    setting: Setting, data: Path, folder: Path, methods: tuple[str, ...], seed: int, reporter: Reporter
) -> Score:
    """Train one network, or go on with it, and test it; the score is kept in the run's folder."""
    path = folder / "score.json"
    if path.is_file():
        return _decoded(path, Score)
    if (folder / STATE).is_file():
        request = runs.resumed(folder, [])
    else:
        config = configuration(setting, methods, seed)
        faces = f"synth:{setting.faces}" if methods else None
        request = TrainRequest(config, str(data / _TRAIN), folder, faces)
    runs.train(request, reporter)
    score = _test(setting, data, folder / "last.safetensors")
    atomic_write(path, msgspec.json.encode(score))
    return score


def _test(setting: Setting, data: Path, weights: Path) -> Score:
    method = open_method(str(weights), Options("deployed", (setting.size, setting.size)))
    try:
        figures = [
            _mean(runner.run(method, dataset, Trimaps(dataset, "alpha"), ("float",)))
            for dataset in (open_set(data / _BLURRED), open_set(data / _NORMAL))
        ]
    finally:
        method.close()
    (blurred, blurred_face), (normal, normal_face) = figures
    return Score(blurred, normal, blurred_face, normal_face)


def _mean(result: Result) -> tuple[float, float]:
    if result.failures:
        raise InputError(f"{result.failures[0].picture} cannot be tested: {result.failures[0].reason}")
    means = result.means["float"]
    return means["SAD"].value, means["SAD_FACE"].value


@dataclass(frozen=True)
class _Told:
    """Tells how far one training is as a part of all."""

    reporter: Reporter
    name: str
    number: int
    setting: Setting

    def progress(self, what: str, done: int, total: int) -> None:
        whole = self.setting.seeds * len(VARIANTS) * self.setting.steps
        self.reporter.progress(f"{self.name}: {what}", self.number * self.setting.steps + done, whole)

    def warn(self, message: str) -> None:
        self.reporter.warn(message)
