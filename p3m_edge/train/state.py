"""The state of a training on disc: all that a run needs to go on as if it had never stopped.

A file of ``torch.save`` with tensors and plain containers alone, replaced when the next one is whole. The order of the
pictures and the learning rate are functions of the step, which is how the sampler and the schedule are stored.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import msgspec
import torch
from msgspec import Meta
from torch import Tensor

from p3m_edge.atomic import atomic_file
from p3m_edge.errors import CheckpointError, OutputError
from p3m_edge.model.foreign import UNREADABLE
from p3m_edge.train.config import Whole

STATE = "state.pt"
"""The file's name in a run's folder."""
SCHEMA = 1
_FORMAT = "p3m-edge training state"
_LATER: dict[str, object] = {"projection": {}}  # what states of earlier versions lack, and what it was then
_INPUTS = {"data", "faces", "start", "digest"}  # what every version wrote

StateDict = dict[str, Any]


@dataclass
class Progress:
    """How far a training has come.

    Attributes
    ----------
    step
        Steps done; the position in the order of the pictures and in the schedule.
    best, best_step
        The smallest SAD of the held-out pictures, and after which step; infinite and 0 before the first validation.
    stale
        Validations since.
    unreadable, unreadable_now
        Pictures skipped so far, and of these in the present epoch.
    """

    step: Whole = 0
    best: Annotated[float, Meta(ge=0)] = float("inf")
    best_step: Whole = 0
    stale: Whole = 0
    unreadable: Whole = 0
    unreadable_now: Whole = 0


@dataclass(kw_only=True)
class State(Progress):
    """What is stored.

    Attributes
    ----------
    config
        The effective settings, as :func:`p3m_edge.train.config.to_table` gives them.
    inputs
        What else the run was started with (``data``, ``faces``, ``teacher_sha256``, ...), as text.
    model, ema, projection, optimizer, scaler
        Their state dicts; ``ema`` is empty where weights are not averaged, ``projection`` where no features are
        compared with a teacher's, ``scaler`` where gradients are not scaled.
    rng
        For each process the states of PyTorch's generators, uint8.
    """

    arch: str
    config: dict[str, StateDict]
    inputs: dict[str, str]
    model: StateDict
    ema: StateDict
    projection: StateDict
    optimizer: StateDict
    scaler: StateDict
    rng: list[dict[str, Tensor]]


def save(state: State, path: Path) -> None:
    """Write the state; the file of that name is replaced when the new one is complete and on the disc.

    :class:`OutputError` if it cannot be written; the file of that name is as it was.
    """
    hint = "the one before it, if any, is still there"
    try:
        with atomic_file(path, what="the training state", durable=True) as file:
            torch.save({"format": _FORMAT, "schema": SCHEMA, **vars(state)}, file)
    except OutputError as error:
        raise OutputError(str(error), hint=hint) from error
    except RuntimeError as error:  # PyTorch's writer hides the reason
        raise OutputError(f"the training state {path} cannot be written: the disc may be full", hint=hint) from error


def load(path: Path) -> State:
    """Read a state; nothing but tensors and plain containers is unpickled.

    :class:`CheckpointError` if the file is missing, damaged, no training state, or of a later version.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no training state {path}", hint="a run that was started leaves one at once")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        if isinstance(error, OSError):
            raise CheckpointError(f"the training state {path} cannot be read: {error.strerror}") from error
        raise CheckpointError(f"{path} is not a training state, or is damaged") from error
    if not isinstance(content, Mapping) or content.get("format") != _FORMAT:
        raise CheckpointError(
            f"{path} is not a training state", hint="weights alone cannot be resumed; see: train --encoder-weights"
        )
    schema = content.get("schema")
    if not isinstance(schema, int) or schema > SCHEMA:
        raise CheckpointError(
            f"{path} has format version {schema}; this version of p3m-edge reads {SCHEMA}", hint="upgrade p3m-edge"
        )
    content = {**_LATER, **content}
    damaged = f"the training state {path} is damaged: "
    if missing := [field.name for field in fields(State) if field.name not in content]:
        raise CheckpointError(f"{damaged}it lacks {', '.join(missing)}")
    try:
        state = msgspec.convert(content, State)
    except msgspec.ValidationError as error:
        what, where = str(error).replace("`", "").split(" - at ")
        name = re.search(r"\$\.(\w+)", where)
        raise CheckpointError(f"{damaged}its {name and name[1]}: {what[:1].lower()}{what[1:]}") from error
    if not state.inputs.keys() >= _INPUTS:
        raise CheckpointError(f"{damaged}its inputs lack some of {', '.join(sorted(_INPUTS))}")
    return state


def rng_states(device: torch.device) -> dict[str, Tensor]:
    """The states of PyTorch's random generators in this process, uint8."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_rng(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Put the generators back where :func:`rng_states` found them; raises :class:`ValueError` for other tensors."""
    for name, now in rng_states(device).items():
        state = states.get(name, now).clone()  # PyTorch 2.13 crashes on a view into a larger tensor
        if state.dtype != now.dtype or state.shape != now.shape:
            raise ValueError(f"a state of random numbers is {state.dtype} {list(state.shape)}")
        if name == "cpu":
            torch.set_rng_state(state)
        else:
            torch.cuda.set_rng_state(state, device)
