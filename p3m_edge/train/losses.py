"""The published losses (IJCV 2023, section 6.1; and what its code computes), for one process or for several.

Shape legend: B pictures of H x W pixels; everything is computed in float32, whatever autocast says.

Each loss is a :class:`Term`, a sum and what to divide it by. With several ranks the counts are summed over the ranks
*before* the division, so that two processes with two pictures each train as one process with four::

    loss on a rank = ranks * (this rank's sum) / (count over all ranks)

The factor is there because DistributedDataParallel averages the ranks' gradients. For the same reason the loss of all
ranks together is the *mean* of what :func:`total` gives on each.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from p3m_edge.metrics import FOREGROUND, UNKNOWN
from p3m_edge.model.p3mnet import P3MOutput

_SMOOTH = 1e-12  # under the roots; a pixel without a difference adds its root, 1e-6
_LEVELS = 5
_SIDES = ("side2", "side1", "side0")


class Term(NamedTuple):
    """A loss before its division: a scalar, the sum over this rank's pixels or pictures, and their number, int64."""

    value: Tensor
    divisor: Tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """What the losses compare the network's output with; all float32 on one device.

    Attributes
    ----------
    image, foreground, background
        ``[B, 3, H, W]``, normalised as the network's input is; None where no picture of the batch has colours.
    alpha
        ``[B, 1, H, W]``, 0..1.
    trimap
        ``[B, 1, H, W]``, 0..255, with the values between that resizing made.
    has_colours
        ``[B]``, bool: which pictures have both; the others are left out of the composition loss. None: all.
    labelled
        ``[B]``, bool: which pictures have a ground truth; the others are left out of all losses. None: all.
    trust
        ``[B, 1, H, W]``, 0..1: how much each pixel counts; divisors count all of them. None: they count alike.
    """

    image: Tensor
    alpha: Tensor
    trimap: Tensor
    foreground: Tensor | None = None
    background: Tensor | None = None
    has_colours: Tensor | None = None
    labelled: Tensor | None = None
    trust: Tensor | None = None


def total(output: P3MOutput, batch: Batch, reduce: Callable[[Tensor], Tensor] | None = None) -> dict[str, Tensor]:
    """All losses of a batch, unweighted, and ``total``, their weighted sum; scalars with gradients.

    ``cross_entropy`` and ``side2``, ``side1``, ``side0`` compare the global and the side logits with the trimap's
    classes; ``alpha_unknown`` and ``laplacian_unknown`` the local alpha in the unknown region; ``alpha_whole`` and
    ``laplacian_whole`` the fused alpha; ``composition`` what it makes of the true colours (0 where there are none)::

        total = (side2 + side1 + side0 + 3 cross_entropy) / 6 + 2 (alpha_unknown + laplacian_unknown)
                + 3 (alpha_whole + laplacian_whole) + composition

    times the share of pictures that have a ground truth.

    ``output`` is that of the network in training mode, H and W at least 32. ``reduce`` sums an int64 vector over all
    ranks (``dist.all_reduce`` with SUM, returning the tensor); it is called once, on every rank, without gradients.
    None: there is one process.
    """
    pictures = len(output.alpha)
    if batch.labelled is not None:
        # Rows that are not there still carry gradients of zero, which DistributedDataParallel waits for.
        output = P3MOutput(*(x[batch.labelled] for x in output))
        batch = replace(batch, **{name: x[batch.labelled] for name, x in vars(batch).items() if x is not None})
    with torch.autocast(batch.image.device.type, enabled=False):
        terms = _terms(output.float(), batch)
    one = output.alpha.new_ones((), dtype=torch.float32)
    terms |= {"all": Term(one, _count(pictures, one)), "labelled": Term(one, _count(len(output.alpha), one))}
    parts = divided(terms, reduce, one_more=("alpha_unknown",))  # |U| + 1 is published
    share = parts.pop("all") / parts.pop("labelled")
    sides = parts["side2"] + parts["side1"] + parts["side0"]
    unknown = parts["alpha_unknown"] + parts["laplacian_unknown"]
    whole = parts["alpha_whole"] + parts["laplacian_whole"]
    weighted = (sides + 3 * parts["cross_entropy"]) / 6 + 2 * unknown + 3 * whole + parts["composition"]
    return {**parts, "total": weighted * share}


def divided(
    terms: Mapping[str, Term], reduce: Callable[[Tensor], Tensor] | None = None, one_more: Collection[str] = ()
) -> dict[str, Tensor]:
    """The losses of this rank, from sums and from counts over all ranks, which ``reduce`` gives as in :func:`total`.

    The names are the same on every rank. Terms of ``one_more`` are divided by one more than their count; of the others,
    one that is absent everywhere is 0.
    """
    divisors = [term.divisor for term in terms.values()]
    counts = torch.stack([divisors[0].new_ones(()), *divisors]).detach()
    ranks, *denominators = (counts if reduce is None else reduce(counts)).unbind()
    parts = {}
    for (name, term), count in zip(terms.items(), denominators, strict=True):
        denominator = count + 1 if name in one_more else count.clamp(min=1)
        parts[name] = term.value * (ranks / denominator).to(term.value.dtype)
    return parts


