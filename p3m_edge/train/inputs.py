"""What a training is started with: portraits with mattes and without, what is held out of them, and source faces.

Portraits with mattes are a set on disc or generated. Those without are a plain folder, which needs a teacher.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from p3m_edge.data import foreground, sets
from p3m_edge.data.cache import Cache
from p3m_edge.data.faces import FaceSource, open_faces, synthetic_faces
from p3m_edge.data.sample import Item, Sample, generator
from p3m_edge.data.synth import portrait
from p3m_edge.errors import InputError, UsageError
from p3m_edge.imageio import list_images
from p3m_edge.train.config import Config

PASTE, STEP, HELD_OUT = 1, 2, 3
"""What random numbers are for, besides those of :func:`p3m_edge.data.sample.generator`."""
_SYNTHETIC = re.compile(r"synth:([0-9]{1,9})")


def rng_for(purpose: int, seed: int, first: int, second: int) -> np.random.Generator:
    """Random numbers that nothing else has; the last three arguments are below 2**32."""
    # NumPy takes the words [a, b, c] and [a, b, c, 0] for the same, so a fourth one above 0 sets them apart.
    return np.random.default_rng([seed, first, second, purpose])


class Draw(NamedTuple):
    """One picture of one epoch; both count from 0."""

    epoch: int
    item: int


class Source(Protocol):
    """Where pictures come from; ``items`` are those that are files."""

    @property
    def items(self) -> tuple[Item, ...]: ...

    def __len__(self) -> int: ...

    def read(self, draw: Draw) -> Sample:
        """The picture; :class:`InputError`, with the file's name, where it cannot be used."""
        ...


@dataclass(frozen=True)
class Files:
    """Pictures of a data set; every epoch has the same ones."""

    items: tuple[Item, ...]
    cache: Cache

    def __len__(self) -> int:
        return len(self.items)

    def read(self, draw: Draw) -> Sample:
        return self.cache.read(self.items[draw.item])


@dataclass(frozen=True)
class Synthetic:
    """Generated portraits; every epoch has new ones. The held-out ones are never those of an epoch."""

    seed: int
    count: int
    width: int
    height: int
    held_out: bool = False
    items: tuple[Item, ...] = ()

    def __len__(self) -> int:
        return self.count

    def read(self, draw: Draw) -> Sample:
        rng = rng_for(HELD_OUT, self.seed, *draw) if self.held_out else generator(self.seed, *draw)
        return portrait(int(rng.integers(2**32)), self.width, self.height)


@dataclass(frozen=True)
class Mixed:
    """Pictures with ground truth and pictures without; ``share`` of an epoch, between 0 and 1, are without.

    An epoch goes once through one of the two, and as often through the other as its share asks for.
    """

    labelled: Source
    unlabelled: Source
    share: float

    def __len__(self) -> int:
        return sum(self.counts)

    @property
    def items(self) -> tuple[Item, ...]:
        return self.labelled.items + self.unlabelled.items

    @property
    def counts(self) -> tuple[int, int]:
        """Labelled and unlabelled pictures of an epoch."""
        labelled, unlabelled = len(self.labelled), len(self.unlabelled)
        odds = self.share / (1 - self.share)
        return max(labelled, round(unlabelled / odds)), max(unlabelled, round(labelled * odds))

    def read(self, draw: Draw) -> Sample:
        """The first indices are those of labelled pictures."""
        first, _ = self.counts
        source, item = (self.labelled, draw.item) if draw.item < first else (self.unlabelled, draw.item - first)
        return source.read(Draw(draw.epoch, item % len(source)))


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
    digest
        Of the pictures' names and what is held out, to notice a set that has changed.
    faces
        Where P3M-CP takes its faces; None without it.
    labelled
        Whether there are mattes at all.
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

    The places are those of :class:`~p3m_edge.train.request.TrainRequest`; of a set in several splits, ``train`` is
    meant.

    Raises
    ------
    InputError
        A folder cannot be read, or holds nothing of use.
    UsageError
        The set is too small to hold anything out, is one of the test sets, or has no face masks where P3M-CP is
        wanted; the faces are missing, or not wanted; or the unlabelled pictures are those of the set.
    """
    methods = ", ".join(config.copy_paste.methods)
    for wrong, told, hint in (
        (methods and faces is None, f"P3M-CP ({methods}) needs faces", "--faces FOLDER, or --faces synth:100"),
        (faces is not None and not methods, "--faces has no meaning without P3M-CP",
         "--cp icp, --cp fcp or --cp icp,fcp"),
        (data is None and unlabelled is None, "what is to be trained on?",
         "--data DIR, or --data synth:0 for generated portraits"),
        (data is None and methods, "P3M-CP needs --data: pictures without mattes have no face masks either", None),
    ):  # fmt: skip
        if wrong:
            raise UsageError(told, hint=hint)
    if config.data.compose and not list_images(config.data.backgrounds):
        raise InputError(f"{config.data.backgrounds} holds no backgrounds")
    source = None if faces is None else _faces(faces, config)
    read: Callable[[Item], Sample] = _read
    if config.data.foregrounds:
        read = partial(_read, foregrounds=Path(config.data.foregrounds).expanduser())
    cache = Cache(config.data.cache_mb * 1_000_000 // max(config.data.workers, 1), read)  # one worker's part of it
    inputs = None
    if data is not None:
        match = _SYNTHETIC.fullmatch(data)
        inputs = _generated(int(match[1]), source, config) if match else _on_disc(data, source, config, cache)
    if unlabelled is not None:
        return _with_unlabelled(inputs, unlabelled, config, cache)
    assert inputs is not None
    return inputs


def shared_picture(some: Iterable[Item], others: Iterable[Item]) -> Item | None:
    """The first item whose picture is one of the others' as well."""
    known = {item.image.resolve() for item in others}
    return next((item for item in some if item.image.resolve() in known), None)


