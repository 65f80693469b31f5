"""Checkpoints: the published P3M-Net files are read, our own are read and written."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from p3m_edge import arguments
from p3m_edge.atomic import atomic_write, check_name
from p3m_edge.checkpoint_header import Header, is_safetensors
from p3m_edge.errors import CheckpointError, InputError
from p3m_edge.model import container, foreign
from p3m_edge.model.p3mnet import ENCODERS, P3MNet
from p3m_edge.model.published import UNUSED, our_name, recognise
from p3m_edge.model.vitae import PROJECTION
from p3m_edge.targets import ARCHS

_COUNTER = ".num_batches_tracked"  # a batch norm's counter, which nothing uses
_MAX_BYTES = 4 * 1024**3
_SHOWN = 4
_UNSTATED = "not stated in the file", "a file in the published layout; its origin is not recorded in it"


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint is, as far as the file tells.

    Attributes
    ----------
    arch
        One of :data:`p3m_edge.targets.ARCHS`, or ``tiny``.
    format
        ``p3m-edge`` (ours) or ``published`` (the layout of the published files).
    licence, provenance
        As written into the file; published files do not say.
    trained
        False for stand-in weights. A file in the published layout counts as trained.
    sha256
        Of the file.
    parameters
        Number of parameters of the network.
    supplied
        Buffers that the file lacks and that were set here: the Performer projections of the published ViTAE-S files,
        by :func:`p3m_edge.model.vitae.default_projection`.
    """

    arch: str
    format: Literal["p3m-edge", "published"]
    licence: str
    provenance: str
    trained: bool
    sha256: str
    parameters: int
    supplied: tuple[str, ...] = ()


def load_checkpoint(path: str | Path) -> P3MNet:
    """Read a checkpoint, published or our own; the architecture is recognised.

    The file is one of ``torch.save`` (a state dict, or a dict with one under ``state_dict``) or safetensors. The
    network is on the CPU, float32, in evaluation mode, with every parameter and buffer from the file (but see
    :attr:`CheckpointInfo.supplied`).

    Raises
    ------
    CheckpointError
        The file is missing, unreadable, truncated, changed, not a checkpoint or one of another network, or holds
        values that are not finite.
    """
    return read_checkpoint(path)[0]


def inspect_checkpoint(path: str | Path) -> CheckpointInfo:
    """What the checkpoint is, after reading it whole; raises as :func:`load_checkpoint`."""
    return read_checkpoint(path)[1]


def read_checkpoint(path: str | Path) -> tuple[P3MNet, CheckpointInfo]:
    """The network and what the file says about it; see :func:`load_checkpoint`."""
    path = arguments.path("a checkpoint", path)
    data = _read(path)
    tensors, header = _tensors(data, path, foreign.NESTED)
    supplied: tuple[str, ...] = ()
    if header is None:
        network, supplied = _published(foreign.without_wrappers(tensors), path)
    elif header.arch in ENCODERS:
        network = _assemble(tensors, header.arch, path)
    else:
        raise CheckpointError(f"{path} is of an unknown architecture: {header.arch!r}", hint="upgrade p3m-edge")
    licence, provenance = _UNSTATED if header is None else (header.licence, header.provenance)
    return network, CheckpointInfo(
        arch=network.arch,
        format="published" if header is None else "p3m-edge",
        licence=licence,
        provenance=provenance,
        trained=header is None or header.trained,
        sha256=hashlib.sha256(data).hexdigest(),
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        supplied=supplied,
    )


def save_checkpoint(
    model: P3MNet, path: str | Path, *, licence: str, provenance: str, trained: bool, half: bool = False
) -> None:
    """Write a checkpoint of our own format (:mod:`p3m_edge.model.container`), whole or not at all.

    Parameters
    ----------
    model
        Any device and mode.
    path
        The file to write or to replace, by custom ``*.safetensors``. Its folder must exist.
    licence, provenance
        Of the weights; where they come from: data, training run, conversion.
    trained
        False for stand-in weights.
    half
        Save float16 in place of float32. Who reads the file computes in float32 with the rounded weights.

    Raises
    ------
    InputError
        The network holds values beyond half precision, where that is wanted, or values that are not finite.
    OutputError
        The file cannot be written.
    """
    path = arguments.path("a checkpoint", path)
    kind = torch.float16 if half else torch.float32
    tensors = {
        key: value.detach().to("cpu", kind).contiguous()
        for key, value in model.state_dict().items()
        if not key.endswith(_COUNTER)
    }
    for key, value in tensors.items():
        if not torch.isfinite(value).all():
            raise InputError(f"{key} holds values that are not finite: not saved", hint="the training diverged")
    data = container.encode(tensors, arch=model.arch, licence=licence, provenance=provenance, trained=trained)
    atomic_write(path, data, what="the checkpoint", durable=True)


def read_tensors(path: str | Path, nested: tuple[str, ...] = foreign.NESTED) -> dict[str, Tensor]:
    """The tensors of any file of ``torch.save`` or safetensors, by the names in it; no network is built of them.

    ``nested`` names where in a dictionary the state dict may be; the first that is a dictionary counts, else the whole.
    :class:`CheckpointError` as :func:`load_checkpoint`, but for the architecture.
    """
    path = Path(path)
    return foreign.without_wrappers(_tensors(_read(path), path, nested)[0])


