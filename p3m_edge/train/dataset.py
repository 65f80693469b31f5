"""The training's pictures in their order: read or drawn, augmented, with a face pasted, as the tensors of a batch.

All stay uint8 until they are on the device, where :func:`to_batch` makes numbers of them. Shape legend: B pictures of
H x W pixels, source faces of S x S.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from p3m_edge.data import augment
from p3m_edge.data.compose.vary import other_clothes
from p3m_edge.data.copy_paste import ImagePaste
from p3m_edge.data.faces import fitted
from p3m_edge.data.readable import Readable, ReadableFaces, read_or_next
from p3m_edge.data.sample import Image, Sample, Transform, generator
from p3m_edge.data.view import View
from p3m_edge.imageio import list_images, read_image
from p3m_edge.model.p3mnet import IMAGENET_MEAN, IMAGENET_STD
from p3m_edge.train.config import Config, Data
from p3m_edge.train.inputs import PASTE, Draw, Inputs, rng_for
from p3m_edge.train.losses import Batch

_OPTIONAL: dict[str, Callable[..., Transform]] = {
    "colour": augment.colour_jitter, "dark": augment.dark, "grey": augment.greyscale, "cast": augment.cast,
    "blur": augment.gaussian_blur, "noise": augment.noise, "jpeg": augment.jpeg,
}  # fmt: skip
"""Steps of the augmentation, by the setting that is their probability."""


@dataclass(frozen=True)
class Sampler:
    """Which pictures each process sees in which step: a function of the step alone, so a run can go on at any.

    An epoch is a permutation of all pictures, cut into the steps of all processes together; its last step is filled up
    from its beginning. One process with a batch of four and two with a batch of two see the same four in each step.

    The set has ``count`` pictures; ``batch`` of them are in a step of this process, number ``rank`` of ``ranks``.
    """

    count: int
    batch: int
    seed: int
    rank: int = 0
    ranks: int = 1

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return -(-self.count // (self.batch * self.ranks))

    def draws(self, step: int) -> list[Draw]:
        """What this process sees in a step, which counts from 0 over all epochs."""
        epoch, place = divmod(step, self.steps)
        together = self.batch * self.ranks
        indices = _permutation(self.seed, epoch, self.count)
        places = np.arange(place * together, (place + 1) * together) % self.count
        return [Draw(epoch, int(index)) for index in indices[places[self.rank :: self.ranks]]]


@lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    # No picture has the index `count`: the permutation has random numbers of its own.
    return generator(seed, epoch, count).permutation(count)


class Pictures(NamedTuple):
    """A batch on its way to the device, all uint8 but the texts.

    Attributes
    ----------
    image, foreground, background
        ``[B, 3, H, W]``, RGB; zeros where a picture has no colours.
    alpha, trimap, trust, face_mask
        ``[B, H, W]``; zeros where a picture has no face mask, 255 where it has no trust map.
    has_colours, labelled
        ``[B]``, 0 or 1; whether alpha and trimap mean anything.
    source_image, source_mask
        ``[B, 3, S, S]`` and ``[B, S, S]``: the faces that P3M-FCP may paste; S is 0 where it is not used.
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


