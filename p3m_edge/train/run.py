"""A training from request to result: puts the parts together, starts anew or goes on, and says what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from p3m_edge.benchmarks.report import charts
from p3m_edge.errors import CheckpointError, InputError, P3MEdgeError, UsageError
from p3m_edge.model.checkpoint import read_checkpoint
from p3m_edge.model.p3mnet import P3MNet, build
from p3m_edge.train import config as configs
from p3m_edge.train import folder, launch, moved, optim, qat, state
from p3m_edge.train.config import Config
from p3m_edge.train.dataset import Portraits
from p3m_edge.train.distillation import Distillation, Projection
from p3m_edge.train.drop_path import add_drop_path
from p3m_edge.train.encoder_weights import EncoderReport, load_encoder
from p3m_edge.train.feature_paste import FeaturePaste
from p3m_edge.train.inputs import Inputs, open_inputs
from p3m_edge.train.loader import Feed
from p3m_edge.train.logs import Logs
from p3m_edge.train.loop import Loop, Reporter
from p3m_edge.train.order import Order
from p3m_edge.train.parts import Parts, Progress
from p3m_edge.train.provenance import Provenance, licence, started, warnings
from p3m_edge.train.request import TrainPlan, TrainRequest, TrainResult
from p3m_edge.train.state import STATE, State
from p3m_edge.train.teacher import Teacher, open_teacher

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_LOST = ("by peer", "gloo", "NCCL")  # in what PyTorch says when processes cannot talk to each other any more
# What may differ when a run goes on; all else would make another training of it.
CHANGEABLE = (
    "run.epochs", "run.max_steps", "run.device", "run.devices", "run.checkpoint_every", "run.licence", "data.workers",
    "data.cache_mb", "data.max_unreadable", "validation.every", "validation.patience", "validation.sheet", "log.every",
    "log.tensorboard", *moved.SETTINGS,
)  # fmt: skip


def resumed(out: Path, overrides: Iterable[str], places: Mapping[str, str] | None = None) -> TrainRequest:
    """The request that goes on with the run in ``out``, with some settings changed.

    Parameters
    ----------
    out, overrides
        The run's folder; the settings.
    places
        Where what the run was started with is now, by :data:`p3m_edge.train.moved.OPTIONS`.

    Raises
    ------
    CheckpointError
        There is no state, or it cannot be used.
    UsageError
        A setting cannot be changed any more, or the run was started without what has a new place.
    """
    stored = state.load(out / STATE)
    try:
        before = configs.restored(stored.config)
    except UsageError as error:
        raise CheckpointError(f"the settings in {out / STATE} cannot be used: {error}") from error
    config = configs.overridden(before, overrides)
    old, new = configs.to_table(before), configs.to_table(config)
    for name in configs.names():
        section, key = name.split(".")
        if old[section][key] != new[section][key] and name not in CHANGEABLE:
            raise UsageError(f"{name} cannot be changed when a run goes on", hint=f"these can: {', '.join(CHANGEABLE)}")
    for name in places or ():
        if not stored.inputs.get(name):
            raise UsageError(f"the run was started without --{name}", hint="leave it out")
    given = {name: (places or {}).get(name) or stored.inputs.get(name) or None for name in moved.OPTIONS}
    teacher = given["teacher"]
    return TrainRequest(
        config,
        given["data"],
        out,
        given["faces"],
        resume=True,
        teacher=None if teacher is None else Path(teacher),
        unlabelled=given["unlabelled"],
    )


def plan(request: TrainRequest) -> TrainPlan:
    """Check everything that can be checked beforehand, and say what :func:`train` would do; raises as it does."""
    folder.check(request)
    qat.check(request)
    name = launch.device_name(request.config.run)
    here, machines = launch.processes(request.config.run)
    inputs = _inputs(request)
    network = build(request.config.model.arch)
    _paste(network, request.config)
    report, _ = _first_weights(network, request)
    stored = state.load(request.out / STATE) if request.resume else None
    teacher = open_teacher(request, stored)
    if stored is not None:
        moved.checked(request, stored.inputs, configs.restored(stored.config), inputs)
    order = _order(request.config, inputs, 0, here * machines)
    return _plan(request, inputs, order, name, network, report, stored, teacher)


def train(request: TrainRequest, reporter: Reporter) -> TrainResult | None:
    """Train; every process calls it, and the first one gets the result.

    Raises
    ------
    P3MEdgeError
        See :meth:`p3m_edge.train.loop.Loop.run`, :func:`p3m_edge.train.inputs.open_inputs`,
        :func:`p3m_edge.train.launch.fabric` and :func:`resumed`.
    """
    folder.check(request)
    qat.check(request)
    fabric = launch.fabric(request.config.run)
    with folder.claimed(request, fabric):
        return _train(request, reporter, fabric)


def _train(request: TrainRequest, reporter: Reporter, fabric: Fabric) -> TrainResult | None:
    config = request.config
    inputs = _inputs(request)
    stored = state.load(request.out / STATE) if request.resume else None
    teacher = open_teacher(request, stored)
    parts, report = _parts(request, fabric, inputs, stored, teacher)
    progress = Progress()
    if stored is not None:
        progress = _restore(stored, parts, inputs, request.out / STATE)
    planned = _plan(request, inputs, parts.order, fabric.device.type, parts.network, report, stored, teacher)
    if fabric.is_global_zero:
        folder.make(request, planned)
        for line in warnings(inputs, request.unlabelled):
            reporter.warn(line)
    fabric.barrier()
    feed = Feed(
        Portraits(inputs.train, inputs.faces, config),
        parts.order,
        progress.step,
        parts.steps,
        workers=config.data.workers,
        pin=fabric.device.type == "cuda",
    )
    writes = fabric.is_global_zero
    if writes:
        charts.require()  # for the curve, which comes hours later
    with Logs(request.out, progress.step, tensorboard=config.log.tensorboard) if writes else nullcontext() as logs:
        loop = Loop(parts, logs, reporter, progress)
        try:
            loop.run(feed)
        except RuntimeError as error:
            if not any(word in str(error) for word in _LOST):
                raise
            raise P3MEdgeError(
                "another process of the training has ended; what it said is above", hint="--resume goes on"
            ) from error
    return _result(planned, loop) if writes else None


def _parts(
    request: TrainRequest, fabric: Fabric, inputs: Inputs, stored: State | None, teacher: Teacher | None
) -> tuple[Parts, EncoderReport | None]:
    config = request.config
    torch.manual_seed(config.run.seed)  # the same first weights in every process
    network = build(config.model.arch)
    report, first = _first_weights(network, request)
    if stored is None:
        started_with = started(request, inputs, first, teacher)
    else:
        started_with = moved.checked(request, stored.inputs, configs.restored(stored.config), inputs)
    if config.qat.enabled and teacher is not None:  # a run that goes on finds the same quantisers in the same weights
        network = qat.quantised(teacher.network, qat.Calibration(inputs, config))
    if config.run.channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if config.run.sync_batchnorm:
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    projection = None
    if teacher is not None and config.distillation.features:
        projection = Projection(network, teacher.network, config.distillation.levels).to(fabric.device)
    for part in config.optim.frozen:
        network.get_submodule(part).requires_grad_(requires_grad=False)
    optimizer = optim.optimizer(network, () if projection is None else projection.parameters(), config.optim)
    wrapped, stepper = fabric.setup(network, optimizer)
    average = optim.Average(network, config.optim.ema)
    if config.model.drop_path:
        add_drop_path(network, config.model.drop_path)
    torch.manual_seed(int(np.random.SeedSequence([config.run.seed, fabric.global_rank]).generate_state(1)[0]))
    parts = Parts(
        config=config,
        fabric=fabric,
        network=network,
        optimizer=optimizer,
        wrapped=wrapped,
        stepper=stepper,
        average=average,
        paste=_paste(network, config),
        distillation=None if teacher is None else _distillation(teacher, projection, fabric, config),
        projection=projection,
        order=_order(config, inputs, fabric.global_rank, fabric.world_size),
        held_out=inputs.held_out,
        folder=request.out,
        licence=licence(config, inputs, teacher),
        provenance=Provenance(config, inputs, teacher, started_with["start"]),
        inputs=started_with,
    )
    return parts, report


def _inputs(request: TrainRequest) -> Inputs:
    try:
        return open_inputs(request.data, request.faces, request.config, request.unlabelled)
    except InputError as error:
        raise moved.hinted(error, request) if request.resume else error from None


def _distillation(teacher: Teacher, projection: Projection | None, fabric: Fabric, config: Config) -> Distillation:
    """The teacher on the training's device."""
    network = teacher.network.to(fabric.device)
    wrapped = None if projection is None else fabric.setup_module(projection)
    return Distillation(network, wrapped, config.distillation)


