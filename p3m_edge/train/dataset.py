"""The training's pictures: read or drawn, augmented, with a face pasted, as tensors; and those of the validation.

All stay uint8 until they are on the device, where :func:`to_batch` makes numbers of them. Shape legend: B pictures of
H x W pixels, source faces of S x S.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from p3m_edge.data import augment
from p3m_edge.data.cache import Cache
from p3m_edge.data.compose.vary import other_clothes
from p3m_edge.data.copy_paste import ImagePaste
from p3m_edge.data.faces import FaceSource, fitted
from p3m_edge.data.sample import Image, Item, Sample, Transform, generator
from p3m_edge.data.sound import Sound, SoundFaces
from p3m_edge.data.synth import portrait
from p3m_edge.data.view import View
from p3m_edge.errors import InputError
from p3m_edge.imageio import MaskError, list_images, read_image
from p3m_edge.model.p3mnet import IMAGENET_MEAN, IMAGENET_STD
from p3m_edge.train.config import Config, Data
from p3m_edge.train.losses import Batch
from p3m_edge.train.order import HELD_OUT, PASTE, Draw, numbers

_TRIES = 8  # pictures tried in the place of an unreadable one


class Source(Protocol):
    """Where pictures come from."""

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
        """The decoded item."""
        return self.cache.read(self.items[draw.item])


@dataclass(frozen=True)
class Synthetic:
    """Generated portraits; every epoch has new ones. The held-out ones are never those of an epoch."""

    seed: int
    count: int
    width: int
    height: int
    held_out: bool = False

    def __len__(self) -> int:
        return self.count

    def read(self, draw: Draw) -> Sample:
        """Generate the portrait."""
        rng = numbers(HELD_OUT, self.seed, *draw) if self.held_out else generator(self.seed, *draw)
        seed = int(rng.integers(2**32))
        return portrait(seed, self.width, self.height)


@dataclass(frozen=True)
class Mixed:
    """Pictures with ground truth and pictures without, in fixed shares.

    An epoch goes once through one of the two, and as often through the other as its share asks for.

    Attributes
    ----------
    labelled, unlabelled
        The two.
    share
        Of unlabelled pictures, between 0 and 1.
    """

    labelled: Source
    unlabelled: Source
    share: float

    def __len__(self) -> int:
        return sum(self.counts)

    @property
    def counts(self) -> tuple[int, int]:
        """Labelled and unlabelled pictures of an epoch."""
        labelled, unlabelled = len(self.labelled), len(self.unlabelled)
        odds = self.share / (1 - self.share)
        return max(labelled, round(unlabelled / odds)), max(unlabelled, round(labelled * odds))

    def read(self, draw: Draw) -> Sample:
        """The first indices are those of labelled pictures."""
        first, _ = self.counts
        if draw.item < first:
            return self.labelled.read(Draw(draw.epoch, draw.item % len(self.labelled)))
        return self.unlabelled.read(Draw(draw.epoch, (draw.item - first) % len(self.unlabelled)))


class Pictures(NamedTuple):
    """A batch on its way to the device, all uint8 but the names.

    Attributes
    ----------
    image, foreground, background
        ``[B, 3, H, W]``, RGB; zeros where a picture has no colours.
    alpha, trimap, trust, face_mask
        ``[B, H, W]``; zeros where a picture has no face mask, 255 where it has no trust map.
    has_colours
        ``[B]``, 0 or 1.
    labelled
        ``[B]``, 0 or 1: whether alpha and trimap mean anything.
    source_image, source_mask
        ``[B, 3, S, S]`` and ``[B, S, S]``: the faces that P3M-FCP may paste; S is 0 where it is not used.
    names
        Of the pictures.
    unreadable
        A line for each picture that could not be used; others stand in their places.
    damaged
        A line for each source face or background that could not be used, when it is first met.
    """

    image: Tensor
    alpha: Tensor
    trimap: Tensor
    trust: Tensor
    foreground: Tensor
    background: Tensor
    face_mask: Tensor
    has_colours: Tensor
    labelled: Tensor
    source_image: Tensor
    source_mask: Tensor
    names: tuple[str, ...]
    unreadable: tuple[str, ...]
    damaged: tuple[str, ...]


class Portraits(Dataset[Pictures]):
    """Training samples; the index is a :class:`~p3m_edge.train.order.Draw`.

    What a sample looks like depends on the seed, the epoch and the index alone.

    Parameters
    ----------
    source
        The pictures.
    faces
        For P3M-CP; None without it.
    config
        All settings.
    """

    def __init__(self, source: Source, faces: FaceSource | None, config: Config) -> None:
        self.source = source
        self.faces = None if faces is None else SoundFaces(faces)
        self.config = config

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, draw: Draw) -> Pictures:
        """A batch of one.

        Raises
        ------
        InputError
            Neither this picture nor those tried in its place can be used.
        MaskError
            The picture's matte is not what it seems: so are others, probably.
        P3MEdgeError
            Source faces or backgrounds cannot be used.
        """
        unreadable: list[str] = []
        for attempt in range(min(_TRIES, len(self))):
            chosen = Draw(draw.epoch, (draw.item + attempt) % len(self))
            try:
                pictures = self._draw(chosen)
                return pictures._replace(unreadable=tuple(unreadable), damaged=self._damaged())
            except MaskError:
                raise
            except InputError as error:
                unreadable.append(" ".join(str(error).split()))
        raise InputError(f"{len(unreadable)} pictures one after the other cannot be used, the last: {unreadable[-1]}")

    def _damaged(self) -> tuple[str, ...]:
        """What was damaged of the files in whose places others stand."""
        sources = (self.faces, self.backgrounds)
        return tuple(line for source in sources if source is not None for line in source.damaged())

    def _draw(self, draw: Draw) -> Pictures:
        seed = self.config.run.seed
        sample = self.source.read(draw)
        # Random numbers of its own: with the probability 0 it must not change what the other steps draw.
        pasting = numbers(PASTE, seed, *draw)
        if self.paste is not None:
            sample = self.paste(sample, pasting)
        transform = self.transform if sample.labelled else self.unlabelled_transform
        sample = transform(sample, generator(seed, *draw))
        return _pack(sample, *self._source_face(draw, pasting))

    def _source_face(self, draw: Draw, rng: np.random.Generator) -> tuple[Image, Image]:
        """A face for P3M-FCP, at the network's size."""
        settings, side = self.config.feature_paste, self.config.data.size
        if self.faces is None or "fcp" not in self.config.copy_paste.methods or draw.epoch < settings.from_epoch:
            return np.zeros((0, 0, 3), np.uint8), np.zeros((0, 0), np.uint8)
        face = fitted(self.faces.read(int(rng.integers(len(self.faces)))), side, side)
        return face.image, face.mask

    @cached_property
    def paste(self) -> ImagePaste | None:
        """P3M-ICP, if it is wanted."""
        if self.faces is None or "icp" not in self.config.copy_paste.methods:
            return None
        return ImagePaste(self.faces, **vars(self.config.image_paste))

    @cached_property
    def transform(self) -> Transform:
        """The augmentation."""
        return augmentation(self.config.data, self.backgrounds)

    @cached_property
    def backgrounds(self) -> Sound[Image] | None:
        """What people may stand before, if they do."""
        data = self.config.data
        if not data.compose:
            return None
        paths = list_images(data.backgrounds)
        return Sound("backgrounds", len(paths), lambda index: read_image(paths[index]).rgb)

    @cached_property
    def unlabelled_transform(self) -> Transform:
        """The augmentation of pictures without a matte, which cannot stand before another background."""
        return augmentation(replace(self.config.data, compose=0.0), None)

    def __getstate__(self) -> dict[str, object]:
        """Without the steps and backgrounds, which a worker makes for itself."""
        return {"source": self.source, "faces": self.faces, "config": self.config}


