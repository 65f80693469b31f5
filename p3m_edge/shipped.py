"""The weights that come with the package: which architectures have some, and where their files are."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from p3m_edge.checkpoint_header import Header, read
from p3m_edge.errors import CheckpointError, UsageError, one_of
from p3m_edge.targets import ARCHS

SHIPPED = ("mobile",)
"""The architectures whose weights are in the package."""

DEFAULT = "mobile"
"""The one that is meant where none is named."""


def weights_path(arch: str = DEFAULT) -> Path:
    """The checkpoint of an architecture, as a file of the installed package.

    Raises
    ------
    UsageError
        The architecture is unknown, or the package has no weights of it.
    CheckpointError
        The installation is damaged: the file is not there.
    """
    if one_of("architecture", arch, ARCHS) not in SHIPPED:
        raise UsageError(
            f"the package has no weights of {arch}: only of {', '.join(SHIPPED)}",
            hint="--checkpoint FILE, or --standin for weights that are not trained",
        )
    path = Path(str(resources.files("p3m_edge") / "weights" / f"{arch}.safetensors"))
    if not path.is_file():
        raise CheckpointError(f"{path} is missing: this installation is damaged", hint="install p3m-edge again")
    return path


def read_header(arch: str = DEFAULT) -> Header:
    """What the checkpoint says about itself, after comparing the whole file with its digest.

    Raises
    ------
    UsageError
        As :func:`weights_path`.
    CheckpointError
        The file is missing, cannot be read, was changed, or is not the checkpoint that it should be.
    """
    path = weights_path(arch)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    header = read(data, str(path))
    if header is None or header.arch != arch:
        raise CheckpointError(f"{path} is not the checkpoint of {arch}", hint="install p3m-edge again")
    return header
