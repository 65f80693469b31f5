"""An artefact, opened at the highest level at which it can be verified on this machine."""

from __future__ import annotations

from pathlib import Path

from p3m_edge.export import typed
from p3m_edge.export.headroom import Headroom
from p3m_edge.export.mil.engine import interpret
from p3m_edge.manifest import Manifest
from p3m_edge.runtimes.contract import EngineOptions
from p3m_edge.runtimes.engine import Engine, open_engine


def open_highest(
    manifest: Manifest, folder: Path, headroom: Headroom | None = None, *, sequence: bool = False
) -> Engine:
    """An artefact at the level that its manifest claims: on the device, as a program, or as a typed graph.

    Parameters
    ----------
    manifest, folder
        The artefact.
    headroom
        Told of results in half precision, where these are computed here.
    sequence
        As of :class:`~p3m_edge.runtimes.contract.EngineOptions`.
    """
    if manifest.verified.level == "program":
        return interpret(manifest, folder, headroom, sequence=sequence)
    if manifest.verified.level == "typed":
        return typed.simulate(manifest, folder, headroom)
    return open_engine(manifest, folder, EngineOptions(cache=False, sequence=sequence))
