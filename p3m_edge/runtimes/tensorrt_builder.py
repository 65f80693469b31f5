"""TensorRT engines, built of the typed ONNX in an artefact, by whichever builder is here; without PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from p3m_edge.manifest import Compatibility, Flavour, Manifest, ProfileRecord

Tell = Callable[[str], None]


@dataclass(frozen=True)
class BuildOptions:
    """How to build an engine.

    Attributes
    ----------
    flavour
        The builder; None: TensorRT where it and a GPU are, else TensorRT for RTX.
    compute_capabilities
        ``8.6``, ...: build ahead of time for these GPUs (TensorRT for RTX alone); empty: for the GPU that is here, or
        without one for all that the builder knows.
    profile
        The sizes of a dynamic artefact.
    hardware_compatibility, version_compatible
        Let it run on more GPUs, or on newer versions, at a cost in speed.
    level
        0..5, of the builder's optimisation; None: the builder's own.
    workspace_mb
        Limit of the memory for the build; None: the builder's own.
    timing_cache
        Keeps what the builder measured, so that the next build is faster; None: none.
    """

    flavour: Flavour | None = None
    compute_capabilities: tuple[str, ...] = ()
    profile: ProfileRecord | None = None
    hardware_compatibility: Compatibility = "none"
    version_compatible: bool = False
    level: int | None = None
    workspace_mb: int | None = None
    timing_cache: Path | None = None


def build_into(manifest: Manifest, folder: Path, options: BuildOptions, tell: Tell = lambda text: None) -> Manifest:
    """Build the engine of an artefact of its typed ONNX, into its folder.

    Parameters
    ----------
    manifest, folder
        Of the artefact; the manifest in the folder is not touched.
    options
        How.
    tell
        Told of the builder's progress.

    Returns
    -------
    manifest
        With the engine as it is now, and all files.

    Raises
    ------
    MissingError
        No builder that could do it is here, or it does not know the GPU.
    UsageError
        Options that do not fit the artefact or the builder.
    OutputError
        The disc is full.
    P3MEdgeError
        The builder refuses the graph (node, operator, module), gives other types than the graph has, or was killed.
    """
    raise NotImplementedError


def commands(manifest: Manifest, options: BuildOptions) -> tuple[str, ...]:
    """Lines that build the engine on the device: our own, and trtexec's."""
    raise NotImplementedError
