"""The training loop: steps, validations, saved states. Its parts are put together in :mod:`p3m_edge.train.run`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from p3m_edge import model
from p3m_edge.errors import InputError, P3MEdgeError
from p3m_edge.imageio import write_png
from p3m_edge.model.p3mnet import P3MOutput
from p3m_edge.train import optim, qat, state, validate
from p3m_edge.train.config import to_table
from p3m_edge.train.curve import CURVE, SEEN, write_curve
from p3m_edge.train.dataset import Pictures, normalise, to_batch
from p3m_edge.train.distillation import TOTAL, noted
from p3m_edge.train.loader import Feed
from p3m_edge.train.logs import Logs
from p3m_edge.train.losses import total
from p3m_edge.train.order import STEP, numbers
from p3m_edge.train.parts import Parts, Progress
from p3m_edge.train.state import State
from p3m_edge.train.stop import StopRequest


class Reporter(Protocol):
    """Who is told how it goes."""

    def progress(self, what: str, done: int, total: int) -> None: ...

    def warn(self, message: str) -> None: ...


class Loop:
    """One training, from where ``progress`` says.

    Parameters
    ----------
    parts, logs, reporter
        What it works with, writes to (in the first process alone) and talks to.
    progress
        Fresh, or of a state that has been restored.

    Attributes
    ----------
    losses, rate
        Of the last step: over all processes, by name; and how fast the decoders learned.
    seconds, waited
        Spent in steps, and in waiting for pictures.
    pictures
        That all processes have trained on.
    reason
        Why it ended: ``epochs``, ``max_steps`` or ``no improvement``.
    """

    def __init__(self, parts: Parts, logs: Logs | None, reporter: Reporter, progress: Progress) -> None:
        self.parts = parts
        self.logs = logs
        self.reporter = reporter
        self.progress = progress
        self.losses: dict[str, float] = {}
        self.rate = 0.0
        self.seconds = self.waited = 0.0
        self.pictures = 0
        self.reason = "max_steps" if parts.steps < parts.config.run.epochs * parts.order.steps else "epochs"

    def run(self, feed: Feed) -> None:
        """Train to the end.

        Raises
        ------
        KeyboardInterrupt
            Somebody asked for it; the state is saved.
        InputError
            Too many pictures cannot be used, or none of those held out.
        P3MEdgeError
            A loss or gradient is not finite (the batch is saved), or a worker was killed.
        OutputError
            Something cannot be written.
        """
        if self.progress.step == 0:
            self._save()
        with StopRequest() as request:
            self._steps(feed, request)
        if request.asked:  # during the last step, or what comes after it
            raise KeyboardInterrupt

    def _steps(self, feed: Feed, request: StopRequest) -> None:
        start = time.perf_counter()
        waited, first = 0.0, self.progress.step
        config = self.parts.config
        optim.train_mode(self.parts.network, freeze_batchnorm=config.run.freeze_batchnorm, frozen=config.optim.frozen)
        for pictures in self._fed(feed, request):
            asked = self._step(pictures, request)
            now = time.perf_counter()
            self.seconds += now - start
            self._log(len(pictures.names) * self.parts.order.ranks, now - start, feed.waited - waited, first)
            waited = self.waited = feed.waited
            self._between(asked)
            start = time.perf_counter()
            if self.reason == "no improvement":
                return

    def _fed(self, feed: Feed, request: StopRequest) -> Iterator[Pictures]:
        """The batches. Whoever asks to stop meanwhile need not wait for the next one, unless other processes do."""
        batches = iter(feed)
        while True:
            try:
                with request.waiting() if self.parts.order.ranks == 1 else nullcontext():
                    pictures = next(batches, None)
            except KeyboardInterrupt:
                self._save()
                raise
            if pictures is None:
                return
            yield pictures

    def _between(self, asked: bool) -> None:
        """Validate and save after a step, where it is time to."""
        parts, done = self.parts, self.progress.step
        settings, last = parts.config, done == parts.steps
        epoch, within = divmod(done, parts.order.steps)
        if last or (within == 0 and epoch % settings.validation.every == 0):
            self._validate()
        if within == 0:
            self.progress.unreadable_now = 0
        if last or asked or within == 0 or done % settings.run.checkpoint_every == 0:
            self._save()
        if asked and not last:
            raise KeyboardInterrupt

    def _step(self, pictures: Pictures, request: StopRequest) -> bool:
        """One step of all processes; whether any of them was asked to stop."""
        parts, fabric = self.parts, self.parts.fabric
        step = self.progress.step
        self.rate = optim.set_rate(parts.optimizer, parts.config.optim, step, parts.steps)
        moved = fabric.to_device(pictures)
        losses = self._losses(moved)
        asked = self._share(losses, request.asked, pictures)
        self._require_finite(self.losses["total"], "the loss", pictures)
        fabric.backward(losses["total"])
        clip = parts.config.optim.clip_norm or float("inf")
        norm = fabric.clip_gradients(parts.wrapped, parts.stepper, max_norm=clip, error_if_nonfinite=False)
        self.losses["grad_norm"] = float(norm) if norm is not None else 0.0
        if getattr(fabric.strategy.precision, "scaler", None) is None:  # a scaler leaves such a step out by itself
            self._require_finite(self.losses["grad_norm"], "the gradient", pictures)
        parts.stepper.step()
        parts.optimizer.zero_grad()
        parts.average.update()
        self.progress.step += 1
        return asked

    def _losses(self, moved: Pictures) -> dict[str, Tensor]:
        """Of a batch on its device, by name; ``total`` is what is to be small."""
        parts, batch = self.parts, to_batch(moved)
        with self._pasting(moved), noted(parts.network.encoder) as features:
            output: P3MOutput = parts.wrapped(batch.image)
        losses: dict[str, Tensor] = vars(total(output, batch, self._sum))
        if parts.distillation is None:
            return losses
        with parts.fabric.autocast():
            taught = parts.distillation.losses(output, features[-1], batch.image, self._sum)
        return {**losses, **taught, "total": losses["total"] + taught[TOTAL]}

    @contextmanager
    def _pasting(self, pictures: Pictures) -> Iterator[None]:
        """P3M-FCP for a forward pass, if it is time for it."""
        parts, step = self.parts, self.progress.step
        epoch = step // parts.order.steps
        if parts.paste is None or epoch < parts.config.feature_paste.from_epoch:
            yield
            return
        rng = numbers(STEP, parts.config.run.seed, step, parts.order.rank)
        faces, masks = normalise(pictures.source_image), pictures.source_mask
        with parts.fabric.autocast(), parts.paste.apply(faces, masks, pictures.face_mask, rng, epoch=epoch):
            yield

    def _sum(self, values: Tensor) -> Tensor:
        """Sum over the processes."""
        if self.parts.order.ranks == 1:
            return values
        summed: Tensor = self.parts.fabric.all_reduce(values, reduce_op="sum")  # type: ignore[assignment]
        return summed

    def _share(self, losses: dict[str, Tensor], asked: bool, pictures: Pictures) -> bool:
        """Sum what all processes must know: the losses, unreadable pictures, and whether to stop."""
        for line in (*pictures.unreadable, *pictures.damaged):
            self._note_unreadable(line)
        told = [float(asked), float(len(pictures.unreadable))]
        values = torch.stack([loss.detach() for loss in losses.values()])
        summed = self._sum(torch.cat([values, values.new_tensor(told)])).tolist()
        self.losses = {name: value / self.parts.order.ranks for name, value in zip(losses, summed, strict=False)}
        self._count_unreadable(int(summed[-1]))
        return bool(summed[-2])

    def _note_unreadable(self, line: str) -> None:
        self.reporter.warn(f"skipped: {line}")
        with (self.parts.folder / "unreadable.txt").open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"step {self.progress.step}: {line}\n")

    def _count_unreadable(self, number: int) -> None:
        self.progress.unreadable += number
        self.progress.unreadable_now += number
        count, share = self.parts.order.count, self.parts.config.data.max_unreadable
        if number and self.progress.unreadable_now > max(1, share * count):
            raise InputError(
                f"{self.progress.unreadable_now} of {count} pictures cannot be used, more than "
                f"data.max_unreadable={share:g} allows",
                hint=f"they are named in {self.parts.folder / 'unreadable.txt'}; see p3m-edge data check",
            )

    def _require_finite(self, value: float, what: str, pictures: Pictures) -> None:
        if np.isfinite(value):
            return
        path = self.parts.folder / f"not-finite-step-{self.progress.step}-rank-{self.parts.order.rank}.npz"
        arrays: dict[str, Any] = {
            name: field.cpu().numpy() for name, field in pictures._asdict().items() if isinstance(field, Tensor)
        }
        np.savez_compressed(path, names=np.array(pictures.names), **arrays)
        parts = ", ".join(f"{name} {value:.4g}" for name, value in self.losses.items())
        raise P3MEdgeError(
            f"{what} is not finite in step {self.progress.step} ({parts}); the batch is kept in {path}",
            hint="a lower optim.lr, optim.clip_norm=1, run.precision=32-true; --resume goes on from the last state",
        )

    def _log(self, pictures: int, seconds: float, waited: float, first: int) -> None:
        parts, step = self.parts, self.progress.step
        self.pictures += pictures
        run, epoch = parts.config.run, (step - 1) // parts.order.steps
        left = self.seconds / (step - first) * (parts.steps - step)
        text = f"epoch {epoch + 1}/{run.epochs}, loss {self.losses['total']:.4f}, {clock(left)} left"
        if self.logs is None:
            return
        self.reporter.progress(text, step, parts.steps)
        if step % parts.config.log.every == 0 or step == parts.steps:
            row = {"epoch": epoch, "lr": self.rate, **self.losses}
            self.logs.add(
                "log", step, {**row, "pictures_per_second": pictures / seconds, "data_wait": waited / seconds}
            )

    def _validate(self) -> None:
        parts, progress = self.parts, self.progress
        items = range(parts.order.rank, len(parts.held_out), parts.order.ranks)
        shown = parts.config.validation.sheet if parts.order.rank == 0 else 0
        teacher = None if parts.distillation is None else parts.distillation.teacher
        side = parts.config.data.size
        with parts.fabric.autocast():
            judged = validate.judge(parts.average.network, parts.held_out, items, side, shown, teacher)
        for line in judged.unreadable:
            self._note_unreadable(line)
        sums = torch.tensor([judged.sad, judged.mse, judged.mad, judged.pictures], device=parts.fabric.device)
        sad, mse, mad, pictures = self._sum(sums).tolist()
        if not pictures:
            raise InputError("none of the held-out pictures can be used", hint="see p3m-edge data check")
        sad, mse, mad = sad / pictures, mse / pictures, mad / pictures
        better = sad < progress.best
        progress.stale = 0 if better else progress.stale + 1
        if better:
            progress.best, progress.best_step = sad, progress.step
        if self.logs is not None:
            seen = progress.step * parts.order.batch * parts.order.ranks
            figures = {SEEN: seen, "sad": sad, "mse": mse, "mad": mad, "pictures": int(pictures)}
            self.logs.add("validation", progress.step, figures)
            self._keep(judged, better=better)
        if parts.config.validation.patience and progress.stale >= parts.config.validation.patience:
            self.reason = "no improvement"

    def _keep(self, judged: validate.Judged, *, better: bool) -> None:
        """Write the curve, the sheet and the weights."""
        parts, step = self.parts, self.progress.step
        write_curve(parts.folder / CURVE, [parts.folder])
        if judged.rows:
            write_png(parts.folder / "sheets" / f"step-{step:07}.png", validate.picture_sheet(judged))
        network = parts.average.network
        if parts.config.qat.enabled:
            network = qat.rounded(network)
        for name in ("last", "best") if better else ("last",):
            model.save_checkpoint(
                network,
                parts.folder / f"{name}.safetensors",
                licence=parts.licence,
                provenance=parts.provenance(step),
                trained=True,
                half=parts.config.run.half_weights,
            )

    def _save(self) -> None:
        """Save the state of all processes; one of them writes."""
        parts, fabric = self.parts, self.parts.fabric
        rng = _gather(state.rng_states(fabric.device), parts.order.ranks)
        if parts.order.rank == 0:
            stored = State(
                arch=parts.network.arch,
                config=to_table(parts.config),
                inputs=parts.inputs,
                model=parts.network.state_dict(),
                ema=parts.average.state_dict(),
                projection={} if parts.projection is None else parts.projection.state_dict(),
                optimizer=parts.optimizer.state_dict(),
                scaler=fabric.strategy.precision.state_dict(),
                rng=rng,
                **vars(self.progress),
            )
            state.save(stored, parts.folder / "state.pt")
        fabric.barrier()


def _gather(states: dict[str, Tensor], ranks: int) -> list[dict[str, Tensor]]:
    """Those of all processes."""
    gathered = [states] * ranks
    if ranks > 1:
        torch.distributed.all_gather_object(gathered, states)
    return gathered


def clock(seconds: float) -> str:
    """``H:MM:SS``."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