def classes(trimap: Tensor) -> Tensor:
    """Class indices ``[B, H, W]`` of a trimap ``[B, 1, H, W]``: 0 for 0, 2 for 255, 1 for everything between."""
    return ((trimap > 0).long() + (trimap >= FOREGROUND).long())[:, 0]


def cross_entropy(logits: Tensor, trimap: Tensor, trust: Tensor | None = None) -> Term:
    """Cross-entropy of logits ``[B, 3, H, W]`` with the classes of a trimap ``[B, 1, H, W]``, per pixel."""
    target = classes(trimap)
    if trust is None:
        value = F.cross_entropy(logits, target, reduction="sum")
    else:
        value = (F.cross_entropy(logits, target, reduction="none") * trust[:, 0]).sum()
    return Term(value, _count(target.numel(), logits))


def alpha_loss(pred: Tensor, alpha: Tensor, mask: Tensor | None = None) -> Term:
    """``sqrt(((pred - alpha) mask)^2 + 1e-12)``, summed over *all* pixels; alphas are ``[B, 1, H, W]``, 0..1.

    ``mask``, ``[B, 1, H, W]``, 0 or 1, says where differences count, and which pixels :attr:`Term.divisor` counts
    (publication: divide by one more than that). None: everywhere.
    """
    difference = pred - alpha
    count = _count(difference.numel(), pred)
    if mask is not None:
        difference = difference * mask
        count = mask.sum(dtype=torch.int64)
    return Term(torch.sqrt(difference.square() + _SMOOTH).sum(), count)


def laplacian(pred: Tensor, alpha: Tensor) -> Term:
    """Mean absolute difference of the Laplacian pyramids, summed over five levels, the residual, and the pictures.

    Alphas are ``[B, 1, H, W]``, 0..1, H and W at least 32.
    """
    # The pyramid is linear: that of the difference is the difference of the pyramids. Pictures stand where channels
    # do, since PyTorch's gradient of a depthwise convolution is 16 times as fast as that of one with a single channel.
    current = (pred - alpha).transpose(0, 1)
    if not len(pred):  # nothing is labelled: zero, with a gradient
        return Term(current.sum(), _count(0, pred))
    kernel = _kernel(current).expand(len(pred), 1, 5, 5)
    loss = current.new_zeros(())
    for _ in range(_LEVELS):
        blurred = F.conv2d(F.pad(current, (2, 2, 2, 2), mode="replicate"), kernel, groups=len(pred))
        loss = loss + (current - blurred).abs().mean(dim=(2, 3)).sum()
        current = F.avg_pool2d(blurred, 2)
    loss = loss + current.abs().mean(dim=(2, 3)).sum()
    return Term(loss, _count(len(pred), pred))


def composition(
    pred: Tensor, image: Tensor, foreground: Tensor, background: Tensor, has_colours: Tensor | None = None
) -> Term:
    """``sqrt((pred F + (1 - pred) B - I)^2 + 1e-12)``, summed over the three channels, per pixel.

    ``pred`` is ``[B, 1, H, W]``, 0..1; the pictures, ``[B, 3, H, W]``, are normalised alike; those of them count for
    which ``has_colours``, ``[B]``, is true. None: all.
    """
    difference = pred * foreground + (1 - pred) * background - image
    loss = torch.sqrt(difference.square() + _SMOOTH).sum(dim=(1, 2, 3))
    kept = torch.ones_like(loss) if has_colours is None else has_colours.to(loss.dtype)
    return Term((loss * kept).sum(), kept.sum(dtype=torch.int64) * pred.shape[1:].numel())


def _terms(output: P3MOutput, batch: Batch) -> dict[str, Term]:
    unknown = (batch.trimap == UNKNOWN).to(output.alpha.dtype)
    trust, alpha, local = batch.trust, output.alpha, output.local_alpha
    if trust is not None:  # what is not known counts as said rightly
        alpha, local = (torch.lerp(batch.alpha, pred, trust) for pred in (alpha, local))
    if batch.foreground is None or batch.background is None:
        coloured = Term(output.alpha.new_zeros(()), _count(0, output.alpha))
    else:
        coloured = composition(alpha, batch.image, batch.foreground, batch.background, batch.has_colours)
    logits = {"cross_entropy": output.global_logits, **{name: getattr(output, name) for name in _SIDES}}
    return {
        **{name: cross_entropy(values, batch.trimap, trust) for name, values in logits.items()},
        "alpha_unknown": alpha_loss(local, batch.alpha, unknown),
        "laplacian_unknown": laplacian(local * unknown, batch.alpha * unknown),
        "alpha_whole": alpha_loss(alpha, batch.alpha),
        "laplacian_whole": laplacian(alpha, batch.alpha),
        "composition": coloured,
    }


def _kernel(like: Tensor) -> Tensor:
    """``[1, 1, 5, 5]``: the published one, which adds the two axes' Gaussians where a usual one multiplies them."""
    axis = torch.exp(-((torch.arange(5, device=like.device, dtype=like.dtype) - 2) ** 2) / 2) ** 2
    kernel = axis[:, None] + axis[None, :]
    return (kernel / kernel.sum())[None, None]


def _count(number: int, like: Tensor) -> Tensor:
    return torch.tensor(number, dtype=torch.int64, device=like.device)
