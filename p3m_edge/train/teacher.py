"""The network that a training learns from: any checkpoint, of any architecture, that is known to be one."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from p3m_edge.errors import CheckpointError, UsageError
from p3m_edge.model.checkpoint import CheckpointInfo, read_checkpoint
from p3m_edge.model.p3mnet import P3MNet
from p3m_edge.train.request import TrainRequest
from p3m_edge.train.state import STATE, State


class Teacher(NamedTuple):
    """A network and what its file says."""

    network: P3MNet
    info: CheckpointInfo


def open_teacher(request: TrainRequest, stored: State | None) -> Teacher | None:
    """Read the teacher, if the request names one.

    Parameters
    ----------
    request
        With the teacher's file.
    stored
        The state that the run goes on from; its teacher must be the same file, bit for bit.

    Raises
    ------
    CheckpointError
        The file is missing, or no checkpoint.
    UsageError
        The teacher has nothing to teach, or nothing to teach with; or it is another one than the run was started with.
    """
    path = request.teacher
    if path is None:
        if request.unlabelled is not None:
            raise UsageError("pictures without mattes need a teacher", hint="--teacher CKPT")
        return None
    if path.name == STATE:
        raise UsageError(f"{path} is the state of a training, no checkpoint", hint="best.safetensors is beside it")
    try:
        network, info = read_checkpoint(path)
    except CheckpointError as error:
        raise CheckpointError(f"there is no teacher: {error}", hint=error.hint) from error
    if stored is not None and stored.inputs.get("teacher_sha256") != info.sha256:
        raise UsageError(f"{path} is not the teacher that the run was started with", hint="put the file back")
    _check_sense(request, path, info)
    return Teacher(network, info)


def _check_sense(request: TrainRequest, path: Path, info: CheckpointInfo) -> None:
    settings = request.config.distillation
    if not info.trained and not settings.standin:
        raise UsageError(
            f"the teacher {path} holds stand-in weights, which nobody trained",
            hint="for a trial: --set distillation.standin=true",
        )
    if not any((settings.alpha, settings.local, settings.logits, settings.features)):
        raise UsageError("the teacher teaches nothing: all weights are 0", hint="distillation.alpha=3, for example")
    if request.config.qat.enabled:
        return  # which starts as its own teacher, rounded
    if request.data is None and request.weights is not None and request.weights.read_bytes() == path.read_bytes():
        raise UsageError("the network starts as its own teacher, and there are no mattes to learn from", hint="--data")