def augmentation(data: Data, backgrounds: Sequence[Image] | None) -> Transform:
    """Views or the published steps, and behind them the optional ones that have a probability."""
    steps: list[Transform]
    if data.whole:
        steps = [View(data.size, data.whole, data.flip, data.compose, backgrounds or (), data.always_compose)]
    else:
        steps = [augment.published(data.crops, data.size, around_unknown=data.around_unknown, flip=data.flip)]
        if backgrounds is not None:
            steps.append(augment.on_backgrounds(backgrounds, probability=data.compose))
    if data.clothes and backgrounds is not None:
        steps.append(other_clothes(backgrounds, probability=data.clothes))
    if data.colour:
        steps.append(augment.colour_jitter(probability=data.colour))
    if data.dark:
        steps.append(augment.dark(probability=data.dark))
    if data.grey:
        steps.append(augment.greyscale(probability=data.grey))
    if data.blur:
        steps.append(augment.gaussian_blur(probability=data.blur))
    if data.noise:
        steps.append(augment.noise(probability=data.noise))
    if data.jpeg:
        steps.append(augment.jpeg(probability=data.jpeg))
    return augment.chain(*steps)


def collate(samples: Sequence[Pictures]) -> Pictures:
    """One batch of many."""
    tensors = (torch.cat(values) for values in zip(*(sample[:-3] for sample in samples), strict=True))
    texts = (sum(values, ()) for values in zip(*(sample[-3:] for sample in samples), strict=True))
    return Pictures._make([*tensors, *texts])