class Batches:
    """The batches of this process, by step; what a sample looks like depends on seed, epoch and index alone."""

    def __init__(self, inputs: Inputs, config: Config, sampler: Sampler) -> None:
        self.source, self.config, self.sampler = inputs.train, config, sampler
        self.faces = None if inputs.faces is None else ReadableFaces(inputs.faces)

    def __getitem__(self, step: int) -> Pictures:
        """The batch of a step, which counts from 0 over all epochs.

        Raises
        ------
        InputError
            Neither a picture nor those tried in its place can be used; as a :class:`MaskError`, its matte is not what
            it seems, and so are others, probably.
        P3MEdgeError
            Source faces or backgrounds cannot be used.
        """
        fields = zip(*map(self._read, self.sampler.draws(step)), strict=True)
        return Pictures._make(torch.cat(x) if isinstance(x[0], Tensor) else sum(x, ()) for x in fields)

    def _read(self, draw: Draw) -> Pictures:
        """A batch of one."""
        pictures, unreadable = read_or_next(
            "pictures", draw.item, len(self.source), lambda item: self._draw(Draw(draw.epoch, item))
        )
        others = [source for source in (self.faces, self.backgrounds) if source is not None]
        damaged = tuple(line for source in others for line in source.damaged())
        return pictures._replace(unreadable=unreadable, damaged=damaged)

    def _draw(self, draw: Draw) -> Pictures:
        seed, sample = self.config.run.seed, self.source.read(draw)
        # Random numbers of its own: with the probability 0 it must not change what the other steps draw.
        pasting = rng_for(PASTE, seed, *draw)
        if self.faces is not None and "icp" in self.config.copy_paste.methods:
            sample = ImagePaste(self.faces, **vars(self.config.image_paste))(sample, pasting)
        sample = self.transforms[sample.labelled](sample, generator(seed, *draw))
        return _pack(sample, *self._source_face(draw, pasting))

    def _source_face(self, draw: Draw, rng: np.random.Generator) -> tuple[Image, Image]:
        """A face for P3M-FCP, at the network's size."""
        settings, side = self.config.feature_paste, self.config.data.size
        if self.faces is None or "fcp" not in self.config.copy_paste.methods or draw.epoch < settings.from_epoch:
            return np.zeros((0, 0, 3), np.uint8), np.zeros((0, 0), np.uint8)
        face = fitted(self.faces.read(int(rng.integers(len(self.faces)))), side, side)
        return face.image, face.mask

    @cached_property
    def transforms(self) -> tuple[Transform, Transform]:
        """The augmentation of pictures without a matte, which have no other background, and of those with one."""
        data = self.config.data
        return augmentation(replace(data, compose=0.0), None), augmentation(data, self.backgrounds)

    @cached_property
    def backgrounds(self) -> Readable[Image] | None:
        """What people may stand before, if they do."""
        data = self.config.data
        if not data.compose:
            return None
        paths = list_images(data.backgrounds)
        return Readable("backgrounds", len(paths), lambda index: read_image(paths[index]).rgb)

    def __getstate__(self) -> dict[str, object]:
        """Without the transforms and backgrounds, which a worker makes for itself."""
        return {name: getattr(self, name) for name in ("source", "config", "sampler", "faces")}


def augmentation(data: Data, backgrounds: Sequence[Image] | None) -> Transform:
    """Views or the published steps, and behind them the optional ones that have a probability."""
    steps: list[Transform] = [augment.turned(probability=data.turned)] if data.turned else []
    if data.whole:
        behind = (data.compose, backgrounds or (), data.walls, data.always_compose)
        steps.append(View(data.size, data.whole, data.flip, *behind))
    else:
        steps.append(augment.published(data.crops, data.size, around_unknown=data.around_unknown, flip=data.flip))
        if backgrounds is not None:
            steps.append(augment.on_backgrounds(backgrounds, probability=data.compose))
    if data.clothes and backgrounds is not None:
        steps.append(other_clothes(backgrounds, probability=data.clothes))
    steps += [make(probability=share) for name, make in _OPTIONAL.items() if (share := getattr(data, name))]
    return augment.chain(*steps)


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
    coloured = sample.foreground is not None and sample.background is not None
    known = sample if coloured else replace(sample, foreground=None, background=None)
    arrays = {
        "foreground": np.zeros_like(sample.image),
        "background": np.zeros_like(sample.image),
        "face_mask": np.zeros_like(sample.alpha),
        "trust": np.full_like(sample.alpha, 255),
        **known.arrays,
        "source_image": source_image,
        "source_mask": source_mask,
    }
    flags = {"has_colours": coloured, "labelled": sample.labelled}
    return Pictures(
        **{name: _tensor(array) for name, array in arrays.items()},
        **{name: torch.tensor([flag], dtype=torch.uint8) for name, flag in flags.items()},
        names=(sample.name,),
        unreadable=(),
        damaged=(),
    )


def _tensor(image: NDArray[np.uint8]) -> Tensor:
    """``[H, W, 3]`` -> ``[1, 3, H, W]``, ``[H, W]`` -> ``[1, H, W]``; a copy: arrays of the cache are read-only."""
    return torch.from_numpy(np.array(image.transpose(2, 0, 1) if image.ndim == 3 else image, order="C")[None])
