"""Does P3M-CP help? One network, trained with and without it on portraits whose faces are hidden, tested on both forms.

The question is the paper's: how much of the gap between blurred and normal test faces (B:B and B:N) remains (IJCV 2023,
the ablation of P3M-CP). Every training has the same pictures, settings and number of steps; only P3M-CP and the seed
differ.
"""

from __future__ import annotations

import json
import shutil
import statistics
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Literal, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from p3m_edge.atomic import LEFTOVERS, atomic_write
from p3m_edge.data.sets import DataSet, open_set
from p3m_edge.errors import CheckpointError, InputError, UsageError
from p3m_edge.evaluate import runner
from p3m_edge.evaluate.methods import Options, open_method
from p3m_edge.evaluate.results import PPT
from p3m_edge.evaluate.runner import Trimaps
from p3m_edge.manifest import sha256
from p3m_edge.metrics import bootstrap
from p3m_edge.smallfile import parse_json, read_small
from p3m_edge.train import config as configs
from p3m_edge.train import run as runs
from p3m_edge.train.folder import LOCK, locked
from p3m_edge.train.inputs import open_inputs, shared_picture
from p3m_edge.train.origin import absolute, contents, files_of, hash_of, hinted, is_generated
from p3m_edge.train.request import Reporter, TrainRequest
from p3m_edge.train.state import STATE

T = TypeVar("T")

VARIANTS: dict[str, tuple[str, ...]] = {"none": (), "ICP": ("icp",), "FCP": ("fcp",), "both": ("icp", "fcp")}
"""What is compared, by the methods of P3M-CP that are on."""

NOTE = "question.json"
"""The file in the folder of an ablation that says what it asks."""
PLACES = ("data", "faces", "test", "encoder_weights")
"""What may move, by the fields of a :class:`Setting`."""

FORMS = ("blurred_image", "original_image")
"""The folders of the test set: its pictures with hidden and with normal faces."""


@dataclass(frozen=True)
class Setting:
    """How the question is asked; another setting needs another folder.

    Attributes
    ----------
    data, faces, encoder_weights
        To train on and start from, as in :class:`~p3m_edge.train.request.TrainRequest`.
    test
        The folder of a set with both :data:`FORMS` and face masks; none of its pictures may be trained on.
    preset, overrides
        Settings of the trainings, with :data:`DEFAULTS` between them.
    steps, seeds
        Of each training; trainings of each variant, whose first weights, order, crops and faces differ.
    size
        ``(width, height)`` of the network's input when it is tested; None: as in training.
    """

    data: str
    faces: str
    test: str
    preset: str = "mobile"
    overrides: tuple[str, ...] = ()
    encoder_weights: str | None = None
    steps: int = 1500
    seeds: int = 3
    size: tuple[int, int] | None = None


DEFAULTS = (
    # The published ones are for CelebAMask-HQ's close-ups and for 150 epochs.
    "feature_paste.from_epoch=0", "feature_paste.fit=true", "feature_paste.scale=[0.8, 1.2]",
    # What is held out decides nothing here: the last weights are tested.
    "validation.limit=1", "validation.sheet=0", "log.tensorboard=false",
)  # fmt: skip
"""Settings that differ from the preset's, unless ``overrides`` say otherwise."""


@dataclass(frozen=True)
class Question:
    """A setting with what it found in its folders, noted when it starts: if they change, it is another question.

    ``train`` and ``digest`` are the training pictures, in words and by their names; ``licence`` is that of the faces;
    ``pictures`` are the names of the test pictures. ``contents`` are hashes of all files by what they are: what has
    moved is the same if they are equal. Notes of earlier versions have none.
    """

    setting: Setting
    train: str
    digest: str
    licence: str
    pictures: tuple[str, ...]
    contents: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Sads:
    """SAD (thousands) of each test picture, with its face blurred and normal."""

    blurred: tuple[float, ...]
    normal: tuple[float, ...]


