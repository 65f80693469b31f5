"""P3M-FCP: copy and paste at the level of features (*Rethinking Portrait Matting with Privacy Preserving*, IJCV 2023).

A source face goes through the shared encoder without gradients, and its features replace the target's where both
faces are, at chosen levels of the encoder; the rest of the network runs on the merged features, the poolings included.
Hooks do it, for the time of a training step: the network's own code and what is exported know nothing of it.

Shape legend: B batch, C channels, H and W the size of the network's input, h and w that of a level.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import KW_ONLY, InitVar, dataclass
from functools import partial
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from p3m_edge.data.copy_paste import centre, check_scale, extent
from p3m_edge.data.sample import check_share
from p3m_edge.errors import InputError, UsageError, one_of
from p3m_edge.model.layers import Encoder, TokenEncoder, channels_first, channels_last
from p3m_edge.model.mobile import MobileEncoder
from p3m_edge.model.p3mnet import MULTIPLE

FeatureVariant = Literal["copy-paste", "shuffle"]
SourceBatchNorm = Literal["frozen", "batch", "update"]
LEVELS = 6
"""Level k has 1 / 2**k of the input's size: 0 the stem (not ``mobile``), 1 the second level, 2 to 5 e1 to e4."""

_Change = Callable[[Tensor], Tensor]