def faces_in(folder: str) -> str:
    """What is known about the faces in a plain folder: ``blurred``, ``not blurred`` or ``not known to be blurred``."""
    return {True: "blurred", False: "not blurred", None: "not known to be blurred"}[_blurred(folder)]


def _generated(seed: int, faces: FaceSource | None, config: Config) -> Inputs:
    count, size = config.data.synth_count, config.data.synth_size
    description = "generated portraits (seed {}, {} an epoch, {}x{})".format(seed, count, *size)
    held_out = Synthetic(seed, _held_out_count(count + 1, config), *size, held_out=True)
    return Inputs(description, Synthetic(seed, count, *size), held_out, False, f"synth:{seed}:{count}", faces)


def _on_disc(data: str, faces: FaceSource | None, config: Config, cache: Cache) -> Inputs:
    root = Path(data).expanduser()
    found = sets.open_set(root, "train" if "train" in sets.splits(root) else None, stored=config.data.mattes)
    sets.refuse_test_set(found.root)
    if faces is not None and not any(item.face_mask for item in found.items):
        raise UsageError(f"{root} has no facemask/, and P3M-CP needs them", hint="p3m-edge data anonymize makes them")
    if config.validation.data:
        judged = sets.open_set(Path(config.validation.data).expanduser(), stored=config.data.mattes)
        sets.refuse_test_set(judged.root)
        if (both := shared_picture(judged.items, found.items)) is not None:
            raise UsageError(f"{both.image} of validation.data is trained on as well")
        held_out, train = judged.items[: config.validation.limit], found.items
    else:
        held_out, train = _split(found.items, config)
    description = f"{found.name} ({found.kind}, {len(train)} pictures, {len(held_out)} more held out)"
    files = Files(train, cache), Files(held_out, Cache(0))
    return Inputs(description, *files, found.blurred, _digest(held_out, train), faces)


def _with_unlabelled(inputs: Inputs | None, folder: str, config: Config, cache: Cache) -> Inputs:
    """Pictures without mattes, alone or besides those that have some."""
    root = Path(folder).expanduser().resolve()
    sets.refuse_test_set(root)
    items = tuple(Item(path.name, path) for path in list_images(root))
    if not items:
        raise InputError(f"{folder} holds no pictures", hint="its sub-folders are not looked into")
    what = f"pictures without mattes from {root.name} (faces: {faces_in(folder)})"
    if inputs is None:
        held_out, train = _split(items, config)
        description = f"{len(train)} {what}, {len(held_out)} more held out"
        files = Files(train, cache), Files(held_out, Cache(0, _read))
        return Inputs(description, *files, _blurred(folder), _digest(held_out, train), None, labelled=False)
    if shared_picture(items, inputs.train.items + inputs.held_out.items):
        raise UsageError(
            f"{folder} has pictures of --data", hint="the teacher sees those anyway; leave --unlabelled out"
        )
    blurred = (inputs.blurred, _blurred(folder))
    return replace(
        inputs,
        description=f"{inputs.description}, and {len(items)} {what}",
        train=Mixed(inputs.train, Files(items, cache), config.distillation.unlabelled),
        blurred=False if False in blurred else all(blurred) or None,
        digest=f"{inputs.digest}:{_digest(items)}",
    )


def _blurred(folder: str) -> bool | None:
    """Whether faces are blurred in a folder of pictures, as far as its name says."""
    name = Path(folder).expanduser().resolve().name
    return next((layout.blurred for layout in sets.LAYOUTS if layout.image == name), None)


def _split(items: tuple[Item, ...], config: Config) -> tuple[tuple[Item, ...], tuple[Item, ...]]:
    """What is held out, drawn by the seed, and the rest."""
    if len(items) < 2:
        raise UsageError(f"{items[0].image.parent} has one picture; none is left to train on when one is held out")
    order = np.random.default_rng(config.run.seed).permutation(len(items))
    cut = _held_out_count(len(items), config)
    return tuple(items[i] for i in sorted(order[:cut])), tuple(items[i] for i in sorted(order[cut:]))


def _held_out_count(count: int, config: Config) -> int:
    return min(max(1, round(count * config.validation.share)), config.validation.limit, count - 1)


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
        return open_faces(Path(text).expanduser())
    if not int(match[1]):
        raise UsageError("--faces synth:0 are no faces", hint="synth:COUNT, for example synth:100")
    return synthetic_faces(config.run.seed, int(match[1]), max(config.data.size, 128))