def _paste(network: P3MNet, config: Config) -> FeaturePaste | None:
    """P3M-FCP, if it is wanted."""
    return FeaturePaste(network, **vars(config.feature_paste)) if "fcp" in config.copy_paste.methods else None


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


def _restore(stored: State, parts: Parts, inputs: Inputs, path: Path) -> Progress:
    """Put everything back where the state says."""
    if len(stored.rng) != parts.order.ranks:
        raise UsageError(
            f"the run has {len(stored.rng)} processes, not {parts.order.ranks}", hint="start as many again"
        )
    if stored.inputs.get("digest") != inputs.digest:
        raise UsageError(
            "the data set is not the one that the run was started with", hint="files were added or removed"
        )
    state.check_architecture(stored, parts.network.arch, path)
    try:
        parts.network.load_state_dict(stored.model)
        parts.average.load_state_dict(stored.ema)
        if parts.projection is not None:
            parts.projection.load_state_dict(stored.projection)
        parts.optimizer.load_state_dict(stored.optimizer)
        parts.fabric.strategy.precision.load_state_dict(stored.scaler)
        state.restore_rng(stored.rng[parts.order.rank], parts.fabric.device)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"the training state {path} does not fit: {' '.join(str(error).split())[:200]}"
        ) from error
    return Progress(**{name: getattr(stored, name) for name in vars(Progress())})


