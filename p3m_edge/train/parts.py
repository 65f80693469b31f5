"""What a training works with: prepared as the request names it, put together on the device, stored and restored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from p3m_edge.errors import CheckpointError, InputError, UsageError
from p3m_edge.model.checkpoint import read_checkpoint
from p3m_edge.model.p3mnet import P3MNet, build
from p3m_edge.train import config as configs
from p3m_edge.train import optim, origin, qat, state
from p3m_edge.train.config import Config
from p3m_edge.train.dataset import Order
from p3m_edge.train.distill import Distillation, Projection, Teacher, open_teacher
from p3m_edge.train.encoder_weights import EncoderReport, load_encoder
from p3m_edge.train.feature_paste import FeaturePaste
from p3m_edge.train.inputs import Inputs, open_inputs
from p3m_edge.train.request import TrainPlan, TrainRequest
from p3m_edge.train.state import STATE, Progress, State

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class Prepared:
    """What a request names, checked, and what is planned with it.

    Attributes
    ----------
    stored
        The state that the run goes on from; None for a new one.
    network
        With its first weights, on the CPU.
    started
        What the run was started with, as text: see :mod:`p3m_edge.train.origin`.
    """

    request: TrainRequest
    inputs: Inputs
    stored: State | None
    teacher: Teacher | None
    network: P3MNet
    started: dict[str, str]
    plan: TrainPlan


def prepare(request: TrainRequest, device: str, ranks: int) -> Prepared:
    """Open and check all that a request names, for so many processes on devices of a kind.

    Raises
    ------
    P3MEdgeError
        Something cannot be used, or does not fit together.
    """
    config = request.config
    try:
        inputs = open_inputs(request.data, request.faces, config, request.unlabelled)
    except InputError as error:
        raise origin.with_moved_hint(error, request) if request.resume else error from None
    stored = state.load(request.out / STATE) if request.resume else None
    teacher = open_teacher(request, stored)
    torch.manual_seed(config.run.seed)  # the same first weights in every process
    network = build(config.model.arch)
    report, first = _first_weights(network, request)
    if stored is None:
        started = origin.record(request, inputs, first, teacher)
    else:
        started = origin.check_moved(request, stored.inputs, configs.restored(stored.config), inputs)
    _paste(network, config)
    order = Order(len(inputs.train), config.run.batch, config.run.seed, ranks=ranks)
    steps = config.run.epochs * order.steps
    plan = TrainPlan(
        arch=config.model.arch,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        device=device,
        processes=ranks,
        data=inputs.description,
        faces=inputs.faces.licence if inputs.faces is not None else None,
        blurred=inputs.blurred,
        pictures=order.count,
        held_out=len(inputs.held_out),
        judged_by="ground truth" if inputs.labelled else "the teacher",
        batch=order.batch * ranks,
        steps_per_epoch=order.steps,
        steps=min(steps, config.run.max_steps or steps),
        first_step=0 if stored is None else stored.step,
        qat=config.qat.enabled,
        encoder=report,
        teacher=None if teacher is None else teacher.info,
    )
    return Prepared(request, inputs, stored, teacher, network, started, plan)


class Parts:
    """What the loop works with, on its device.

    Attributes
    ----------
    network, optimizer
        The bare ones.
    wrapped, stepper
        The same as Fabric wraps them.
    average
        The averaged weights; None without.
    paste, distillation
        P3M-FCP and the teacher; None without.
    projection
        The bare map from the network's features to the teacher's, which learns but is not kept in weights; or None.
    order
        Of the training's pictures.
    """

    def __init__(self, prepared: Prepared, fabric: Fabric) -> None:
        config, inputs, teacher = prepared.request.config, prepared.inputs, prepared.teacher
        self.prepared, self.config, self.fabric = prepared, config, fabric
        network = prepared.network
        if config.qat.enabled and teacher is not None:  # a run that goes on finds the same quantisers in them
            network = qat.quantised(teacher.network, qat.Calibration(inputs, config))
        if config.run.channels_last:
            network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if config.run.sync_batchnorm:
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        self.network = network
        self.projection: Projection | None = None
        if teacher is not None and config.distillation.features:
            self.projection = Projection(network, teacher.network, config.distillation.levels).to(fabric.device)
        for part in config.optim.frozen:
            network.get_submodule(part).requires_grad_(requires_grad=False)
        projected = () if self.projection is None else self.projection.parameters()
        self.optimizer = optim.optimizer(network, projected, config.optim)
        self.wrapped, self.stepper = fabric.setup(network, self.optimizer)
        self.average: AveragedModel | None = None
        if config.optim.ema:
            function = get_ema_multi_avg_fn(config.optim.ema)  # type: ignore[no-untyped-call]
            self.average = AveragedModel(network, multi_avg_fn=function, use_buffers=True)
        if config.model.drop_path:
            optim.add_drop_path(network, config.model.drop_path)
        torch.manual_seed(int(np.random.SeedSequence([config.run.seed, fabric.global_rank]).generate_state(1)[0]))
        self.paste = _paste(network, config)
        self.distillation: Distillation | None = None
        if teacher is not None:
            wrapped = None if self.projection is None else fabric.setup_module(self.projection)
            self.distillation = Distillation(teacher.network.to(fabric.device), wrapped, config.distillation)
        run, ranks = config.run, fabric.world_size
        self.order = Order(len(inputs.train), run.batch, run.seed, fabric.global_rank, ranks)
        self.licence = origin.licence(config, inputs, teacher)
        self.provenance = origin.Provenance(config, inputs, teacher, prepared.started["start"])

    @property
    def folder(self) -> Path:
        """Of the run."""
        return self.prepared.request.out

    @property
    def eval_network(self) -> P3MNet:
        """The network to validate and to keep: the averaged one, if there is one."""
        return self.network if self.average is None else cast("P3MNet", self.average.module)

    def stored(self, progress: Progress) -> State:
        """The state of all processes; each of them calls it."""
        rng = [state.rng_states(self.fabric.device)] * self.order.ranks
        if self.order.ranks > 1:
            torch.distributed.all_gather_object(rng, rng[0])
        return State(
            arch=self.network.arch,
            config=configs.to_table(self.config),
            inputs=self.prepared.started,
            model=self.network.state_dict(),
            ema={} if self.average is None else self.average.state_dict(),
            projection={} if self.projection is None else self.projection.state_dict(),
            optimizer=self.optimizer.state_dict(),
            scaler=self.fabric.strategy.precision.state_dict(),
            rng=rng,
            **vars(progress),
        )

    def restore(self, stored: State) -> Progress:
        """Put everything back where a state says.

        Raises
        ------
        UsageError
            It is of another number of processes, or another data set.
        CheckpointError
            It does not fit the network.
        """
        if len(stored.rng) != self.order.ranks:
            raise UsageError(
                f"the run has {len(stored.rng)} processes, not {self.order.ranks}", hint="start as many again"
            )
        if stored.inputs["digest"] != self.prepared.inputs.digest:
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
            state.restore_rng(stored.rng[self.order.rank], self.fabric.device)
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            told = " ".join(str(error).split())[:200]
            raise CheckpointError(f"the training state {self.folder / STATE} does not fit: {told}") from error
        return Progress(**{name: getattr(stored, name) for name in vars(Progress())})


def _first_weights(network: P3MNet, request: TrainRequest) -> tuple[EncoderReport | None, str]:
    """Load what the network starts from; the report of encoder weights, and the line for the provenance."""
    if request.encoder_weights is not None and request.weights is not None:
        raise UsageError("--weights holds an encoder already", hint="leave out --encoder-weights")
    if request.encoder_weights is not None:
        return load_encoder(network, request.encoder_weights), f"encoder started from {request.encoder_weights.name}"
    if request.weights is None:
        return None, "encoder started from random weights"
    start, info = read_checkpoint(request.weights)
    if info.arch != network.arch:
        raise UsageError(f"{request.weights} is a {info.arch}, not a {network.arch}", hint="set model.arch")
    network.load_state_dict(start.state_dict())
    return None, f"started from {request.weights.name} (sha256 {info.sha256}: {info.provenance})"


def _paste(network: P3MNet, config: Config) -> FeaturePaste | None:
    """P3M-FCP, if it is wanted."""
    return FeaturePaste(network, **vars(config.feature_paste)) if "fcp" in config.copy_paste.methods else None
