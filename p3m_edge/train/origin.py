"""What a run was started with: a resumption must find it again, and the weights say so.

What has moved since is used at its new place, if it is the same: names, sizes and beginnings of files are compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from p3m_edge import __version__
from p3m_edge.data.faces import FaceFolder
from p3m_edge.data.sample import Item
from p3m_edge.errors import InputError, P3MEdgeError, UsageError
from p3m_edge.imageio import list_images
from p3m_edge.smallfile import open_regular
from p3m_edge.train.config import Config
from p3m_edge.train.distill import Teacher
from p3m_edge.train.inputs import Inputs, faces_in
from p3m_edge.train.request import TrainRequest

OPTIONS = ("data", "faces", "teacher", "unlabelled")
"""What the command line names that may move."""
SETTINGS = ("data.backgrounds", "data.foregrounds", "validation.data")
"""Settings that name folders; what is in ``data.foregrounds`` is made again where it is missing."""

_CONTENTS = {
    "data": "content", "unlabelled": "content", "faces": "content_faces", "data.backgrounds": "content_backgrounds",
    "validation.data": "content_held_out",
}  # fmt: skip
_BEGINNING = 16384  # bytes of a picture that are looked at, besides its size: a set of 10,000 takes seconds
_FIELDS = ("image", "alpha", "trimap", "foreground", "background", "face_mask", "trust")
_JUDGED_BY_TEACHER = "no picture had a true matte: judged by the teacher's mattes, which are no ground truth"


def record(request: TrainRequest, inputs: Inputs, start: str, teacher: Teacher | None) -> dict[str, str]:
    """What a resumption must know besides the settings; ``start`` says where the first weights came from."""
    return {
        **_options(request),
        **contents(inputs, request.config),
        "teacher_sha256": "" if teacher is None else teacher.info.sha256,
        "start": start,
        "digest": inputs.digest,
    }


def check_moved(request: TrainRequest, before: Mapping[str, str], settings: Config, inputs: Inputs) -> dict[str, str]:
    """What a run was started with (``before``, by :func:`record`), at the places where it is now.

    ``settings`` were those of the run. :class:`UsageError` if something has moved, and is not the same.
    """
    options, config = _options(request), request.config
    now = {**options, **_folders(config)}
    then = {**dict.fromkeys(options, ""), **before, **_folders(settings)}
    moved = [name for name in sorted(_CONTENTS) if now[name] != then[name]]
    found = contents(inputs, config) if moved else {}
    for name in moved:
        keys = {_CONTENTS[name]}
        if _CONTENTS[name] == "content" and not config.validation.data:
            keys.add("content_held_out")
        if any(found[key] != before.get(key) for key in keys):
            raise UsageError(
                f"{name}: not the files that the run was started with",
                hint="their names, sizes or contents differ; what has moved must be the same",
            )
    return {**before, **options}


def with_moved_hint(error: InputError, request: TrainRequest) -> P3MEdgeError:
    """The error of a run that goes on; if something is not where it was, with what to do if it has moved."""
    places = {f"--resume --{name} ": place for name, place in _options(request).items()}
    places |= {f"--resume --set {name}=": place for name, place in _folders(request.config).items()}
    return hinted(error, places)


def hinted(error: P3MEdgeError, places: Mapping[str, str]) -> P3MEdgeError:
    """An error with the hint to give a new place to the first of several that is not there, each by its option."""
    for option, place in places.items():
        if place and not is_generated(place) and not Path(place).expanduser().exists():
            error.hint = f"if it has moved, give its new place: {option}..."
            break
    return error


def absolute(text: str | None) -> str:
    """A path that does not depend on where the process runs; ``synth:...`` as it is, and nothing as empty text."""
    return text or "" if not text or is_generated(text) else str(Path(text).expanduser().absolute())


def is_generated(text: str) -> bool:
    """Whether pictures are drawn, ``synth:...``, and not read from a folder."""
    return text.startswith("synth:")


def warnings(inputs: Inputs, unlabelled: str | None) -> Iterator[str]:
    """What whoever starts the training must be told."""
    if unlabelled is not None and (faces := faces_in(unlabelled)) != "blurred":
        yield f"{unlabelled}: faces: {faces}; p3m-edge data anonymize blurs them"
    if not inputs.labelled:
        yield _JUDGED_BY_TEACHER


def licence(config: Config, inputs: Inputs, teacher: Teacher | None) -> str:
    """That of the weights, and of what went into them besides the pictures."""
    lines = [config.run.licence]
    if inputs.faces is not None:
        lines.append(f"source faces: {inputs.faces.licence}")
    if teacher is not None:
        lines.append(f"teacher: {teacher.info.licence}")
    return "; ".join(lines)


def provenance(config: Config, inputs: Inputs, teacher: Teacher | None, start: str, step: int) -> str:
    """Where the weights come from after so many steps; ``start`` as in :func:`record`."""
    methods = " and ".join(f"P3M-{method.upper()}" for method in config.copy_paste.methods) or "no P3M-CP"
    lines = [
        f"trained by p3m-edge {__version__}: {config.model.arch}, {step} steps on {inputs.description}",
        methods if inputs.faces is None else f"{methods}, source faces: {inputs.faces.licence}",
        start,
        *(f"{part} stayed as it was" for part in dict.fromkeys(config.optim.frozen)),
    ]
    if not inputs.labelled:
        lines.append(_JUDGED_BY_TEACHER)
    if config.qat.enabled:
        lines.append("rounded as INT8 while it learned (QAT), taught by what it started from")
    elif teacher is not None:
        info = teacher.info
        kind = info.arch if info.trained else f"{info.arch} that nobody trained"
        lines.append(f"taught by a {kind} (sha256 {info.sha256}, licence: {info.licence}; {info.provenance})")
    return "; ".join(lines)


def _options(request: TrainRequest) -> dict[str, str]:
    """The places of :data:`OPTIONS`, in a form that does not depend on where the process runs."""
    teacher = None if request.teacher is None else str(request.teacher)
    given = zip(OPTIONS, (request.data, request.faces, teacher, request.unlabelled), strict=True)
    return {name: absolute(value) for name, value in given}


def _folders(config: Config) -> dict[str, str]:
    """The places of those :data:`SETTINGS` whose contents must be the same."""
    return {"data.backgrounds": config.data.backgrounds, "validation.data": config.validation.data}


def contents(inputs: Inputs, config: Config) -> dict[str, str]:
    """SHA-256 over names, sizes and beginnings of the files that a training uses, by what they are."""
    faces = inputs.faces.entries if isinstance(inputs.faces, FaceFolder) else ()
    backgrounds = list_images(config.data.backgrounds) if config.data.compose else ()
    return {
        "content": hash_of(files_of(inputs.train.items)),
        "content_held_out": hash_of(files_of(inputs.held_out.items)),
        "content_faces": hash_of((picture.name, picture) for picture, _masks in faces),
        "content_backgrounds": hash_of((path.name, path) for path in backgrounds),
    }


def files_of(items: Iterable[Item]) -> Iterator[tuple[str, Path]]:
    """Every file of the items, with a name that does not depend on where it is."""
    for item in items:
        yield from ((f"{field} {item.name}", path) for field in _FIELDS if (path := getattr(item, field)) is not None)


def hash_of(files: Iterable[tuple[str, Path]]) -> str:
    """SHA-256 over names, sizes and beginnings of files."""
    digest = hashlib.sha256()
    for name, path in files:
        digest.update(f"{name}\0".encode("utf-8", "surrogateescape"))
        try:
            with open_regular(path) as stream:
                digest.update(stream.read(_BEGINNING) + f"\0{path.stat().st_size}\0".encode())
        except OSError:  # who reads the picture will say so
            digest.update(b"\0")
    return digest.hexdigest()
