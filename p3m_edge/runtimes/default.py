"""The artefact that is used where none is named: one in the user's cache, exported before, or that of the package."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

from p3m_edge import __version__, manifest, shipped
from p3m_edge.errors import ArtefactError, MissingError, OutputError
from p3m_edge.runtimes import cache
from p3m_edge.targets import TARGETS

SIZE = (512, 512)
"""Width and height that are meant where none are named: those of the package's artefact."""
EXPORTED = ("openvino-fp32", "onnx-fp32")
"""What may be in the cache, the preferred one first."""


def bundled() -> Path:
    """The artefact that the package carries: of its weights, for ONNX Runtime; its name is its target."""
    return Path(str(resources.files("p3m_edge") / "weights" / "onnx-fp16"))


def artefact() -> Path:
    """What is used where nothing can be made, every file checked.

    Errors are those of :func:`places`; also a :class:`MissingError` where OpenVINO alone is installed, and the cache
    has nothing for it.
    """
    among = places()
    found = find(among)
    if found is None:
        hint = 'pip install "p3m-edge[onnx]"; or with PyTorch, once: p3m-edge run'
        raise MissingError(f"there is no artefact to use: {flaw(among[0])}", hint=hint)
    return found


def places(size: tuple[int, int] = SIZE) -> tuple[Path, ...]:
    """Where the artefacts of a size (width, height) are, if they are there, for the engines that are installed.

    The preferred one is the first. Of the size of the package's artefact, that is one of them.

    Raises
    ------
    ArtefactError
        The installation is damaged.
    MissingError
        No engine is installed.
    OutputError
        There is no place for the cache, and the package has no artefact of the size.
    """
    ours = bundled()
    try:
        weights = manifest.read(ours).model.checkpoint_sha256
    except ArtefactError as error:
        raise _damaged(error) from error
    found = [ours] if size == SIZE else []
    try:
        folder = cache.root() / "artefacts" / "{}-{:.16}-{}-{}x{}".format(shipped.DEFAULT, weights, __version__, *size)
        kept = [folder / name for name in EXPORTED]
        found = [kept[0], *(found or kept[1:])]
    except OutputError:
        if not found:
            raise
    here = tuple(place for place in found if importlib.util.find_spec(TARGETS[place.name].engine) is not None)
    if not here:
        text = "no engine is installed: neither openvino nor onnxruntime"
        raise MissingError(text, hint='pip install "p3m-edge[onnx]"')
    return here


def find(among: Iterable[Path]) -> Path | None:
    """The first of these places where an artefact is as it was exported, every file checked; None: there is none.

    A :class:`~p3m_edge.runtimes.CacheWarning` names a damaged one in the cache. :class:`ArtefactError`: that of the
    package is damaged.
    """
    for place in among:
        error = flaw(place)
        if error is None:
            return place
        if place == bundled():
            raise _damaged(error) from error
        if place.exists():
            warnings.warn(f"the artefact in the cache is damaged: {error}", cache.CacheWarning, stacklevel=2)
    return None


def flaw(artefact: Path) -> ArtefactError | None:
    """Why it cannot be used; None: it is as it was exported."""
    try:
        manifest.check_files(manifest.read(artefact), artefact)
    except ArtefactError as error:
        return error
    return None


def _damaged(error: ArtefactError) -> ArtefactError:
    return ArtefactError(f"this installation is damaged: {error}", hint="install p3m-edge again")