def _read(path: Path) -> bytes:
    check_name(path, CheckpointError)
    if not path.exists():
        raise CheckpointError(f"the checkpoint {path} does not exist")
    if not path.is_file():
        raise CheckpointError(f"{path} is not a file", hint="a checkpoint is one file")
    try:
        size = path.stat().st_size
        if size == 0:
            raise CheckpointError(f"the checkpoint {path} is empty", hint="download or copy it again")
        if size > _MAX_BYTES:
            raise CheckpointError(f"{path} is too large to be a checkpoint of P3M-Net: {size / 1e9:.1f} GB")
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"the checkpoint {path} cannot be read: {error.strerror}") from error


def _tensors(data: bytes, path: Path, nested: tuple[str, ...]) -> tuple[dict[str, Tensor], Header | None]:
    """The tensors of a file by the names in it, and our header, if it is a file of ours."""
    if is_safetensors(data):
        return container.decode(data, str(path))
    state = foreign.unpickle(data, str(path))
    if isinstance(state, dict):
        state = next((state[name] for name in nested if isinstance(state.get(name), Mapping)), state)
    if isinstance(state, foreign.Unread):
        raise CheckpointError(
            f"{path} holds a whole object, not its state dict", hint="torch.save(net.state_dict(), ...)"
        )
    if not isinstance(state, Mapping) or not state:
        what = "an empty one" if isinstance(state, Mapping) else f"a {type(state).__name__}"
        raise CheckpointError(f"{path} is not a checkpoint: {what} where a state dict is expected")
    others = [str(key) for key, value in state.items() if not isinstance(key, str) or not isinstance(value, Tensor)]
    if others:
        raise CheckpointError(f"{path} is not a checkpoint: {len(others)} entries hold no tensor ({_some(others)})")
    return dict(state), None


def _published(state: dict[str, Tensor], path: Path) -> tuple[P3MNet, tuple[str, ...]]:
    """The network from a state dict in one of the published layouts, and the names of what the file lacks."""
    arch = recognise(state)
    if arch is None:
        raise CheckpointError(
            f"{path} is not a checkpoint of P3M-Net: its {len(state)} tensors ({_some(state)}) show none of the "
            f"architectures {', '.join(ARCHS)}"
        )
    ours: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    for key, value in state.items():
        if UNUSED.search(key):
            continue
        name = our_name(key, arch)
        if name in ours and not torch.equal(ours[name], value):
            raise CheckpointError(f"{path} holds {origin[name]} and {key}, which must be equal and are not")
        ours[name], origin[name] = value, key
    network = _assemble(ours, arch, path, optional=PROJECTION)
    return network, tuple(key for key in network.state_dict() if key.endswith(PROJECTION) and key not in ours)


def _assemble(state: Mapping[str, Tensor], arch: str, path: Path, optional: str | None = None) -> P3MNet:
    """A network that holds exactly these tensors; names that end in ``optional`` may keep their default."""
    with torch.device("meta"):
        network = P3MNet(arch)
    expected = network.state_dict()
    counters = {key: torch.zeros((), dtype=torch.int64) for key in expected if key.endswith(_COUNTER)}
    defaults = {key: value for key, value in expected.items() if optional is not None and key.endswith(optional)}
    state = {**defaults, **{key: value for key, value in state.items() if not key.endswith(_COUNTER)}, **counters}
    different = ("missing", expected.keys() - state.keys()), ("unexpected", state.keys() - expected.keys())
    if parts := [f"{len(keys)} {what} ({_some(sorted(keys))})" for what, keys in different if keys]:
        raise CheckpointError(f"{path} is not a whole checkpoint of P3M-Net {arch}: tensors {'; '.join(parts)}")
    ready = {key: _checked(key, state[key], expected[key], path) for key in expected if key not in counters}
    network.load_state_dict({**ready, **counters}, assign=True)
    return network.eval()


def _checked(key: str, value: Tensor, expected: Tensor, path: Path) -> Tensor:
    """The tensor as dense float32, if it can be that parameter or buffer."""
    if value.shape != expected.shape:
        raise CheckpointError(f"{path}: {key} has shape {list(value.shape)}, not {list(expected.shape)}")
    if not value.is_floating_point() or value.layout is not torch.strided:
        raise CheckpointError(f"{path}: {key} holds {value.dtype}, not dense floating-point numbers")
    value = value.detach().to(torch.float32).contiguous()
    if not torch.isfinite(value).all():
        raise CheckpointError(f"{path}: {key} holds values that are not finite", hint="the training diverged")
    if key.endswith(".running_var") and bool((value < 0).any()):
        raise CheckpointError(f"{path}: {key} holds a negative variance")
    return value


def _some(keys: Iterable[str]) -> str:
    """The first few of the keys, for a message."""
    keys = [str(key)[:60] for key in keys]
    return ", ".join(keys[:_SHOWN]) + (", ..." if len(keys) > _SHOWN else "")
