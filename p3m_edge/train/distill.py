"""Distillation: a network learns from what a larger one says of the same pictures, which need no mattes for that.

The global logits are compared as soft targets (Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network,
arXiv 1503.02531, section 2), the alphas as the published losses compare them with the truth, and, as an option, the
encoders' features through a learned map (Romero et al., FitNets, arXiv 1412.6550, section 2.2). Both networks get the
same input, after augmentation. All pictures of a batch count, whether they have mattes or not.

Shape legend: B pictures of H x W pixels; C channels of a level of h x w.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from p3m_edge.errors import CheckpointError, UsageError
from p3m_edge.model.checkpoint import CheckpointInfo, read_checkpoint
from p3m_edge.model.layers import Features
from p3m_edge.model.p3mnet import P3MNet, P3MOutput
from p3m_edge.train import config
from p3m_edge.train.losses import Term, alpha_loss, divided, laplacian
from p3m_edge.train.request import TrainRequest
from p3m_edge.train.state import STATE, State

TOTAL = "teacher"
_UNKNOWN_CLASS = 1
_PROBE = 64  # side of the picture that tells the widths of the levels


class Teacher(NamedTuple):
    """A network, of any architecture, and what its file says."""

    network: P3MNet
    info: CheckpointInfo


def open_teacher(request: TrainRequest, stored: State | None) -> Teacher | None:
    """Read the teacher, if the request names one; a run that goes on from ``stored`` needs the same, bit for bit.

    :class:`CheckpointError` if the file is missing, or no checkpoint; :class:`UsageError` if the teacher has nothing to
    teach, or nothing to teach with, or is another one than the run was started with.
    """
    path, settings = request.teacher, request.config.distillation
    if path is None:
        if request.unlabelled is not None:
            raise UsageError("pictures without mattes need a teacher", hint="--teacher CKPT")
        return None
    if path.name == STATE:
        raise UsageError(f"{path} is the state of a training, no checkpoint", hint="best.safetensors is beside it")
    try:
        teacher = Teacher(*read_checkpoint(path))
    except CheckpointError as error:
        raise CheckpointError(f"there is no teacher: {error}", hint=error.hint) from error
    if stored is not None and stored.inputs.get("teacher_sha256") != teacher.info.sha256:
        raise UsageError(f"{path} is not the teacher that the run was started with", hint="put the file back")
    if not teacher.info.trained and not settings.standin:
        raise UsageError(
            f"the teacher {path} holds stand-in weights, which nobody trained",
            hint="for a trial: --set distillation.standin=true",
        )
    if not any((settings.alpha, settings.local, settings.logits, settings.features)):
        raise UsageError("the teacher teaches nothing: all weights are 0", hint="distillation.alpha=3, for example")
    if request.config.qat.enabled or request.data is not None or request.weights is None:
        return teacher  # quantisation-aware training starts as its own teacher, rounded
    if request.weights.read_bytes() == path.read_bytes():
        raise UsageError("the network starts as its own teacher, and there are no mattes to learn from", hint="--data")
    return teacher


class Projection(nn.Module):
    """A 1x1 convolution for each level, from the student's channels to the teacher's. It learns with the student.

    ``levels`` are different numbers from 2 to 5; level k has 1 / 2**k of the input's size.
    """

    def __init__(self, student: P3MNet, teacher: P3MNet, levels: Sequence[int]) -> None:
        super().__init__()
        widths = zip(_widths(student, levels), _widths(teacher, levels), strict=True)
        self.maps = nn.ModuleList(nn.Conv2d(ours, theirs, 1) for ours, theirs in widths)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """The student's features ``[B, C, h, w]``, level by level -> the same with the teacher's channels."""
        return [level(x) for level, x in zip(self.maps, features, strict=True)]


class Distillation:
    """The losses that a teacher adds.

    The teacher, on the training's device, is frozen and put into evaluation mode. ``projection`` is as Fabric wraps it,
    or None where features are not compared.
    """

    def __init__(self, teacher: P3MNet, projection: nn.Module | None, settings: config.Distillation) -> None:
        self.teacher = teacher.requires_grad_(requires_grad=False).eval()
        self.projection = projection
        self.settings = settings

    def losses(
        self, output: P3MOutput, features: Features, image: Tensor, reduce: Callable[[Tensor], Tensor] | None = None
    ) -> dict[str, Tensor]:
        """The parts, and last their weighted sum, from the student's input ``[B, 3, H, W]`` and what it made of it.

        ``reduce`` is that of :func:`p3m_edge.train.losses.total`.
        """
        settings = self.settings
        with torch.no_grad(), recorded_features(self.teacher.encoder) as seen:
            taught: P3MOutput = self.teacher(image)
        projected = None if self.projection is None else self.projection(features_at(features, settings.levels))
        with torch.autocast(image.device.type, enabled=False):
            found = terms(output.float(), taught.float(), settings.temperature)
            if projected is not None:
                pairs = zip(projected, features_at(seen[-1], settings.levels), strict=True)
                found["teacher_features"] = feature_loss([(ours.float(), theirs.float()) for ours, theirs in pairs])
        parts = divided(found, reduce)
        return {**parts, TOTAL: weighted(parts, settings)}


def terms(output: P3MOutput, taught: P3MOutput, temperature: float) -> dict[str, Term]:
    """What is compared of the networks' outputs, all float32; the teacher's classes say where the unknown region is."""
    unknown = (taught.global_logits.argmax(dim=1, keepdim=True) == _UNKNOWN_CLASS).to(taught.alpha.dtype)
    return {
        "teacher_logits": divergence(output.global_logits, taught.global_logits, temperature),
        "teacher_alpha_unknown": alpha_loss(output.local_alpha, taught.local_alpha, unknown),
        "teacher_laplacian_unknown": laplacian(output.local_alpha * unknown, taught.local_alpha * unknown),
        "teacher_alpha_whole": alpha_loss(output.alpha, taught.alpha),
        "teacher_laplacian_whole": laplacian(output.alpha, taught.alpha),
    }


def divergence(logits: Tensor, taught: Tensor, temperature: float) -> Term:
    """Kullback-Leibler divergence of ``softmax(logits / T)`` from ``softmax(taught / T)``, times T^2, per pixel.

    The factor keeps the gradients' size while T changes (arXiv 1503.02531, section 2). Logits are ``[B, 3, H, W]``.
    """
    ours, theirs = (F.log_softmax(x / temperature, dim=1) for x in (logits, taught))
    value = F.kl_div(ours, theirs, reduction="sum", log_target=True) * temperature**2
    return Term(value, torch.tensor(logits[:, 0].numel(), device=logits.device))


def feature_loss(pairs: Sequence[tuple[Tensor, Tensor]]) -> Term:
    """Mean squared difference of features ``[B, C, h, w]``, summed over the levels and the pictures."""
    differences = [(ours - theirs).square().mean(dim=(1, 2, 3)) for ours, theirs in pairs]
    return Term(torch.stack(differences).sum(), torch.tensor(len(differences[0]), device=differences[0].device))


def weighted(parts: dict[str, Tensor], settings: config.Distillation) -> Tensor:
    """The sum of the parts, each with the weight that the settings give it."""
    whole = parts["teacher_alpha_whole"] + parts["teacher_laplacian_whole"]
    unknown = parts["teacher_alpha_unknown"] + parts["teacher_laplacian_unknown"]
    total = settings.alpha * whole + settings.local * unknown + settings.logits * parts["teacher_logits"]
    if "teacher_features" in parts:
        total = total + settings.features * parts["teacher_features"]
    return total


@contextmanager
def recorded_features(encoder: nn.Module) -> Iterator[list[Features]]:
    """What an encoder hands out, call by call, until the context is left."""
    seen: list[Features] = []
    hook = encoder.register_forward_hook(lambda _module, _inputs, features: seen.append(features))
    try:
        yield seen
    finally:
        hook.remove()


def features_at(features: Features, levels: Sequence[int]) -> list[Tensor]:
    """The features ``[B, C, h, w]`` of some levels, 2 to 5."""
    return [getattr(features, f"e{level - 1}") for level in levels]


def _widths(network: P3MNet, levels: Sequence[int]) -> list[int]:
    """The channels of an encoder's levels, as the features of an empty picture have them."""
    training, device = network.training, next(network.parameters()).device
    with torch.no_grad():
        features: Features = network.eval().encoder(torch.zeros((1, 3, _PROBE, _PROBE), device=device))
    network.train(training)
    return [x.shape[1] for x in features_at(features, levels)]
