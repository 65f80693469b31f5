"""How an artefact is opened for a :class:`~p3m_edge.runtimes.Matting`: once when that is made, and again elsewhere."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from p3m_edge import manifest as manifests
from p3m_edge.errors import ArtefactError, P3MEdgeError
from p3m_edge.manifest import Manifest
from p3m_edge.manifest_schema import Level, ProfileRecord
from p3m_edge.runtimes.contract import EngineInfo, EngineOptions, engine_module
from p3m_edge.runtimes.engine import Engine, open_engine
from p3m_edge.runtimes.size import at_size, fixed_size, profile_of

Alpha = NDArray[np.float32] | NDArray[np.uint8]
DType = Literal["float32", "uint8"]


class UnverifiedWarning(UserWarning):
    """The artefact has not been verified on a real device: run ``selftest()`` before relying on it."""


class OtherNetworkWarning(UserWarning):
    """The artefact was exported with nearest upsampling, for benchmarks: its alphas are not those of the weights."""


@dataclass(frozen=True)
class MattingInfo:
    """What has been loaded. ``width`` and ``height`` are the network's input; None: dynamic."""

    folder: str
    target: str
    precision: str
    arch: str
    trained: bool
    verified: Level
    width: int | None
    height: int | None
    batch: int
    engine: EngineInfo


@dataclass(frozen=True)
class Opened:
    """An artefact that is loaded in this process.

    ``size`` is the network's (width, height) for every frame; None: it varies.
    """

    manifest: Manifest
    profile: ProfileRecord | None
    size: tuple[int, int] | None
    engine: Engine


def open_artefact(folder: Path, options: EngineOptions, size: tuple[int, int] | None, *, check: bool) -> Opened:
    """Load an artefact; parameters and errors are those of ``Matting``."""
    manifest = at_size(manifests.read(folder), size)
    profile = profile_of(manifest)
    size = fixed_size(manifest.input, size, profile)
    if check:
        _check_files(manifest, folder)
    return Opened(manifest, profile, size, open_engine(manifest, folder, options))


def absolute(folder: Path) -> Path:
    """The path from the root, which stays right when the app changes its current folder.

    A relative one is an ``ArtefactError`` where the current folder was deleted.
    """
    try:
        return folder.absolute()
    except FileNotFoundError as error:
        raise ArtefactError(f"{folder} does not exist: the current folder was deleted") from error


def _check_files(manifest: Manifest, folder: Path) -> None:
    """Compare the hashes while the engine's package is being imported: both take their time."""

    def preload() -> None:
        with suppress(P3MEdgeError):  # opening the engine raises it again
            engine_module(manifest.engine.name).require()

    importing = threading.Thread(target=preload, daemon=True)
    importing.start()
    try:
        manifests.check_files(manifest, folder)
    finally:
        importing.join()