@dataclass(eq=False)
class FeaturePaste:
    """P3M-FCP for one network.

    The training step becomes::

        with paste.apply(source_images, source_masks, target_masks, rng, epoch=epoch):
            output = network(images)

    The network may be wrapped (``DistributedDataParallel``, Fabric). Refused are ``torch.compile``, which passes hooks
    over, and, when it runs, ``DataParallel`` with several devices, which cuts the batch apart.

    Parameters
    ----------
    network
        A :class:`~p3m_edge.model.p3mnet.P3MNet`, wrapped or not.
    levels
        Where to paste, see :data:`LEVELS`. The paper's own choice is not published.
    probability, from_epoch
        That a sample gets a face, from this epoch (counted from 0) on; 50 of 150.
    scale
        Lowest and highest factor of the source's size, one draw for both axes. 0.3 to 0.7 is for CelebAMask-HQ, whose
        faces fill the picture.
    fit
        Scale the source to the target's extent first; ``scale`` is then relative to that.
    variant
        ``copy-paste``, or ``shuffle``: the pasted features change places among themselves.
    source_batch_norm
        What the encoder's batch norms do to the sources. ``frozen``: normalise with the running statistics; ``batch``:
        with those of the sources; ``update``: likewise, and the running statistics take them in. Norms that are frozen
        for the targets stay so. Everything random in the encoder is switched off for the sources.

    Raises
    ------
    UsageError
        A constant is out of its range, the network is no P3M-Net, or ``batch`` or ``update`` meets a SyncBatchNorm,
        which would wait for processes that paste nothing in this step.
    """

    network: InitVar[nn.Module]
    levels: Sequence[int] = (2,)
    _: KW_ONLY
    probability: float = 0.5
    from_epoch: int = 50
    scale: tuple[float, float] = (0.3, 0.7)
    fit: bool = False
    variant: FeatureVariant = "copy-paste"
    source_batch_norm: SourceBatchNorm = "frozen"

    def __post_init__(self, network: nn.Module) -> None:
        check_share("probability", self.probability)
        check_scale(self.scale)
        one_of("variant", self.variant, get_args(FeatureVariant))
        one_of("source_batch_norm", self.source_batch_norm, get_args(SourceBatchNorm))
        levels = tuple(sorted(self.levels))
        if not levels or len(set(levels)) != len(levels) or not set(levels) <= set(range(LEVELS)):
            raise UsageError(f"levels must be different numbers from 0 to {LEVELS - 1}, not {tuple(self.levels)}")
        if self.from_epoch < 0:
            raise UsageError(f"from_epoch must be 0 or more, not {self.from_epoch}")
        self.levels = levels
        self.encoder = _encoder(network)
        if isinstance(self.encoder, MobileEncoder) and 0 in levels:
            raise UsageError(
                "the mobile network has no level 0: nothing in it has the picture's full size", hint="levels 1 to 5"
            )
        synchronised = any(isinstance(module, nn.SyncBatchNorm) for module in self.encoder.modules())
        if synchronised and self.source_batch_norm != "frozen":
            raise UsageError(f"SyncBatchNorm needs source_batch_norm 'frozen', not {self.source_batch_norm!r}")

    @contextmanager
    def apply(
        self, source_images: Tensor, source_masks: Tensor, target_masks: Tensor, rng: np.random.Generator, *, epoch: int
    ) -> Iterator[NDArray[np.bool_]]:
        """Paste into every forward pass of the network until the context is left.

        Yields which samples get a face, bool ``[B]``.

        Parameters
        ----------
        source_images, source_masks
            ``[B, 3, Hs, Ws]``, normalised as the network's input, on its device; sides multiples of 32. The face is
            where the mask, ``[B, Hs, Ws]``, is not 0.
        target_masks
            ``[B, H, W]``, of the size of the network's input, likewise. A sample whose mask is empty is left alone.
        rng, epoch
            All that is random comes from here, nothing from PyTorch, and nothing is drawn before ``from_epoch``.

        Raises
        ------
        InputError
            The tensors do not fit together; in the forward pass, where the batch has another number of samples.
        """
        _check(source_images, source_masks, target_masks)
        batch = len(target_masks)
        chosen = np.zeros(batch, np.bool_)
        if epoch >= self.from_epoch:
            chosen = rng.random(batch) < self.probability
            scales = rng.uniform(*self.scale, batch)
            for masks in (source_masks, target_masks):
                chosen &= (masks != 0).flatten(1).any(dim=1).cpu().numpy()
        with ExitStack() as undo:
            if chosen.any():
                rows = torch.from_numpy(np.flatnonzero(chosen)).to(source_images.device)
                sources, targets = source_masks.to(rows.device)[rows], target_masks.to(rows.device)[rows]
                theta = self._maps(sources, targets, scales[chosen]).to(rows.device)
                for level, feature in self._features(source_images[rows]).items():
                    pasted, inside = _place(feature, sources, targets, theta, level)
                    if self.variant == "shuffle":
                        pasted = _shuffled(pasted, inside, rng)
                    undo.callback(_register(self.encoder, level, _merge(pasted, inside, rows, batch)))
            yield chosen

    def _maps(self, sources: Tensor, targets: Tensor, scales: NDArray[np.float64]) -> Tensor:
        """For each sample, where a place in the target comes from in the source.

        In the units of ``affine_grid``, -1 to 1 over the picture, in which the map is the same at every level.
        """
        size_s, size_t = np.array(sources.shape[:0:-1]), np.array(targets.shape[:0:-1])
        maps = []
        for source, target, scale in zip(sources.cpu().numpy(), targets.cpu().numpy(), scales, strict=True):
            if self.fit:
                scale *= np.sqrt((extent(target) / extent(source)).prod())
            from_source = 2 * (centre(source) + 0.5) / size_s - 1
            from_target = 2 * (centre(target) + 0.5) / size_t - 1
            step = size_t / size_s / scale
            maps.append(np.column_stack([np.diag(step), from_source - step * from_target]))
        return torch.from_numpy(np.stack(maps)).float()

    def _features(self, images: Tensor) -> dict[int, Tensor]:
        """The sources' features ``[b, C, h, w]`` at the chosen levels, without gradients."""
        found: dict[int, Tensor] = {}
        with torch.no_grad(), self._source_mode(), ExitStack() as undo:
            for level in self.levels:
                undo.callback(_register(self.encoder, level, partial(found.setdefault, level)))
            self.encoder(images)
        return found

    @contextmanager
    def _source_mode(self) -> Iterator[None]:
        """Evaluation mode, but for batch norms that shall see the sources."""
        training = {module: module.training for module in self.encoder.modules()}
        norms = {module: module.track_running_stats for module in training if isinstance(module, _BatchNorm)}
        try:
            self.encoder.eval()
            for norm in norms if self.source_batch_norm != "frozen" else ():
                norm.training = training[norm]
                # A norm in training that does not track uses the batch's statistics and keeps nothing.
                norm.track_running_stats = self.source_batch_norm == "update" or not norm.training
            yield
        finally:
            for module, mode in training.items():
                module.training = mode
            for norm, track in norms.items():
                norm.track_running_stats = track


def _encoder(network: nn.Module) -> Encoder:
    """The encoder inside a network, unwrapped."""
    inner: object = network
    while isinstance(inner, nn.Module):
        if hasattr(inner, "_orig_mod"):
            raise UsageError("features cannot be pasted into a network of torch.compile, which passes hooks over")
        if isinstance(encoder := getattr(inner, "encoder", None), Encoder):
            return encoder
        inner = getattr(inner, "module", None)
    raise UsageError(f"features can be pasted into a P3M-Net, not into {type(network).__name__}")


