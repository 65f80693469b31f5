"""The training loop: steps, validations, saved states. Its parts are put together in :mod:`p3m_edge.train.parts`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from p3m_edge import model
from p3m_edge.data.sheet import sheet
from p3m_edge.errors import InputError, P3MEdgeError
from p3m_edge.imageio import write_png
from p3m_edge.model.p3mnet import P3MOutput
from p3m_edge.train import optim, qat, state, validate
from p3m_edge.train.dataset import Pictures, normalise, to_batch
from p3m_edge.train.distill import TOTAL, recorded_features
from p3m_edge.train.folder import SEEN, Logs, write_curve
from p3m_edge.train.inputs import STEP, rng_for
from p3m_edge.train.launch import StopRequest
from p3m_edge.train.loader import BatchLoader
from p3m_edge.train.losses import total
from p3m_edge.train.parts import Parts
from p3m_edge.train.state import STATE, Progress


class Reporter(Protocol):
    """Who is told how it goes."""

    def progress(self, what: str, done: int, total: int) -> None: ...

    def warn(self, message: str) -> None: ...


class Loop:
    """One training, from where ``progress`` says.

    It works with ``parts``, writes to ``logs`` (in the first process alone) and talks to ``reporter``.

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
        self.parts, self.logs, self.reporter, self.progress = parts, logs, reporter, progress
        self.config, self.fabric, self.order = parts.config, parts.fabric, parts.order
        self.steps, self.first = parts.prepared.plan.steps, progress.step
        self.losses: dict[str, float] = {}
        self.rate = self.seconds = self.waited = 0.0
        self.pictures = 0
        self.reason = "max_steps" if self.steps < self.config.run.epochs * self.order.steps else "epochs"

    def run(self, loader: BatchLoader) -> None:
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
        config = self.config
        with StopRequest() as request:
            optim.train_mode(
                self.parts.network, freeze_batchnorm=config.run.freeze_batchnorm, frozen=config.optim.frozen
            )
            start = time.perf_counter()
            for pictures in self._batches(loader, request):
                asked = self._step(pictures, request)
                self._log(len(pictures.names) * self.order.ranks, time.perf_counter() - start, loader.waited)
                self._between(asked)
                start = time.perf_counter()
                if self.reason == "no improvement":
                    break
        if request.asked:  # during the last step, or what comes after it
            raise KeyboardInterrupt

    def _batches(self, loader: BatchLoader, request: StopRequest) -> Iterator[Pictures]:
        """The batches. Whoever asks to stop meanwhile need not wait for the next one, unless other processes do."""
        batches = iter(loader)
        while True:
            try:
                with request.waiting() if self.order.ranks == 1 else nullcontext():
                    pictures = next(batches, None)
            except KeyboardInterrupt:
                self._save()
                raise
            if pictures is None:
                return
            yield pictures

    def _between(self, asked: bool) -> None:
        """Validate and save after a step, where it is time to."""
        done, last = self.progress.step, self.progress.step == self.steps
        epoch, within = divmod(done, self.order.steps)
        if last or (within == 0 and epoch % self.config.validation.every == 0):
            self._validate()
        if within == 0:
            self.progress.unreadable_now = 0
        if last or asked or within == 0 or done % self.config.run.checkpoint_every == 0:
            self._save()
        if asked and not last:
            raise KeyboardInterrupt

    def _step(self, pictures: Pictures, request: StopRequest) -> bool:
        """One step of all processes; whether any of them was asked to stop."""
        parts, fabric, settings = self.parts, self.fabric, self.config.optim
        self.rate = optim.set_rate(parts.optimizer, settings, self.progress.step, self.steps)
        losses = self._losses(fabric.to_device(pictures))
        asked = self._share(losses, request.asked, pictures)
        self._require_finite(self.losses["total"], "the loss", pictures)
        fabric.backward(losses["total"])
        clip = settings.clip_norm or float("inf")
        norm = fabric.clip_gradients(parts.wrapped, parts.stepper, max_norm=clip, error_if_nonfinite=False)
        self.losses["grad_norm"] = float(norm) if norm is not None else 0.0
        if getattr(fabric.strategy.precision, "scaler", None) is None:  # a scaler leaves such a step out by itself
            self._require_finite(self.losses["grad_norm"], "the gradient", pictures)
        parts.stepper.step()
        parts.optimizer.zero_grad()
        if parts.average is not None:
            parts.average.update_parameters(parts.network)
        self.progress.step += 1
        return asked

    def _losses(self, moved: Pictures) -> dict[str, Tensor]:
        """Of a batch on its device, by name; ``total`` is what is to be small."""
        parts, batch = self.parts, to_batch(moved)
        with self._pasting(moved), recorded_features(parts.network.encoder) as features:
            output: P3MOutput = parts.wrapped(batch.image)
        losses = total(output, batch, self._sum)
        if parts.distillation is None:
            return losses
        with self.fabric.autocast():
            taught = parts.distillation.losses(output, features[-1], batch.image, self._sum)
        return {**losses, **taught, "total": losses["total"] + taught[TOTAL]}

    @contextmanager
    def _pasting(self, pictures: Pictures) -> Iterator[None]:
        """P3M-FCP for a forward pass, if it is time for it."""
        paste, step = self.parts.paste, self.progress.step
        epoch = step // self.order.steps
        if paste is None or epoch < paste.from_epoch:
            yield
            return
        rng = rng_for(STEP, self.config.run.seed, step, self.order.rank)
        faces, masks = normalise(pictures.source_image), pictures.source_mask
        with self.fabric.autocast(), paste.apply(faces, masks, pictures.face_mask, rng, epoch=epoch):
            yield

    def _sum(self, values: Tensor) -> Tensor:
        """Sum over the processes."""
        if self.order.ranks == 1:
            return values
        summed: Tensor = self.fabric.all_reduce(values, reduce_op="sum")  # type: ignore[assignment]
        return summed

    def _share(self, losses: dict[str, Tensor], asked: bool, pictures: Pictures) -> bool:
        """Sum what all processes must know: the losses, unreadable pictures, and whether to stop."""
        self._note_unreadable(*pictures.unreadable, *pictures.damaged)
        told = [float(asked), float(len(pictures.unreadable))]
        values = torch.stack([loss.detach() for loss in losses.values()])
        summed = self._sum(torch.cat([values, values.new_tensor(told)])).tolist()
        self.losses = {name: value / self.order.ranks for name, value in zip(losses, summed, strict=False)}
        self._count_unreadable(int(summed[-1]))
        return bool(summed[-2])

    def _note_unreadable(self, *lines: str) -> None:
        for line in lines:
            self.reporter.warn(f"skipped: {line}")
            with (self.parts.folder / "unreadable.txt").open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(f"step {self.progress.step}: {line}\n")

    def _count_unreadable(self, number: int) -> None:
        self.progress.unreadable += number
        self.progress.unreadable_now += number
        count, share = self.order.count, self.config.data.max_unreadable
        if number and self.progress.unreadable_now > max(1, share * count):
            raise InputError(
                f"{self.progress.unreadable_now} of {count} pictures cannot be used, more than "
                f"data.max_unreadable={share:g} allows",
                hint=f"they are named in {self.parts.folder / 'unreadable.txt'}; see p3m-edge data check",
            )

    def _require_finite(self, value: float, what: str, pictures: Pictures) -> None:
        if np.isfinite(value):
            return
        path = self.parts.folder / f"not-finite-step-{self.progress.step}-rank-{self.order.rank}.npz"
        arrays: dict[str, Any] = {
            name: field.cpu().numpy() for name, field in pictures._asdict().items() if isinstance(field, Tensor)
        }
        np.savez_compressed(path, names=np.array(pictures.names), **arrays)
        parts = ", ".join(f"{name} {value:.4g}" for name, value in self.losses.items())
        raise P3MEdgeError(
            f"{what} is not finite in step {self.progress.step} ({parts}); the batch is kept in {path}",
            hint="a lower optim.lr, optim.clip_norm=1, run.precision=32-true; --resume goes on from the last state",
        )

    def _log(self, pictures: int, seconds: float, waited: float) -> None:
        """Write down a step, which took so long; ``waited`` counts from the start."""
        step, every = self.progress.step, self.config.log.every
        self.pictures += pictures
        self.seconds += seconds
        waiting, self.waited = waited - self.waited, waited
        if self.logs is None:
            return
        epoch = (step - 1) // self.order.steps
        left = round(self.seconds / (step - self.first) * (self.steps - step))
        clock = f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02}"
        text = f"epoch {epoch + 1}/{self.config.run.epochs}, loss {self.losses['total']:.4f}, {clock} left"
        self.reporter.progress(text, step, self.steps)
        if step % every == 0 or step == self.steps:
            speed = {"pictures_per_second": pictures / seconds, "data_wait": waiting / seconds}
            self.logs.add("log", step, {"epoch": epoch, "lr": self.rate, **self.losses, **speed})

    def _validate(self) -> None:
        parts, progress, settings = self.parts, self.progress, self.config.validation
        held_out, first = parts.prepared.inputs.held_out, self.order.rank == 0
        items = range(self.order.rank, len(held_out), self.order.ranks)
        teacher = None if parts.distillation is None else parts.distillation.teacher
        shown, side = settings.sheet if first else 0, self.config.data.size
        with self.fabric.autocast():
            judged = validate.score_held_out(parts.eval_network, held_out, items, side, shown, teacher)
        self._note_unreadable(*judged.unreadable)
        sums = torch.tensor([judged.sad, judged.mse, judged.mad, judged.pictures], device=self.fabric.device)
        sad, mse, mad, pictures = self._sum(sums).tolist()
        if not pictures:
            raise InputError("none of the held-out pictures can be used", hint="see p3m-edge data check")
        sad, mse, mad = sad / pictures, mse / pictures, mad / pictures
        better = sad < progress.best
        progress.stale = 0 if better else progress.stale + 1
        if better:
            progress.best, progress.best_step = sad, progress.step
        if self.logs is not None:
            seen = progress.step * self.order.batch * self.order.ranks
            figures = {SEEN: seen, "sad": sad, "mse": mse, "mad": mad, "pictures": int(pictures)}
            self.logs.add("validation", progress.step, figures)
            self._keep(judged, better=better)
        if settings.patience and progress.stale >= settings.patience:
            self.reason = "no improvement"

    def _keep(self, judged: validate.ValidationScores, *, better: bool) -> None:
        """Write the curve, the sheet and the weights."""
        parts, step = self.parts, self.progress.step
        write_curve(parts.folder)
        if judged.rows:
            write_png(parts.folder / "sheets" / f"step-{step:07}.png", sheet(judged.rows))
        network = qat.rounded(parts.eval_network) if self.config.qat.enabled else parts.eval_network
        for name in ("last", "best") if better else ("last",):
            model.save_checkpoint(
                network,
                parts.folder / f"{name}.safetensors",
                licence=parts.licence,
                provenance=parts.provenance(step),
                trained=True,
                half=self.config.run.half_weights,
            )

    def _save(self) -> None:
        """Save the state of all processes; one of them writes."""
        stored = self.parts.stored(self.progress)
        if self.order.rank == 0:
            state.save(stored, self.parts.folder / STATE)
        self.fabric.barrier()