def to_batch(pictures: Pictures) -> Batch:
    """The numbers that the network and the losses take, on the pictures' device."""
    coloured = bool(pictures.has_colours.any())
    return Batch(
        image=normalise(pictures.image),
        alpha=pictures.alpha.float()[:, None] / 255,
        trimap=pictures.trimap.float()[:, None],
        foreground=normalise(pictures.foreground) if coloured else None,
        background=normalise(pictures.background) if coloured else None,
        has_colours=pictures.has_colours.bool(),
        labelled=None if bool(pictures.labelled.all()) else pictures.labelled.bool(),
        trust=None if bool((pictures.trust == 255).all()) else pictures.trust.float()[:, None] / 255,
    )


def normalise(image: Tensor) -> Tensor:
    """uint8 ``[B, 3, H, W]`` -> the network's input, float32."""
    mean, std = (torch.tensor(v, device=image.device).reshape(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    return (image.float() / 255 - mean) / std


def _pack(sample: Sample, source_image: Image, source_mask: Image) -> Pictures:
    if sample.trimap is None:
        raise InputError(f"{sample.name} has no trimap")
    coloured = sample.foreground is not None and sample.background is not None
    empty = np.zeros_like(sample.image)
    return Pictures(
        image=_planes(sample.image),
        alpha=_plane(sample.alpha),
        trimap=_plane(sample.trimap),
        trust=_plane(np.full_like(sample.alpha, 255) if sample.trust is None else sample.trust),
        foreground=_planes(sample.foreground if coloured and sample.foreground is not None else empty),
        background=_planes(sample.background if coloured and sample.background is not None else empty),
        face_mask=_plane(np.zeros_like(sample.alpha) if sample.face_mask is None else sample.face_mask),
        has_colours=torch.tensor([coloured], dtype=torch.uint8),
        labelled=torch.tensor([sample.labelled], dtype=torch.uint8),
        source_image=_planes(source_image),
        source_mask=_plane(source_mask),
        names=(sample.name,),
        unreadable=(),
        damaged=(),
    )


def _planes(image: NDArray[np.uint8]) -> Tensor:
    """``[H, W, 3]`` -> ``[1, 3, H, W]``."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))[None])


def _plane(image: NDArray[np.uint8]) -> Tensor:
    """``[H, W]`` -> ``[1, H, W]``."""
    return torch.from_numpy(np.array(image)[None])