def _register(encoder: Encoder, level: int, change: _Change) -> Callable[[], object]:
    """Let a function of ``[B, C, h, w]`` change a level's features; returns what undoes it.

    The one place that knows which module gives each level, and in which order its axes are.
    """
    modules = ["stem", *(f"layer{stage}" for stage in range(LEVELS - 1))]
    if isinstance(encoder, MobileEncoder):
        modules = ["", "detail", "layer1", "layer2", "layer3", "join"]
    elif isinstance(encoder, TokenEncoder):
        modules = ["stem", "stem2", *(f"reductions.{stage}.norm" for stage in range(LEVELS - 3)), "norm"]
    tokens = isinstance(encoder, TokenEncoder) and level >= 2

    def hook(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        return channels_last(change(channels_first(output))) if tokens else change(output)

    return encoder.get_submodule(modules[level]).register_forward_hook(hook).remove


def _merge(pasted: Tensor, inside: Tensor, rows: Tensor, batch: int) -> _Change:
    """The change that puts ``pasted [b, C, h, w]`` into the ``rows`` of a batch, where ``inside [b, 1, h, w]``."""

    def change(feature: Tensor) -> Tensor:
        if len(feature) != batch or feature.shape[2:] != inside.shape[2:]:
            raise InputError(
                f"features of {list(feature.shape)} do not fit the masks of {batch} targets at this level, "
                f"{list(inside.shape[2:])}",
                hint="the whole batch must go through the network at once, at the size of the target masks",
            )
        where, values = (x.new_zeros((batch, *x.shape[1:])).index_copy(0, rows, x) for x in (inside, pasted))
        return torch.where(where, values.to(feature.dtype), feature)

    return change


def _place(features: Tensor, sources: Tensor, targets: Tensor, theta: Tensor, level: int) -> tuple[Tensor, Tensor]:
    """Carry the sources' features, ``[b, C, hs, ws]``, to the targets: ``[b, C, h, w]``, and where they are pasted.

    That is where the target's mask is and the source's covers it, bool ``[b, 1, h, w]``. The masks have the input's
    size, ``[b, Hs, Ws]`` and ``[b, H, W]``; ``theta``, ``[b, 2, 3]``, is that of :meth:`FeaturePaste._maps`.
    """
    covers, allowed = _at_level(sources, level), _at_level(targets, level)
    grid = functional.affine_grid(theta, [len(theta), 1, *allowed.shape[2:]], align_corners=False)
    pasted = functional.grid_sample(features.float(), grid, padding_mode="border", align_corners=False)
    covered = functional.grid_sample(covers.float(), grid, padding_mode="zeros", align_corners=False)
    return pasted, allowed & (covered >= 0.5)


def _at_level(masks: Tensor, level: int) -> Tensor:
    """Masks ``[b, H, W]`` as bool ``[b, 1, h, w]``: the cells of which at least half is face."""
    share = functional.avg_pool2d((masks != 0).float()[:, None], 2**level)
    return share >= 0.5


def _shuffled(pasted: Tensor, inside: Tensor, rng: np.random.Generator) -> Tensor:
    """Permute the features of each sample among the cells inside its mask."""
    rows = []
    for feature, mask in zip(pasted.flatten(2), inside.flatten(1), strict=True):
        cells = mask.nonzero()[:, 0]
        order = torch.from_numpy(rng.permutation(len(cells))).to(cells.device)
        rows.append(feature.index_copy(1, cells, feature[:, cells[order]]))
    return torch.stack(rows).reshape(pasted.shape)


def _check(source_images: Tensor, source_masks: Tensor, target_masks: Tensor) -> None:
    batch, *size = source_masks.shape
    if source_masks.ndim != 3 or target_masks.ndim != 3 or len(target_masks) != batch:
        raise InputError(
            f"masks are [batch, height, width], not {list(source_masks.shape)} and {list(target_masks.shape)}"
        )
    if list(source_images.shape) != [batch, 3, *size]:
        raise InputError(f"source images of {list(source_images.shape)} do not fit masks of {list(source_masks.shape)}")
    if any(side < 1 or side % MULTIPLE for side in size):
        raise InputError(f"the sides of source images must be multiples of {MULTIPLE}, not {size}")
