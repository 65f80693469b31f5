"""The training loop around the trainer's steps: validations, saved states, tables, and when to stop."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import nullcontext

import torch

from p3m_edge import model
from p3m_edge.data.sheet import sheet
from p3m_edge.errors import InputError
from p3m_edge.imageio import write_png
from p3m_edge.train import origin, qat, state, validate
from p3m_edge.train.dataset import Pictures
from p3m_edge.train.folder import Logs, write_curve
from p3m_edge.train.launch import StopRequest
from p3m_edge.train.loader import BatchLoader
from p3m_edge.train.request import Reporter, TrainResult
from p3m_edge.train.state import STATE
from p3m_edge.train.trainer import Trainer


class Loop:
    """One training, from where the trainer stands to the last step of the plan.

    It writes to ``logs`` (in the first process alone) and talks to ``reporter``.
    """

    def __init__(self, trainer: Trainer, logs: Logs | None, reporter: Reporter) -> None:
        self.trainer, self.logs, self.reporter = trainer, logs, reporter
        self.setup, self.config, self.sampler = trainer.setup, trainer.config, trainer.sampler
        self.progress, self.first, self.steps = trainer.progress, trainer.progress.step, trainer.setup.plan.steps
        self.folder = trainer.setup.request.out
        self.seconds = self.waited = 0.0  # in steps, and of these in waiting for pictures
        self.reason = "max_steps" if self.steps < self.config.run.epochs * self.sampler.steps else "epochs"

    def run(self, loader: BatchLoader) -> TrainResult:
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
            start = time.perf_counter()
            for pictures in self._batches(loader, request):
                self._note_unreadable(*pictures.unreadable, *pictures.damaged)
                asked, unreadable = self.trainer.step(pictures, request)
                self._count_unreadable(unreadable)
                self._log(time.perf_counter() - start, loader.waited)
                self._between(asked)
                start = time.perf_counter()
                if self.reason == "no improvement":
                    break
        if request.asked:  # during the last step, or what comes after it
            raise KeyboardInterrupt
        return self._result()

    def _batches(self, loader: BatchLoader, request: StopRequest) -> Iterator[Pictures]:
        """The batches. Whoever asks to stop meanwhile need not wait for the next one, unless other processes do."""
        batches = iter(loader)
        while True:
            try:
                with request.waiting() if self.sampler.ranks == 1 else nullcontext():
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
        epoch, within = divmod(done, self.sampler.steps)
        if last or (within == 0 and epoch % self.config.validation.every == 0):
            self._validate()
        if within == 0:
            self.progress.unreadable_now = 0
        if last or asked or within == 0 or done % self.config.run.checkpoint_every == 0:
            self._save()
        if asked and not last:
            raise KeyboardInterrupt

    def _note_unreadable(self, *lines: str) -> None:
        for line in lines:
            self.reporter.warn(f"skipped: {line}")
            with (self.folder / "unreadable.txt").open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(f"step {self.progress.step}: {line}\n")

    def _count_unreadable(self, number: int) -> None:
        self.progress.unreadable += number
        self.progress.unreadable_now += number
        count, share = self.sampler.count, self.config.data.max_unreadable
        if number and self.progress.unreadable_now > max(1, share * count):
            raise InputError(
                f"{self.progress.unreadable_now} of {count} pictures cannot be used, more than "
                f"data.max_unreadable={share:g} allows",
                hint=f"they are named in {self.folder / 'unreadable.txt'}; see p3m-edge data check",
            )

    def _log(self, seconds: float, waited: float) -> None:
        """Write down a step, which took so long; ``waited`` counts from the start."""
        step, losses = self.progress.step, self.trainer.losses
        self.seconds += seconds
        waiting, self.waited = waited - self.waited, waited
        if self.logs is None:
            return
        epoch = (step - 1) // self.sampler.steps
        left = round(self.seconds / (step - self.first) * (self.steps - step))
        clock = f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02}"
        text = f"epoch {epoch + 1}/{self.config.run.epochs}, loss {losses['total']:.4f}, {clock} left"
        self.reporter.progress(text, step, self.steps)
        if step % self.config.log.every == 0 or step == self.steps:
            speed = {"pictures_per_second": self.setup.plan.batch / seconds, "data_wait": waiting / seconds}
            self.logs.add("log", step, {"epoch": epoch, "lr": self.trainer.rate, **losses, **speed})

    def _validate(self) -> None:
        trainer, progress, settings = self.trainer, self.progress, self.config.validation
        held_out, first = self.setup.inputs.held_out, self.sampler.rank == 0
        items = range(self.sampler.rank, len(held_out), self.sampler.ranks)
        teacher = None if trainer.distillation is None else trainer.distillation.teacher
        shown, side = settings.sheet if first else 0, self.config.data.size
        with trainer.fabric.autocast():
            scores = validate.score_held_out(trainer.eval_network, held_out, items, side, shown, teacher)
        self._note_unreadable(*scores.unreadable)
        sums = torch.tensor([scores.sad, scores.mse, scores.mad, scores.pictures], device=trainer.fabric.device)
        *means, pictures = trainer.sum(sums).tolist()
        if not pictures:
            raise InputError("none of the held-out pictures can be used", hint="see p3m-edge data check")
        sad, mse, mad = (value / pictures for value in means)
        better = sad < progress.best
        progress.stale = 0 if better else progress.stale + 1
        if better:
            progress.best, progress.best_step = sad, progress.step
        if self.logs is not None:
            row = {"seen": progress.step * self.setup.plan.batch, "sad": sad, "mse": mse, "mad": mad}
            self.logs.add("validation", progress.step, {**row, "pictures": int(pictures)})
            self._keep(scores.rows, better=better)
        if settings.patience and progress.stale >= settings.patience:
            self.reason = "no improvement"

    def _keep(self, rows: tuple[validate.Row, ...], *, better: bool) -> None:
        """Write the curve, the sheet and the weights."""
        setup, step, network = self.setup, self.progress.step, self.trainer.eval_network
        write_curve(self.folder, setup.plan.batch)
        if rows:
            write_png(self.folder / "sheets" / f"step-{step:07}.png", sheet(rows))
        if self.config.qat.enabled:
            network = qat.rounded(network)
        for name in ("last", "best") if better else ("last",):
            model.save_checkpoint(
                network,
                self.folder / f"{name}.safetensors",
                licence=origin.licence(self.config, setup.inputs, setup.teacher),
                provenance=origin.provenance(self.config, setup.inputs, setup.teacher, setup.started["start"], step),
                trained=True,
                half=self.config.run.half_weights,
            )

    def _save(self) -> None:
        """Save the state of all processes; one of them writes."""
        stored = self.trainer.state()
        if self.sampler.rank == 0:
            state.save(stored, self.folder / STATE)
        self.trainer.fabric.barrier()

    def _result(self) -> TrainResult:
        progress, plan = self.progress, self.setup.plan
        pictures = (progress.step - self.first) * plan.batch
        return TrainResult(
            plan=plan,
            folder=self.folder,
            reason=self.reason,
            step=progress.step,
            losses=self.trainer.losses,
            best_sad=progress.best,
            best_step=progress.best_step,
            seconds=self.seconds,
            pictures_per_second=pictures / self.seconds if self.seconds else 0.0,
            data_wait=self.waited / self.seconds if self.seconds else 0.0,
            unreadable=progress.unreadable,
            best=self.folder / "best.safetensors",
            last=self.folder / "last.safetensors",
        )
