"""What a training is asked for, what it would do, what came of it, and who is told meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from p3m_edge.model.checkpoint import CheckpointInfo
from p3m_edge.train.config import Config
from p3m_edge.train.encoder_weights import EncoderReport


class Reporter(Protocol):
    """Who is told how it goes."""

    def progress(self, what: str, done: int, total: int) -> None: ...

    def warn(self, message: str) -> None: ...


@dataclass(frozen=True)
class TrainRequest:
    """What to train.

    Attributes
    ----------
    data
        The folder of a set, or ``synth:SEED``; None where no picture has a matte.
    out
        The run's folder: new or empty, or with ``resume`` one with a state.
    faces
        A folder or ``synth:COUNT``, for P3M-CP.
    encoder_weights, weights
        To start from: a file with weights of the encoder, or a checkpoint of the same architecture.
    resume
        Go on where the state in ``out`` stopped.
    teacher
        A checkpoint of any architecture to learn from; for quantisation-aware training, that of ``weights``.
    unlabelled
        A folder of pictures without mattes, for the teacher.
    """

    config: Config
    data: str | None
    out: Path
    faces: str | None = None
    encoder_weights: Path | None = None
    weights: Path | None = None
    resume: bool = False
    teacher: Path | None = None
    unlabelled: str | None = None


@dataclass(frozen=True)
class TrainPlan:
    """What would be done.

    Attributes
    ----------
    data, faces, blurred
        On what; ``faces`` is their licence. See :class:`~p3m_edge.train.inputs.Inputs`.
    pictures, held_out, judged_by
        How many in an epoch, how many to judge by, and what their mattes are compared with.
    batch
        Pictures in a step of all processes together.
    qat
        Whether it is rounded as INT8 while it learns.
    encoder, teacher
        What was loaded from ``encoder_weights``, and what the teacher's file says; None without.
    """

    arch: str
    parameters: int
    device: str
    processes: int
    data: str
    faces: str | None
    blurred: bool | None
    pictures: int
    held_out: int
    judged_by: Literal["ground truth", "the teacher"]
    batch: int
    steps_per_epoch: int
    steps: int
    first_step: int
    qat: bool
    encoder: EncoderReport | None
    teacher: CheckpointInfo | None


@dataclass(frozen=True)
class TrainResult:
    """What came of a training; ``best`` and ``last`` are weights for ``p3m-edge export --checkpoint``.

    Attributes
    ----------
    reason
        Why it ended: ``epochs``, ``max_steps`` or ``no improvement``.
    step, losses
        Steps done, with those before a resumption, and the losses of the last one.
    best_sad, best_step
        Of the held-out pictures, in thousands, and the step at which they were judged so.
    seconds, pictures_per_second, data_wait
        Of the steps of this call; the share of the time in which they waited for pictures.
    unreadable
        Pictures that were skipped.
    """

    plan: TrainPlan
    folder: Path
    reason: str
    step: int
    losses: dict[str, float]
    best_sad: float
    best_step: int
    seconds: float
    pictures_per_second: float
    data_wait: float
    unreadable: int
    best: Path
    last: Path
