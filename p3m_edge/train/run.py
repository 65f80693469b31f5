"""A training from request to result: starts anew or goes on, and says what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from p3m_edge.benchmarks.report import charts
from p3m_edge.errors import CheckpointError, P3MEdgeError, UsageError
from p3m_edge.train import config as configs
from p3m_edge.train import folder, launch, origin, qat, state
from p3m_edge.train.dataset import Portraits
from p3m_edge.train.folder import Logs
from p3m_edge.train.loader import BatchLoader
from p3m_edge.train.loop import Loop, Reporter
from p3m_edge.train.parts import Parts, prepare
from p3m_edge.train.request import TrainPlan, TrainRequest, TrainResult
from p3m_edge.train.state import STATE, Progress

if TYPE_CHECKING:
    from lightning_fabric import Fabric

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
    return prepare(request, name, here * machines).plan


def train(request: TrainRequest, reporter: Reporter) -> TrainResult | None:
    """Train; every process calls it, and the first one gets the result.

    Raises
    ------
    P3MEdgeError
        See :meth:`p3m_edge.train.loop.Loop.run`, :func:`p3m_edge.train.parts.prepare`,
        :func:`p3m_edge.train.launch.start_fabric` and :func:`resumed`.
    """
    folder.check(request)
    qat.check(request)
    fabric = launch.start_fabric(request.config.run)
    with folder.locked_run(request, fabric):
        return _train(request, reporter, fabric)


def _train(request: TrainRequest, reporter: Reporter, fabric: Fabric) -> TrainResult | None:
    config, first = request.config, fabric.is_global_zero
    prepared = prepare(request, fabric.device.type, fabric.world_size)
    parts = Parts(prepared, fabric)
    progress = Progress() if prepared.stored is None else parts.restore(prepared.stored)
    if first:
        folder.prepare(request, prepared.plan)
        for line in origin.warnings(prepared.inputs, request.unlabelled):
            reporter.warn(line)
    fabric.barrier()
    portraits = Portraits(prepared.inputs.train, prepared.inputs.faces, config)
    loader = BatchLoader(portraits, parts.order, progress.step, prepared.plan.steps, pin=fabric.device.type == "cuda")
    if first:
        charts.require()  # for the curve, which comes hours later
    with Logs(request.out, progress.step, tensorboard=config.log.tensorboard) if first else nullcontext() as logs:
        loop = Loop(parts, logs, reporter, progress)
        try:
            loop.run(loader)
        except RuntimeError as error:
            if not any(word in str(error) for word in _LOST):
                raise
            raise P3MEdgeError(
                "another process of the training has ended; what it said is above", hint="--resume goes on"
            ) from error
    if not first:
        return None
    return TrainResult(
        plan=prepared.plan,
        folder=request.out,
        reason=loop.reason,
        step=progress.step,
        losses=loop.losses,
        best_sad=progress.best,
        best_step=progress.best_step,
        seconds=loop.seconds,
        pictures_per_second=loop.pictures / loop.seconds if loop.seconds else 0.0,
        data_wait=loop.waited / loop.seconds if loop.seconds else 0.0,
        unreadable=progress.unreadable,
        best=request.out / "best.safetensors",
        last=request.out / "last.safetensors",
    )
