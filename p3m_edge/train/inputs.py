"""What a training is started with: a set on disc or generated portraits, what is held out of it, and source faces."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from p3m_edge.data import foreground, sets
from p3m_edge.data.cache import Cache
from p3m_edge.data.faces import FaceSource, open_faces, synthetic_faces
from p3m_edge.data.sample import Item, Sample
from p3m_edge.errors import InputError, UsageError
from p3m_edge.train.config import Config
from p3m_edge.train.dataset import Files, Source, Synthetic

_SYNTHETIC = re.compile(r"synth:([0-9]{1,9})")
_TRAIN = "train"
_TEST_SETS = re.compile(r"P3M-500-N?P|RealWorldPortrait-636|RWP-?636", re.IGNORECASE)


@dataclass(frozen=True)
class Inputs:
    """The pictures and faces of a training.

    Attributes
    ----------
    description
        Of the pictures, in a line.
    train, held_out
        They have no picture in common.
    blurred
        Whether faces are blurred; None where that is not known.
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


def open_inputs(data: str, faces: str | None, config: Config) -> Inputs:
    """Open a data set, hold a part of it out, and open the faces.

    Parameters
    ----------
    data
        The folder of a set (its split ``train`` where it has several), or ``synth:SEED``.
    faces
        A folder, or ``synth:COUNT``; needed where the settings ask for P3M-CP, useless elsewhere.
    config
        All settings.

    Raises
    ------
    InputError
        A folder cannot be read, or holds nothing of use.
    UsageError
        The set is too small to hold anything out, is one of the test sets, or has no face masks where P3M-CP is
        wanted; or the faces are missing, or not wanted.
    """
    methods = ", ".join(config.copy_paste.methods)
    if methods and faces is None:
        raise UsageError(f"P3M-CP ({methods}) needs faces", hint="--faces FOLDER, or --faces synth:100")
    if faces is not None and not methods:
        raise UsageError("--faces has no meaning without P3M-CP", hint="--cp icp, --cp fcp or --cp icp,fcp")
    source = None if faces is None else _faces(faces, config)
    match = _SYNTHETIC.fullmatch(data)
    return _generated(int(match[1]), source, config) if match else _on_disc(data, source, config)


def _generated(seed: int, faces: FaceSource | None, config: Config) -> Inputs:
    width, height = config.data.synth_size
    count = config.data.synth_count
    held_out = Synthetic(seed, _held_out_count(count + 1, config), width, height, held_out=True)
    description = f"generated portraits (seed {seed}, {count} an epoch, {width}x{height})"
    return Inputs(description, Synthetic(seed, count, width, height), held_out, False, f"synth:{seed}:{count}", faces)


def _on_disc(data: str, faces: FaceSource | None, config: Config) -> Inputs:
    root = Path(data).expanduser()
    found = sets.open_set(root, _TRAIN if _TRAIN in sets.splits(root) else None)
    if _TEST_SETS.fullmatch(found.name):
        raise UsageError(f"{root} is {found.name}, a test set: training must not see it")
    if faces is not None and not any(item.face_mask for item in found.items):
        raise UsageError(f"{root} has no facemask/, and P3M-CP needs them", hint="p3m-edge data anonymize makes them")
    if len(found.items) < 2:
        raise UsageError(f"{root} has one picture; none is left to train on when one is held out")
    order = np.random.default_rng(config.run.seed).permutation(len(found.items))
    cut = _held_out_count(len(found.items), config)
    held_out, train = (tuple(found.items[i] for i in sorted(part)) for part in (order[:cut], order[cut:]))
    cache = Cache(config.data.cache_mb * 1_000_000 // max(config.data.workers, 1), _reader(config))
    description = f"{found.name} ({found.kind}, {len(train)} pictures, {cut} more held out)"
    return Inputs(
        description, Files(train, cache), Files(held_out, Cache(0)), found.blurred, _digest(held_out, train), faces
    )


def _held_out_count(count: int, config: Config) -> int:
    return min(max(1, round(count * config.validation.share)), config.validation.limit, count - 1)


def _reader(config: Config) -> Callable[[Item], Sample]:
    folder = config.data.foregrounds
    return sets.read if not folder else partial(foreground.cached, folder=Path(folder).expanduser())


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