def _order(config: Config, inputs: Inputs, rank: int, ranks: int) -> Order:
    return Order(len(inputs.train), config.run.batch, config.run.seed, rank, ranks)


def _plan(
    request: TrainRequest,
    inputs: Inputs,
    order: Order,
    device: str,
    network: nn.Module,
    report: EncoderReport | None,
    stored: State | None,
    teacher: Teacher | None,
) -> TrainPlan:
    run = request.config.run
    steps = run.epochs * order.steps
    return TrainPlan(
        arch=request.config.model.arch,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        device=device,
        processes=order.ranks,
        data=inputs.description,
        faces=inputs.faces.licence if inputs.faces is not None else None,
        blurred=inputs.blurred,
        pictures=order.count,
        held_out=len(inputs.held_out),
        judged_by="ground truth" if inputs.labelled else "the teacher",
        batch=order.batch * order.ranks,
        steps_per_epoch=order.steps,
        steps=min(steps, run.max_steps) if run.max_steps else steps,
        first_step=0 if stored is None else stored.step,
        qat=request.config.qat.enabled,
        encoder=report,
        teacher=None if teacher is None else teacher.info,
    )


def _result(planned: TrainPlan, loop: Loop) -> TrainResult:
    progress, out = loop.progress, loop.parts.folder
    return TrainResult(
        plan=planned,
        folder=out,
        reason=loop.reason,
        step=progress.step,
        losses=loop.losses,
        best_sad=progress.best,
        best_step=progress.best_step,
        seconds=loop.seconds,
        pictures_per_second=loop.pictures / loop.seconds if loop.seconds else 0.0,
        data_wait=loop.waited / loop.seconds if loop.seconds else 0.0,
        unreadable=progress.unreadable,
        best=out / "best.safetensors",
        last=out / "last.safetensors",
    )
