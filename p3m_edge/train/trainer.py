"""The network on its device with what trains it: a step, and the state that goes to disc and comes back."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from p3m_edge.errors import CheckpointError, P3MEdgeError, UsageError
from p3m_edge.model.p3mnet import P3MNet, P3MOutput
from p3m_edge.train import config as configs
from p3m_edge.train import optim, qat, state
from p3m_edge.train.dataset import Pictures, Sampler, normalise, to_batch
from p3m_edge.train.distill import TOTAL, Distillation, Projection, Teacher, recorded_features
from p3m_edge.train.feature_paste import FeaturePaste
from p3m_edge.train.inputs import STEP, Inputs, rng_for
from p3m_edge.train.launch import StopRequest
from p3m_edge.train.losses import total
from p3m_edge.train.request import TrainPlan, TrainRequest
from p3m_edge.train.state import STATE, Progress, State

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class Setup:
    """What a training works with, still on the CPU.

    Attributes
    ----------
    stored
        The state that the run goes on from; None for a new one.
    network
        With its first weights.
    paste
        P3M-FCP on it; None without.
    sampler
        Of the training's pictures, for this process.
    started
        What the run was started with, as text: see :mod:`p3m_edge.train.origin`.
    """

    request: TrainRequest
    inputs: Inputs
    stored: State | None
    teacher: Teacher | None
    network: P3MNet
    paste: FeaturePaste | None
    sampler: Sampler
    started: dict[str, str]
    plan: TrainPlan


class Trainer:
    """One process's part of a training, from the state that the run goes on from, if any.

    Attributes
    ----------
    network, optimizer
        The bare ones; Fabric's wrappers are private.
    average
        The averaged weights; None without.
    distillation
        The teacher; None without.
    projection
        The bare map from the network's features to the teacher's, which learns but is not kept in weights; or None.
    progress
        How far it has come.
    losses, rate
        Of the last step: over all processes, by name, with the gradient's norm; and how fast the decoders learned.

    :class:`UsageError` if the state is of another number of processes, or another data set; :class:`CheckpointError` if
    it does not fit the network.
    """

    def __init__(self, setup: Setup, fabric: Fabric) -> None:
        config, teacher, network = setup.request.config, setup.teacher, setup.network
        self.setup, self.config, self.fabric, self.sampler = setup, config, fabric, setup.sampler
        if config.qat.enabled and teacher is not None:  # a run that goes on finds the same quantisers in them
            network = qat.quantised(teacher.network, qat.calibration(setup.inputs, config))
        if config.run.channels_last:
            network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing among PyTorch's overloads
        self.network = network
        self.projection: Projection | None = None
        if teacher is not None and config.distillation.features:
            self.projection = Projection(network, teacher.network, config.distillation.levels).to(fabric.device)
        for part in config.optim.frozen:
            network.get_submodule(part).requires_grad_(requires_grad=False)
        projected = () if self.projection is None else self.projection.parameters()
        self.optimizer = optim.optimizer(network, projected, config.optim)
        self._wrapped, self._stepper = fabric.setup(network, self.optimizer)
        self.average: AveragedModel | None = None
        if config.optim.ema:
            function = get_ema_multi_avg_fn(config.optim.ema)  # type: ignore[no-untyped-call]  # PyTorch's, without types
            self.average = AveragedModel(network, multi_avg_fn=function, use_buffers=True)
        optim.set_drop_path(network, config.model.drop_path)
        torch.manual_seed(int(np.random.SeedSequence([config.run.seed, self.sampler.rank]).generate_state(1)[0]))
        self.distillation: Distillation | None = None
        if teacher is not None:
            wrapped = None if self.projection is None else fabric.setup_module(self.projection)
            self.distillation = Distillation(teacher.network.to(fabric.device), wrapped, config.distillation)
        self.losses: dict[str, float] = {}
        self.rate = 0.0
        self.progress = Progress() if setup.stored is None else self._restore(setup.stored)
        optim.train_mode(network, freeze_batchnorm=config.run.freeze_batchnorm, frozen=config.optim.frozen)

    @property
    def eval_network(self) -> P3MNet:
        """The network to validate and to keep: the averaged one, if there is one."""
        return self.network if self.average is None else cast("P3MNet", self.average.module)

    def step(self, pictures: Pictures, request: StopRequest) -> tuple[bool, int]:
        """One step of all processes: whether any of them was asked to stop, and how many pictures were unreadable.

        :class:`P3MEdgeError` if a loss or gradient is not finite; the batch is saved.
        """
        config, fabric = self.config.optim, self.fabric
        self.rate = optim.set_rate(self.optimizer, config, self.progress.step, self.setup.plan.steps)
        losses = self._losses(fabric.to_device(pictures))
        told = [float(request.asked), float(len(pictures.unreadable))]  # what all must know is summed with the losses
        values = torch.stack([loss.detach() for loss in losses.values()])
        *summed, stop, unreadable = self.sum(torch.cat([values, values.new_tensor(told)])).tolist()
        self.losses = {name: value / self.sampler.ranks for name, value in zip(losses, summed, strict=True)}
        self._require_finite("total", "the loss", pictures)
        fabric.backward(losses["total"])
        clip = config.clip_norm or float("inf")
        norm = fabric.clip_gradients(self._wrapped, self._stepper, max_norm=clip, error_if_nonfinite=False)
        self.losses["grad_norm"] = float(norm) if norm is not None else 0.0
        if getattr(fabric.strategy.precision, "scaler", None) is None:  # a scaler leaves such a step out by itself
            self._require_finite("grad_norm", "the gradient", pictures)
        self._stepper.step()
        self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update_parameters(self.network)
        self.progress.step += 1
        return bool(stop), int(unreadable)

    def sum(self, values: Tensor) -> Tensor:
        """Sum over the processes."""
        if self.sampler.ranks == 1:
            return values
        summed: Tensor = self.fabric.all_reduce(values, reduce_op="sum")  # type: ignore[assignment]  # of a tensor it is one
        return summed

    def state(self) -> State:
        """The state of all processes; each of them calls it."""
        rng = [state.rng_states(self.fabric.device)] * self.sampler.ranks
        if self.sampler.ranks > 1:
            torch.distributed.all_gather_object(rng, rng[0])
        return State(
            arch=self.network.arch,
            config=configs.to_table(self.config),
            inputs=self.setup.started,
            model=self.network.state_dict(),
            ema={} if self.average is None else self.average.state_dict(),
            projection={} if self.projection is None else self.projection.state_dict(),
            optimizer=self.optimizer.state_dict(),
            scaler=self.fabric.strategy.precision.state_dict(),
            rng=rng,
            **vars(self.progress),
        )

    def _restore(self, stored: State) -> Progress:
        """Put everything back where a state says."""
        if len(stored.rng) != self.sampler.ranks:
            raise UsageError(
                f"the run has {len(stored.rng)} processes, not {self.sampler.ranks}", hint="start as many again"
            )
        if stored.inputs["digest"] != self.setup.inputs.digest:
            raise UsageError(
                "the data set is not the one that the run was started with", hint="files were added or removed"
            )
        try:
            self.network.load_state_dict(stored.model)
            if self.average is not None:
                self.average.load_state_dict(stored.ema)
            if self.projection is not None:
                self.projection.load_state_dict(stored.projection)
            self.optimizer.load_state_dict(stored.optimizer)
            self.fabric.strategy.precision.load_state_dict(stored.scaler)
            state.restore_rng(stored.rng[self.sampler.rank], self.fabric.device)
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            told, path = " ".join(str(error).split())[:200], self.setup.request.out / STATE
            raise CheckpointError(f"the training state {path} does not fit: {told}") from error
        return Progress(**{name: getattr(stored, name) for name in vars(Progress())})

    def _losses(self, pictures: Pictures) -> dict[str, Tensor]:
        """Of a batch on its device, by name; ``total`` is what is to be small."""
        batch, paste, step = to_batch(pictures), self.setup.paste, self.progress.step
        epoch = step // self.sampler.steps
        with ExitStack() as stack:
            if paste is not None and epoch >= paste.from_epoch:
                faces, masks = normalise(pictures.source_image), pictures.source_mask
                rng = rng_for(STEP, self.config.run.seed, step, self.sampler.rank)
                stack.enter_context(self.fabric.autocast())
                stack.enter_context(paste.apply(faces, masks, pictures.face_mask, rng, epoch=epoch))
            features = stack.enter_context(recorded_features(self.network.encoder))
            output: P3MOutput = self._wrapped(batch.image)
        losses = total(output, batch, self.sum)
        if self.distillation is None:
            return losses
        with self.fabric.autocast():
            taught = self.distillation.losses(output, features[-1], batch.image, self.sum)
        return {**losses, **taught, "total": losses["total"] + taught[TOTAL]}

    def _require_finite(self, loss: str, what: str, pictures: Pictures) -> None:
        if np.isfinite(self.losses[loss]):
            return
        step = self.progress.step
        path = self.setup.request.out / f"not-finite-step-{step}-rank-{self.sampler.rank}.npz"
        kept: dict[str, Any] = {
            name: x.cpu().numpy() for name, x in pictures._asdict().items() if isinstance(x, Tensor)
        }
        np.savez_compressed(path, names=np.array(pictures.names), **kept)
        told = ", ".join(f"{name} {value:.4g}" for name, value in self.losses.items())
        raise P3MEdgeError(
            f"{what} is not finite in step {step} ({told}); the batch is kept in {path}",
            hint="a lower optim.lr, optim.clip_norm=1, run.precision=32-true; --resume goes on from the last state",
        )