@dataclass(frozen=True)
class Score:
    """Of one trained network, on the whole pictures and inside the faces."""

    whole: Sads
    face: Sads


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation over the seeds; 0 for one seed."""

    mean: float
    deviation: float


@dataclass(frozen=True)
class Row:
    """A variant: mean SAD (thousands) over the test pictures, on the whole or inside the faces: B:B, B:N, and the gap.

    ``interval`` is 95 % of the gap by the paired bootstrap over the test pictures, each with its mean over the seeds
    (:func:`p3m_edge.metrics.bootstrap`).
    """

    variant: str
    where: Literal["whole", "face"]
    blurred: Spread
    normal: Spread
    gap: Spread
    interval: tuple[float, float]


@dataclass(frozen=True)
class Ablation:
    """The answer, and what it was made of: for each variant one score for each seed."""

    question: Question
    rows: tuple[Row, ...]
    scores: dict[str, tuple[Score, ...]]


def ablate(setting: Setting, out: Path, reporter: Reporter) -> Ablation:
    """Train every variant with every seed, and test. What an earlier call finished is kept in the folder ``out``.

    The folders and files that an earlier call was given may have moved since.

    Raises
    ------
    UsageError
        The folder holds another ablation, or the setting is impossible.
    InputError
        A set cannot be used, or a test picture cannot be tested.
    P3MEdgeError
        As :func:`p3m_edge.train.run.train`.
    """
    setting = replace(
        setting, data=absolute(setting.data), faces=absolute(setting.faces), test=absolute(setting.test),
        encoder_weights=absolute(setting.encoder_weights) or None,
    )  # fmt: skip
    stored = request(setting, "none", 0, out).config.data.mattes
    try:
        tests = [open_set(Path(setting.test) / form, stored=stored) for form in FORMS]
        question = _question(setting, tests, out)
    except (InputError, CheckpointError) as error:
        places = {f"--{name.replace('_', '-')} ": getattr(setting, name) or "" for name in PLACES}
        raise hinted(error, places) if (out / NOTE).is_file() else error from None
    found: dict[str, tuple[Score, ...]] = dict.fromkeys(VARIANTS, ())
    with locked(out):
        _claim(question, out)
        for number, (seed, name) in enumerate(product(range(setting.seeds), VARIANTS)):
            told = _OverallProgress(reporter, f"{name}, seed {seed}", number, setting)
            asked = request(setting, name, seed, out / "runs" / f"{name}-{seed}")
            found[name] += (_score(asked, tests, setting.size, told),)
    rows = (row(name, where, scores) for name, scores in found.items() for where in ("whole", "face"))
    return Ablation(question, tuple(rows), found)


def row(variant: str, where: Literal["whole", "face"], scores: tuple[Score, ...]) -> Row:
    """What the scores of one variant come to."""
    sads = [getattr(score, where) for score in scores]
    blurred, normal = (np.array([getattr(one, form) for one in sads]) for form in ("blurred", "normal"))
    gap = normal - blurred
    return Row(variant, where, _spread(blurred), _spread(normal), _spread(gap), bootstrap(gap.mean(axis=0)))


def _spread(values: NDArray[np.float64]) -> Spread:
    """Over the seeds, the rows of ``values``."""
    means = values.mean(axis=1).tolist()
    return Spread(statistics.fmean(means), statistics.stdev(means) if len(means) > 1 else 0.0)


def request(setting: Setting, variant: str, seed: int, out: Path) -> TrainRequest:
    """One of the trainings.

    Raises
    ------
    UsageError
        A setting is unknown, impossible, or not free: what the ablation compares and keeps equal.
    """
    methods = VARIANTS[variant]
    fixed = dict.fromkeys(("run.max_steps", "run.epochs", "validation.every"), str(setting.steps))
    fixed |= {"run.seed": str(seed), "validation.patience": "0", "copy_paste.methods": json.dumps(methods)}
    for override in setting.overrides:
        if (name := override.partition("=")[0].strip()) in fixed:
            raise UsageError(f"{name} is not free in an ablation", hint="--steps and --seeds are")
    overrides = [*DEFAULTS, *setting.overrides, *(f"{name}={value}" for name, value in fixed.items())]
    encoder = None if setting.encoder_weights is None else Path(setting.encoder_weights)
    config = configs.load(setting.preset, None, overrides)
    return TrainRequest(config, setting.data, out, setting.faces if methods else None, encoder_weights=encoder)


def _question(setting: Setting, tests: list[DataSet], out: Path) -> Question:
    """Check everything before the first of many trainings."""
    blurred, normal = tests
    names = tuple(item.name for item in blurred.items)
    if names != tuple(item.name for item in normal.items):
        raise InputError(f"{setting.test} has other pictures in {FORMS[0]} than in {FORMS[1]}")
    without = next((item for item in blurred.items if item.face_mask is None), None)
    if without is not None:
        raise InputError(f"{without.image} has no face mask", hint="the SAD inside the face needs facemask/")
    asked = request(setting, "both", 0, out / "planned")  # with both, all that any of them needs
    runs.plan(asked)
    inputs = open_inputs(asked.data, asked.faces, asked.config)
    if inputs.blurred is False or inputs.faces is None:
        raise UsageError(f"the faces of {setting.data} are not hidden", hint="p3m-edge data anonymize hides them")
    both = shared_picture(blurred.items + normal.items, inputs.train.items + inputs.held_out.items)
    if both is not None:
        raise UsageError(f"{both.image} is trained on as well")
    found = {
        **contents(inputs, asked.config),
        "test": hash_of(files_of(blurred.items + normal.items)),
        "encoder_weights": "" if asked.encoder_weights is None else sha256(asked.encoder_weights),
        **{f"generated {name}": place for name in ("data", "faces") if is_generated(place := getattr(setting, name))},
    }
    return Question(setting, inputs.description, inputs.digest, inputs.faces.licence, names, found)


def _claim(question: Question, out: Path) -> None:
    """Note the question in the folder, or see that it is the one noted, whose files may have been elsewhere."""
    path = out / NOTE
    if path.is_file():
        noted = _noted(path, Question)
        if differences := _differences(noted, question):
            told = f"{out} holds an ablation of another setting, or of other pictures: not the same {differences}"
            raise UsageError(told, hint="name another --out; what has moved must be the same files")
        if noted != question:
            atomic_write(path, msgspec.json.encode(question))
    elif all(path.match(LEFTOVERS) or path.name == LOCK for path in out.iterdir()):
        atomic_write(path, msgspec.json.encode(question))
    else:
        raise UsageError(f"{out} is not an empty folder", hint="name a new --out")


def _differences(noted: Question, question: Question) -> str:
    """In what two questions differ, by the names of settings and contents; empty text: in nothing but places."""
    differ = {
        name for name in vars(question.setting) if getattr(noted.setting, name) != getattr(question.setting, name)
    }
    differ |= {name for name in ("digest", "licence", "pictures") if getattr(noted, name) != getattr(question, name)}
    if noted.contents:
        names = noted.contents.keys() | question.contents.keys()
        differ -= set(PLACES)
        differ |= {name for name in names if noted.contents.get(name) != question.contents.get(name)}
    return ", ".join(sorted(differ))


def _noted(path: Path, kind: type[T]) -> T:
    """What an earlier call noted."""
    try:
        return parse_json(read_small(path), kind)
    except (OSError, msgspec.MsgspecError) as error:
        raise InputError(f"{path} cannot be read: {error}", hint=f"delete {path.parent}") from error


def _score(asked: TrainRequest, tests: list[DataSet], size: tuple[int, int] | None, told: _OverallProgress) -> Score:
    """Train one network, or go on with it, and test it; the score is kept in the run's folder."""
    path = asked.out / "score.json"
    if path.is_file():
        return _noted(path, Score)
    if (asked.out / STATE).is_file():
        places = {"data": asked.data, "faces": asked.faces}
        asked = runs.resumed(asked.out, [], {name: place for name, place in places.items() if place is not None})
    else:  # nothing, or what a training left that was killed before its first state
        shutil.rmtree(asked.out, ignore_errors=True)
    runs.train(asked, told)
    side = asked.config.data.size
    with closing(open_method(str(asked.out / "last.safetensors"), Options("deployed", size or (side, side)))) as method:
        results = [runner.run(method, one, Trimaps(one), ("float",), step=told.test) for one in tests]
    if failures := [failure for result in results for failure in result.failures]:
        raise InputError(f"{failures[0].picture} cannot be tested: {failures[0].reason}")
    score = Score(*(
        Sads(*(tuple(picture.scores["float"][measure] for picture in result.pictures) for result in results))
        for measure in PPT
    ))  # fmt: skip
    atomic_write(path, msgspec.json.encode(score))
    return score


@dataclass(frozen=True)
class _OverallProgress:
    """Tells how far one training is as a part of all."""

    reporter: Reporter
    name: str
    number: int
    setting: Setting

    def progress(self, what: str, done: int, total: int) -> None:
        whole = self.setting.seeds * len(VARIANTS) * self.setting.steps
        self.reporter.progress(f"{self.name}: {what}", self.number * self.setting.steps + done, whole)

    def test(self, picture: str) -> None:
        """Of the trained network."""
        self.progress(f"test: {picture}", self.setting.steps, self.setting.steps)

    def warn(self, message: str) -> None:
        self.reporter.warn(message)
