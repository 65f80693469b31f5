"""The state of a training on disc: all that a run needs to go on as if it had never stopped.

A file of ``torch.save`` with tensors and plain containers alone, written under another name and renamed, so that the
last whole one is always there. The order of the pictures and the learning rate are functions of the step, which is
how the sampler and the schedule are stored.
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from p3m_edge.atomic import atomic_file
from p3m_edge.errors import CheckpointError, OutputError, shown

STATE = "state.pt"
"""The file's name in a run's folder."""
SCHEMA = 1
# What states of earlier versions lack, and what it was then.
_LATER: dict[str, dict[str, Any]] = {"projection": {}}
_FORMAT = "p3m-edge training state"
_UNREADABLE = (
    pickle.UnpicklingError, zipfile.BadZipFile, ArithmeticError, AttributeError, EOFError, ImportError, LookupError,
    MemoryError, RuntimeError, TypeError, ValueError,
)  # fmt: skip


@dataclass(frozen=True)
class State:
    """What is stored.

    Attributes
    ----------
    arch
        Of the network.
    config
        The effective settings, as :func:`p3m_edge.train.config.to_table` gives them.
    inputs
        What else the run was started with (``data``, ``faces``, ``teacher_sha256``, ...), as text.
    step
        Steps done; the position in the order of the pictures and in the schedule.
    model, ema, projection, optimizer, scaler
        Their state dicts; ``ema`` is empty where weights are not averaged, ``projection`` where no features are
        compared with a teacher's, ``scaler`` where gradients are not scaled.
    rng
        For each process the states of PyTorch's generators, uint8.
    best, best_step
        The smallest SAD of the held-out pictures, and after which step; infinite and 0 before the first validation.
    stale
        Validations since.
    unreadable, unreadable_now
        Pictures skipped so far, and of these in the present epoch.
    """

    arch: str
    config: dict[str, Any]
    inputs: dict[str, str]
    step: int
    model: dict[str, Any]
    ema: dict[str, Any]
    projection: dict[str, Any]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    rng: list[dict[str, Tensor]]
    best: float
    best_step: int
    stale: int
    unreadable: int
    unreadable_now: int


def save(state: State, path: Path) -> None:
    """Write the state; the file of that name is replaced when the new one is complete and on the disc.

    Raises
    ------
    OutputError
        It cannot be written (disc full, no permission); the file of that name is as it was.
    """
    content = {
        "format": _FORMAT,
        "schema": SCHEMA,
        **{field.name: getattr(state, field.name) for field in fields(state)},
    }
    hint = "the one before it, if any, is still there"
    try:
        with atomic_file(path, what="the training state", durable=True) as file:
            torch.save(content, file)
    except OutputError as error:
        raise OutputError(str(error), hint=hint) from error
    except RuntimeError as error:  # PyTorch's writer hides the reason
        raise OutputError(f"the training state {path} cannot be written: the disc may be full", hint=hint) from error


def load(path: Path) -> State:
    """Read a state; nothing but tensors and plain containers is unpickled.

    Raises
    ------
    CheckpointError
        The file is missing, damaged, no training state, or of a later version.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no training state {path}", hint="a run that was started leaves one at once")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"the training state {path} cannot be read: {error.strerror}") from error
    except _UNREADABLE as error:
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
    values: dict[str, Any] = {field.name: content.get(field.name, _LATER.get(field.name)) for field in fields(State)}
    missing = [name for name, value in values.items() if value is None]
    if missing:
        raise CheckpointError(f"the training state {path} is damaged: it lacks {', '.join(missing)}")
    for name, value in values.items():
        if not _SOUND[name](value):
            raise CheckpointError(f"the training state {path} is damaged: its {name} is {_described(value)}")
    return State(**values)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _named(value: object) -> bool:
    """Whether it is a state dict, or a part of one."""
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)


def _texts(value: object) -> bool:
    """What a run was started with; some of it must be there."""
    known = isinstance(value, dict) and {"data", "faces", "start", "digest"} <= value.keys()
    return isinstance(value, dict) and known and all(isinstance(one, str) for pair in value.items() for one in pair)


def _generators(value: object) -> bool:
    return isinstance(value, list) and all(
        _named(states) and all(isinstance(state, Tensor) for state in states.values()) for states in value
    )


_SOUND: dict[str, Callable[[Any], bool]] = {
    "arch": lambda value: isinstance(value, str),
    "config": lambda value: _named(value) and all(map(_named, value.values())),
    "inputs": _texts,
    "step": _whole,
    **dict.fromkeys(("model", "ema", "projection", "optimizer", "scaler"), _named),
    "rng": _generators,
    "best": lambda value: isinstance(value, float) and value >= 0,
    **dict.fromkeys(("best_step", "stale", "unreadable", "unreadable_now"), _whole),
}
"""Whether a field of a file is what :class:`State` says, as far as nothing else finds that out."""


def _described(value: object) -> str:
    return "a tensor" if isinstance(value, Tensor) else shown(value)


def check_architecture(state: State, arch: str, path: Path) -> None:
    """Raise :class:`CheckpointError` if the state is of another network."""
    if state.arch != arch:
        raise CheckpointError(f"{path} is of the architecture {state.arch}, not {arch}", hint="use another --out")


def rng_states(device: torch.device) -> dict[str, Tensor]:
    """The states of PyTorch's random generators in this process, uint8."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_rng(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Put the generators back where :func:`rng_states` found them; raises :class:`ValueError` for other tensors."""
    for name, now in rng_states(device).items():
        state = states.get(name, now)
        if state.dtype != now.dtype or state.shape != now.shape:
            raise ValueError(f"a state of random numbers is {state.dtype} {list(state.shape)}")
        state = state.clone()  # PyTorch 2.13 crashes on a view into a larger tensor
        if name == "cpu":
            torch.set_rng_state(state)
        else:
            torch.cuda.set_rng_state(state, device)
