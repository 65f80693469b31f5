"""A training from request to result: started anew or resumed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import nn

from p3m_edge.benchmarks.report import charts
from p3m_edge.errors import CheckpointError, InputError, P3MEdgeError, UsageError
from p3m_edge.model.checkpoint import read_checkpoint
from p3m_edge.model.p3mnet import P3MNet, build
from p3m_edge.train import config as configs
from p3m_edge.train import folder, launch, origin, qat, state
from p3m_edge.train.dataset import Batches, Sampler
from p3m_edge.train.distill import open_teacher
from p3m_edge.train.encoder_weights import EncoderReport, load_encoder
from p3m_edge.train.feature_paste import FeaturePaste
from p3m_edge.train.folder import Logs
from p3m_edge.train.inputs import open_inputs
from p3m_edge.train.loader import BatchLoader
from p3m_edge.train.loop import Loop
from p3m_edge.train.request import Reporter, TrainPlan, TrainRequest, TrainResult
from p3m_edge.train.state import STATE
from p3m_edge.train.trainer import Setup, Trainer

_LOST = ("by peer", "gloo", "NCCL")  # in what PyTorch says when processes cannot talk to each other any more
# What may differ when a run goes on; all else would make another training of it.
CHANGEABLE = (
    "run.epochs", "run.max_steps", "run.device", "run.devices", "run.checkpoint_every", "run.licence", "data.workers",
    "data.cache_mb", "data.max_unreadable", "validation.every", "validation.patience", "validation.sheet", "log.every",
    "log.tensorboard", *origin.SETTINGS,
)  # fmt: skip


def resumed(out: Path, overrides: Iterable[str], places: Mapping[str, str] | None = None) -> TrainRequest:
    """The request that goes on with the run in ``out``, with some settings changed.

    ``places`` says where what the run was started with is now, by :data:`p3m_edge.train.origin.OPTIONS`.
    :class:`CheckpointError` if there is no state, or it cannot be used; :class:`UsageError` if a setting cannot be
    changed any more, or the run was started without what has a new place.
    """
    stored = state.load(out / STATE)
    try:
        before = configs.restored(stored.config)
    except UsageError as error:
        raise CheckpointError(f"the settings in {out / STATE} cannot be used: {error}") from error
    config = configs.overridden(before, overrides)
    for name in configs.changed(before, config):
        if name not in CHANGEABLE:
            raise UsageError(f"{name} cannot be changed when a run goes on", hint=f"these can: {', '.join(CHANGEABLE)}")
    given = {name: stored.inputs.get(name) or None for name in origin.OPTIONS}
    for name, place in (places or {}).items():
        if given[name] is None:
            raise UsageError(f"the run was started without --{name}", hint="leave it out")
        given[name] = place
    teacher = None if given["teacher"] is None else Path(given["teacher"])
    return TrainRequest(
        config, given["data"], out, given["faces"], resume=True, teacher=teacher, unlabelled=given["unlabelled"]
    )


def plan(request: TrainRequest) -> TrainPlan:
    """Check everything that can be checked beforehand, and say what :func:`train` would do; raises as it does."""
    folder.check(request)
    qat.check(request)
    name = launch.device_name(request.config.run)
    here, machines = launch.processes(request.config.run)
    return prepare(request, name, 0, here * machines).plan


def prepare(request: TrainRequest, device: str, rank: int, ranks: int) -> Setup:
    """Open and check all that a request names, for process ``rank`` of so many, on devices of a kind.

    :class:`P3MEdgeError` of a kind if something cannot be used, or does not fit together.
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
    report, start = _load_weights(network, request)
    if stored is None:
        started = origin.record(request, inputs, start, teacher)
    else:
        started = origin.check_moved(request, stored.inputs, configs.restored(stored.config), inputs)
    if config.run.sync_batchnorm:
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]  # PyTorch's, without types
    pasting = "fcp" in config.copy_paste.methods
    paste = FeaturePaste(network, **vars(config.feature_paste)) if pasting else None
    sampler = Sampler(len(inputs.train), config.run.batch, config.run.seed, rank, ranks)
    steps = config.run.epochs * sampler.steps
    planned = TrainPlan(
        arch=config.model.arch,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        device=device,
        processes=ranks,
        data=inputs.description,
        faces=None if inputs.faces is None else inputs.faces.licence,
        blurred=inputs.blurred,
        pictures=sampler.count,
        held_out=len(inputs.held_out),
        judged_by="ground truth" if inputs.labelled else "the teacher",
        batch=sampler.batch * ranks,
        steps_per_epoch=sampler.steps,
        steps=min(steps, config.run.max_steps or steps),
        first_step=0 if stored is None else stored.step,
        qat=config.qat.enabled,
        encoder=report,
        teacher=None if teacher is None else teacher.info,
    )
    return Setup(request, inputs, stored, teacher, network, paste, sampler, started, planned)


def train(request: TrainRequest, reporter: Reporter) -> TrainResult | None:
    """Train; every process calls it, and the first one gets the result.

    Raises
    ------
    P3MEdgeError
        See :meth:`p3m_edge.train.loop.Loop.run`, :func:`prepare`,
        :func:`p3m_edge.train.launch.start_fabric` and :func:`resumed`.
    """
    folder.check(request)
    qat.check(request)
    fabric = launch.start_fabric(request.config.run)
    first = fabric.is_global_zero
    with folder.locked_run(request, fabric):
        setup = prepare(request, fabric.device.type, fabric.global_rank, fabric.world_size)
        trainer = Trainer(setup, fabric)
        if first:
            folder.prepare(request, setup.plan)
            for line in origin.warnings(setup.inputs, request.unlabelled):
                reporter.warn(line)
        fabric.barrier()
        if first:
            charts.require()  # for the curve, which comes hours later
        batches, step = Batches(setup.inputs, request.config, setup.sampler), trainer.progress.step
        loader = BatchLoader(batches, step, setup.plan.steps, pin=fabric.device.type == "cuda")
        tensorboard = request.config.log.tensorboard
        with Logs(request.out, step, tensorboard=tensorboard) if first else nullcontext() as logs:
            try:
                result = Loop(trainer, logs, reporter).run(loader)
            except RuntimeError as error:
                if not any(word in str(error) for word in _LOST):
                    raise
                raise P3MEdgeError(
                    "another process of the training has ended; what it said is above", hint="--resume goes on"
                ) from error
    return result if first else None


def _load_weights(network: P3MNet, request: TrainRequest) -> tuple[EncoderReport | None, str]:
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
