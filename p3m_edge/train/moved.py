"""A run whose files have moved goes on with them, if they are the same ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from p3m_edge.data.faces import FaceFolder, FaceSource
from p3m_edge.data.sample import Item
from p3m_edge.errors import InputError, UsageError
from p3m_edge.imageio import list_images
from p3m_edge.smallfile import open_regular
from p3m_edge.train.config import Config
from p3m_edge.train.dataset import Files, Mixed, Source
from p3m_edge.train.inputs import Inputs
from p3m_edge.train.request import TrainRequest

OPTIONS = ("data", "faces", "teacher", "unlabelled")
"""What the command line names that may move."""
SETTINGS = ("data.backgrounds", "data.foregrounds", "validation.data")
"""Settings that name folders; what is in ``data.foregrounds`` is made again where it is missing."""

_BEGINNING = 16384  # bytes of a picture that are looked at, besides its size: a set of 10,000 takes seconds
_FIELDS = ("image", "alpha", "trimap", "foreground", "background", "face_mask", "trust")


def contents(inputs: Inputs, config: Config) -> dict[str, str]:
    """SHA-256 over names, sizes and beginnings of the files that a training uses, by what they are."""
    behind = list_images(config.data.backgrounds) if config.data.compose else ()
    return {
        "content": _hash(_of_items(_items(inputs.train))),
        "content_held_out": _hash(_of_items(_items(inputs.held_out))),
        "content_faces": _hash(_of_faces(inputs.faces)),
        "content_backgrounds": _hash((path.name, path) for path in behind),
    }


def checked(request: TrainRequest, before: Mapping[str, str], settings: Config, inputs: Inputs) -> dict[str, str]:
    """What a run was started with, at the places where it is now.

    Parameters
    ----------
    request
        Names the places.
    before, settings
        What the run was started with (:func:`p3m_edge.train.provenance.started`), and its settings.
    inputs
        What is there now.

    Raises
    ------
    UsageError
        Something has moved, and is not the same.
    """
    places = now(request)
    moved = {name for name in OPTIONS if places[name] != before.get(name, "")}
    if request.config.validation.data != settings.validation.data:
        moved.add("validation.data")
    if request.config.data.backgrounds != settings.data.backgrounds:
        moved.add("data.backgrounds")
    of = {"faces": "content_faces", "data.backgrounds": "content_backgrounds", "validation.data": "content_held_out"}
    found = contents(inputs, request.config) if moved - {"teacher"} else {}  # a teacher has a hash of its own
    for name in sorted(moved - {"teacher"}):
        keys = [of.get(name, "content")]
        if name not in of and not request.config.validation.data:
            keys.append("content_held_out")
        if any(found[key] != before.get(key) for key in keys):
            raise UsageError(
                f"{name}: not the files that the run was started with",
                hint="their names, sizes or contents differ; what has moved must be the same",
            )
    return {**before, **places}


def now(request: TrainRequest) -> dict[str, str]:
    """The places that a request names, in a form that does not depend on where the process runs."""
    teacher = None if request.teacher is None else str(request.teacher)
    given = {"data": request.data, "faces": request.faces, "teacher": teacher, "unlabelled": request.unlabelled}
    return {name: absolute(value) for name, value in given.items()}


def absolute(text: str | None) -> str:
    """A path that does not depend on where the process runs; ``synth:...`` as it is, and nothing as empty text."""
    return text or "" if not text or text.startswith("synth:") else str(Path(text).expanduser().absolute())


def hinted(error: InputError, request: TrainRequest) -> InputError:
    """The error of a run that goes on; if something is not where it was, with what to do if it has moved."""
    config = request.config
    places = {f"--{name} ": place for name, place in now(request).items()}
    places |= {"--set validation.data=": config.validation.data, "--set data.backgrounds=": config.data.backgrounds}
    for option, place in places.items():
        if place and not place.startswith("synth:") and not Path(place).expanduser().exists():
            return InputError(str(error), hint=f"if it has moved, give its new place: --resume {option}...")
    return error


def _items(source: Source) -> Iterator[Item]:
    if isinstance(source, Files):
        yield from source.items
    elif isinstance(source, Mixed):
        yield from _items(source.labelled)
        yield from _items(source.unlabelled)


def _of_items(items: Iterable[Item]) -> Iterator[tuple[str, Path]]:
    for item in items:
        yield from ((f"{field} {item.name}", path) for field in _FIELDS if (path := getattr(item, field)) is not None)


def _of_faces(faces: FaceSource | None) -> Iterator[tuple[str, Path]]:
    for picture, _masks in faces.entries if isinstance(faces, FaceFolder) else ():
        yield picture.name, picture


def _hash(files: Iterable[tuple[str, Path]]) -> str:
    digest = hashlib.sha256()
    for name, path in files:
        digest.update(f"{name}\0".encode("utf-8", "surrogateescape"))
        try:
            with open_regular(path) as stream:
                digest.update(stream.read(_BEGINNING) + f"\0{path.stat().st_size}\0".encode())
        except OSError:  # who reads the picture will say so
            digest.update(b"\0")
    return digest.hexdigest()
