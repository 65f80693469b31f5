"""What a training is started with: portraits with mattes and without, what is held out of them, and source faces.

Portraits with mattes are a set on disc or generated. Those without are a plain folder, which needs a teacher.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from p3m_edge.data import foreground, sets
from p3m_edge.data.cache import Cache
from p3m_edge.data.faces import FaceSource, open_faces, synthetic_faces
from p3m_edge.data.sample import Item, Sample
from p3m_edge.errors import InputError, UsageError
from p3m_edge.imageio import list_images
from p3m_edge.train.config import Config
from p3m_edge.train.dataset import Files, Mixed, Source, Synthetic

_SYNTHETIC = re.compile(r"synth:([0-9]{1,9})")
_TRAIN = "train"


@dataclass(frozen=True)
class Inputs:
    """The pictures and faces of a training.

    Attributes
    ----------
    description
        Of the pictures, in a line.
    train, held_out
        They have no picture in common. The held-out ones have mattes, unless no picture has.
    blurred
        Whether faces are blurred; None where that is not known.
    labelled
        Whether there are mattes at all.
    digest
        Of the pictures' names and what is held out, to notice a set that has changed.
    faces
        Where P3M-CP takes its faces; None without it.
    """

    description: str
    train: Source
    held_out: Source
    blurred: bool | None
    digest: str
    faces: FaceSource | None
    labelled: bool = True


def open_inputs(data: str | None, faces: str | None, config: Config, unlabelled: str | None = None) -> Inputs:
    """Open a data set, a folder of pictures or both, hold a part out, and open the faces.

    Parameters
    ----------
    data
        The folder of a set (its split ``train`` where it has several), or ``synth:SEED``; None: no picture has a matte.
    faces
        A folder, or ``synth:COUNT``; needed where the settings ask for P3M-CP, useless elsewhere.
    config
        All settings.
    unlabelled
        A folder of pictures without mattes, for a teacher.

    Raises
    ------
    InputError
        A folder cannot be read, or holds nothing of use.
    UsageError
        The set is too small to hold anything out, is one of the test sets, or has no face masks where P3M-CP is
        wanted; the faces are missing, or not wanted; or the unlabelled pictures are those of the set.
    """
    methods = ", ".join(config.copy_paste.methods)
    if methods and faces is None:
        raise UsageError(f"P3M-CP ({methods}) needs faces", hint="--faces FOLDER, or --faces synth:100")
    if faces is not None and not methods:
        raise UsageError("--faces has no meaning without P3M-CP", hint="--cp icp, --cp fcp or --cp icp,fcp")
    if config.data.compose and not list_images(config.data.backgrounds):
        raise InputError(f"{config.data.backgrounds} holds no backgrounds")
    source = None if faces is None else _faces(faces, config)
    if data is None:
        if unlabelled is None:
            raise UsageError("what is to be trained on?", hint="--data DIR, or --data synth:0 for generated portraits")
        if methods:
            raise UsageError("P3M-CP needs --data: pictures without mattes have no face masks either")
        return _plain(_pictures(unlabelled), unlabelled, config)
    match = _SYNTHETIC.fullmatch(data)
    inputs = _generated(int(match[1]), source, config) if match else _on_disc(data, source, config)
    return inputs if unlabelled is None else _joined(inputs, unlabelled, config)


def _generated(seed: int, faces: FaceSource | None, config: Config) -> Inputs:
    width, height = config.data.synth_size
    count = config.data.synth_count
    held_out = Synthetic(seed, _held_out_count(count + 1, config), width, height, held_out=True)
    description = f"generated portraits (seed {seed}, {count} an epoch, {width}x{height})"
    return Inputs(description, Synthetic(seed, count, width, height), held_out, False, f"synth:{seed}:{count}", faces)


def _on_disc(data: str, faces: FaceSource | None, config: Config) -> Inputs:
    root = Path(data).expanduser()
    found = sets.open_set(root, _TRAIN if _TRAIN in sets.splits(root) else None, stored=config.data.mattes)
    sets.refuse_test_set(found.root)
    if faces is not None and not any(item.face_mask for item in found.items):
        raise UsageError(f"{root} has no facemask/, and P3M-CP needs them", hint="p3m-edge data anonymize makes them")
    held_out, train = _judged(config, found) if config.validation.data else _split(found.items, config)
    description = f"{found.name} ({found.kind}, {len(train)} pictures, {len(held_out)} more held out)"
    files = Files(train, _cache(config)), Files(held_out, Cache(0))
    return Inputs(description, *files, found.blurred, _digest(held_out, train), faces)


def _plain(items: tuple[Item, ...], folder: str, config: Config) -> Inputs:
    """Pictures without mattes alone."""
    held_out, train = _split(items, config)
    description = f"{_described(folder, train)}, {len(held_out)} more held out"
    files = Files(train, _cache(config)), Files(held_out, Cache(0, _read))
    return Inputs(description, *files, _blurred(folder), _digest(held_out, train), None, labelled=False)


def _joined(inputs: Inputs, folder: str, config: Config) -> Inputs:
    """Inputs with mattes, and pictures without to train on as well."""
    items = _pictures(folder)
    files = [part for part in (inputs.train, inputs.held_out) if isinstance(part, Files)]
    known = {item.image.resolve() for part in files for item in part.items}
    if any(item.image.resolve() in known for item in items):
        raise UsageError(
            f"{folder} has pictures of --data", hint="the teacher sees those anyway; leave --unlabelled out"
        )
    cache = inputs.train.cache if isinstance(inputs.train, Files) else _cache(config)
    blurred = (inputs.blurred, _blurred(folder))
    return replace(
        inputs,
        description=f"{inputs.description}, and {_described(folder, items)}",
        train=Mixed(inputs.train, Files(items, cache), config.distillation.unlabelled),
        blurred=False if False in blurred else None if None in blurred else True,
        digest=f"{inputs.digest}:{_digest(items)}",
    )


def _pictures(folder: str) -> tuple[Item, ...]:
    """What is in a plain folder."""
    root = Path(folder).expanduser().resolve()
    sets.refuse_test_set(root)
    items = tuple(Item(path.name, path) for path in list_images(root))
    if not items:
        raise InputError(f"{folder} holds no pictures", hint="its sub-folders are not looked into")
    return items


def faces_in(folder: str) -> str:
    """What is known about the faces in a plain folder: ``blurred``, ``not blurred`` or ``not known to be blurred``."""
    return {True: "blurred", False: "not blurred", None: "not known to be blurred"}[_blurred(folder)]


def _blurred(folder: str) -> bool | None:
    """Whether faces are blurred in a folder of pictures, as far as its name says."""
    name = Path(folder).expanduser().resolve().name
    return next((layout.blurred for layout in sets.LAYOUTS if layout.image == name), None)


def _described(folder: str, items: tuple[Item, ...]) -> str:
    name = Path(folder).expanduser().resolve().name
    return f"{len(items)} pictures without mattes from {name} (faces: {faces_in(folder)})"


def _judged(config: Config, found: sets.DataSet) -> tuple[tuple[Item, ...], tuple[Item, ...]]:
    """The set that is judged, and all pictures of the one that is trained on."""
    judged = sets.open_set(Path(config.validation.data).expanduser(), stored=config.data.mattes)
    sets.refuse_test_set(judged.root)
    known = {item.image.resolve() for item in found.items}
    both = next((item for item in judged.items if item.image.resolve() in known), None)
    if both is not None:
        raise UsageError(f"{both.image} of validation.data is trained on as well")
    return judged.items[: config.validation.limit], found.items


def _split(items: tuple[Item, ...], config: Config) -> tuple[tuple[Item, ...], tuple[Item, ...]]:
    """What is held out, drawn by the seed, and the rest."""
    if len(items) < 2:
        raise UsageError(f"{items[0].image.parent} has one picture; none is left to train on when one is held out")
    order = np.random.default_rng(config.run.seed).permutation(len(items))
    cut = _held_out_count(len(items), config)
    held_out, train = (tuple(items[i] for i in sorted(part)) for part in (order[:cut], order[cut:]))
    return held_out, train


def _held_out_count(count: int, config: Config) -> int:
    return min(max(1, round(count * config.validation.share)), config.validation.limit, count - 1)


def _cache(config: Config) -> Cache:
    """For pictures with and without mattes; one worker's part of it."""
    size = config.data.cache_mb * 1_000_000 // max(config.data.workers, 1)
    folder = config.data.foregrounds
    return Cache(size, partial(_read, foregrounds=Path(folder).expanduser()) if folder else _read)


def _read(item: Item, foregrounds: Path | None = None) -> Sample:
    if item.alpha is None:
        return sets.read_unlabelled(item)
    return sets.read(item) if foregrounds is None else foreground.cached(item, folder=foregrounds)


def _digest(*parts: tuple[Item, ...]) -> str:
    names = "\n\n".join("\n".join(item.name for item in part) for part in parts)
    return hashlib.sha256(names.encode("utf-8", "surrogateescape")).hexdigest()


def _faces(text: str, config: Config) -> FaceSource:
    match = _SYNTHETIC.fullmatch(text)
    if match is None:
        source: FaceSource = open_faces(Path(text).expanduser())
    else:
        if not int(match[1]):
            raise UsageError("--faces synth:0 are no faces", hint="synth:COUNT, for example synth:100")
        source = synthetic_faces(config.run.seed, int(match[1]), max(config.data.size, 128))
    if not len(source):
        raise InputError(f"{text} holds no faces")
    return source
