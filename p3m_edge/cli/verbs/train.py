"""``p3m-edge train``: train P3M-Net on portraits with blurred faces, with P3M-CP if wanted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p3m_edge.cli.options import fill, given, group, option
from p3m_edge.cli.options.shared import Mattes
from p3m_edge.cli.ui import Console, Part, progress
from p3m_edge.errors import UsageError, needing
from p3m_edge.table import facts

if TYPE_CHECKING:
    from p3m_edge.train.request import TrainPlan, TrainRequest, TrainResult

EXAMPLES = """
p3m-edge train --preset smoke --data synth:0 --out run    # a few minutes anywhere, to see that it works
p3m-edge train --preset p3m-r34 --data P3M-10k --out run --encoder-weights resnet34.pth
p3m-edge train --preset mobile --teacher P3M-Net.pth --unlabelled photos/blurred_image --out run
p3m-edge train --data P3M-10k --out run --cp icp,fcp --faces CelebAMask-HQ --set feature_paste.levels=[2,3]
p3m-edge train --qat --weights run/best.safetensors --data P3M-10k --out tuned    # for INT8
p3m-edge train --data P3M-10k --faces synth:100 --cp icp --preview sheet.png    # look at P3M-CP, train nothing
p3m-edge train --out run --resume --epochs 200
torchrun --nproc-per-node 4 -m p3m_edge train --data P3M-10k --out run --set run.sync_batchnorm=true
"""
_PREVIEW_ROWS = 8
_NEW_RUNS = ("preset", "config", "cp", "encoder_weights", "weights", "qat")
"""What a run that goes on has decided already."""


_SETTINGS = {
    "epochs": ("run.epochs", "epochs"),
    "steps": ("run.max_steps", "stop after this many steps"),
    "batch": ("run.batch", "pictures a step, in each process"),
    "lr": ("optim.lr", "learning rate"),
    "seed": ("run.seed", "of all that is random"),
    "device": ("run.device", "auto, cpu, cuda or mps"),
    "devices": ("run.devices", "processes on this machine"),
    "precision": ("run.precision", "32-true, bf16-mixed or 16-mixed"),
    "workers": ("data.workers", "processes that prepare pictures"),
    "licence": ("run.licence", "of the weights, for the files"),
}
"""Settings that have options of their own: the option, the setting's name, the help."""
_Settings = make_dataclass(
    "_Settings",
    [(name, str | None, option(f"{key}: {text}", metavar="VALUE")) for name, (key, text) in _SETTINGS.items()],
    frozen=True,
)


@dataclass(frozen=True)
class Arguments:
    """Train P3M-Net. The settings are TOML: a preset, changed by a file, changed by the options. A part of the
    training set is held out and judged; the test sets are never looked at. Weights for export end in
    RUN/best.safetensors and RUN/last.safetensors. A run that was interrupted goes on with --resume. See
    docs/training.md.
    """

    preset: str | None = option(
        "p3m-r34 (default), p3m-swin-t, p3m-vitae-s, mobile or smoke", metavar="NAME", group="what"
    )
    config: Path | None = option("TOML with settings that differ")
    data: str | None = option("a portrait set, or portraits generated on the fly", metavar="DIR|synth:SEED")
    encoder_weights: Path | None = option("ImageNet weights to start from")
    weights: Path | None = option("a checkpoint to start from", metavar="CKPT")
    qat: bool | None = option("go on from --weights, rounding as INT8 does")
    teacher: Path | None = option("a larger network to learn from", metavar="CKPT", group="a teacher")
    unlabelled: str | None = option(
        "pictures without mattes, for the teacher; if they show faces, p3m-edge data anonymize comes first",
        metavar="DIR",
    )
    cp: str | None = option("icp (into the picture), fcp (into the features), or both", metavar="M[,M]", group="P3M-CP")
    faces: str | None = option("source faces: CelebAMask-HQ, any folder, or generated", metavar="DIR|synth:COUNT")
    preview: Path | None = option("write a sheet of P3M-ICP, train nothing")
    out: Path | None = option("the run's folder, new or empty", metavar="RUN", group="where")
    resume: bool = option("go on with the run in --out", default=False)
    dry_run: bool = option("check everything and say what would be done", default=False)
    set: tuple[str, ...] = option(
        "any setting; repeatable",
        (),
        metavar="KEY=VALUE",
        group="settings (all of them: p3m_edge/train/presets/p3m-r34.toml)",
    )
    mattes: Mattes = group(Mattes)
    settings: Any = group(_Settings)

    def overrides(self) -> list[str]:
        """The options as settings; those of ``--set`` come last."""
        given = ((name, getattr(self.settings, name)) for name in _SETTINGS)
        values = [f"{_SETTINGS[name][0]}={value}" for name, value in given if value is not None]
        values += self.mattes.settings
        if self.cp is not None:
            methods = ", ".join(f'"{method.strip()}"' for method in self.cp.split(",") if method.strip())
            values.append(f"copy_paste.methods=[{methods}]")
        return [*values, *self.set]


def run(args: Arguments, console: Console) -> None:
    """Train, preview, or say what would be done."""
    with needing("train"):
        from p3m_edge.train import run as runs
    if args.preview is not None:
        _preview(args, args.preview, console)
        return
    request = _request(args)
    if args.dry_run:
        planned = runs.plan(request)
        console.emit({"plan": planned, "config": request.config}, _render(planned))
        return
    with progress(console, lines=20) as bars:
        result = runs.train(request, bars)
    if result is not None:  # the first of several processes
        console.emit(result, _render(result.plan, result))


def _request(args: Arguments) -> TrainRequest:
    """What the command line asks for."""
    from p3m_edge.train import config as configs
    from p3m_edge.train import qat
    from p3m_edge.train.origin import OPTIONS
    from p3m_edge.train.request import TrainRequest
    from p3m_edge.train.run import resumed

    if args.out is None:
        raise UsageError("which folder is the run to be in?", hint="--out RUN")
    if args.resume:
        for name, flag in given(args):
            if name in _NEW_RUNS:
                raise UsageError(f"{flag} has no meaning with --resume", hint="the run in --out knows it")
        places = {name: str(value) for name in OPTIONS if (value := getattr(args, name)) is not None}
        return resumed(args.out, args.overrides(), places)
    preset = args.preset or (qat.preset(args.weights) if args.qat and args.weights is not None else configs.BASE)
    config = configs.load(preset, args.config, args.overrides(), qat=bool(args.qat))
    teacher = args.teacher or (args.weights if args.qat else None)
    return fill(TrainRequest, args, config=config, data=args.data, teacher=teacher)


def _preview(args: Arguments, sheet: Path, console: Console) -> None:
    """Write a sheet of what P3M-ICP does to the first pictures."""
    from p3m_edge.data.copy_paste import ImagePaste, preview
    from p3m_edge.imageio import write_png
    from p3m_edge.train import config as configs
    from p3m_edge.train.inputs import Draw, open_inputs

    if args.data is None or args.faces is None:
        raise UsageError("a preview needs pictures and faces", hint="--data DIR --faces DIR")
    config = configs.load(args.preset or configs.BASE, args.config, args.overrides())
    if "icp" not in config.copy_paste.methods:
        raise UsageError("a preview shows P3M-ICP; features cannot be looked at", hint="--cp icp")
    inputs = open_inputs(args.data, args.faces, config)
    assert inputs.faces is not None
    samples = [inputs.train.read(Draw(0, item)) for item in range(min(_PREVIEW_ROWS, len(inputs.train)))]
    step = ImagePaste(inputs.faces, **vars(config.image_paste))
    write_png(sheet, preview(samples, step, config.run.seed))
    console.emit({"preview": sheet, "pictures": len(samples)}, [f"{sheet}: {len(samples)} pictures"])


def _render(plan: TrainPlan, result: TrainResult | None = None) -> Iterator[Part]:
    yield facts("training", [*_plan_rows(plan), *(_result_rows(result) if result is not None else ())])
    if (report := plan.encoder) is not None:
        yield f"{report.file}: {report.loaded} of the encoder's {report.tensors} tensors loaded"
        for title, lines in (("not in the file", report.missing), ("not used", report.unused)):
            yield from (f"  {title}: {line}" for line in lines)


def _plan_rows(plan: TrainPlan) -> Iterator[tuple[str, str]]:
    rounded = ", rounded as INT8 while it learns" * plan.qat
    yield "network", f"{plan.arch}, {plan.parameters / 1e6:.2f} million parameters{rounded}"
    yield "device", f"{plan.device}, {plan.processes} process{'es' * (plan.processes > 1)}"
    yield "data", plan.data
    yield "faces in them", {True: "blurred", False: "not blurred", None: "not known"}[plan.blurred]
    yield "source faces", plan.faces or "none: no P3M-CP"
    if (info := plan.teacher) is not None:
        yield "teacher", f"{info.arch}, sha256 {info.sha256[:12]}, licence: {info.licence}; {info.provenance}"
    yield "pictures", f"{plan.pictures} an epoch, {plan.held_out} held out and judged by {plan.judged_by}"
    yield "steps", f"{plan.first_step} to {plan.steps}, {plan.steps_per_epoch} an epoch, of {plan.batch} pictures"


def _result_rows(result: TrainResult) -> Iterator[tuple[str, str]]:
    yield "ended", f"after step {result.step}: {result.reason}"
    yield "loss of the last step", f"{result.losses['total']:.4f}" if result.losses else "no step was left to do"
    best = f"SAD {result.best_sad:.3f} thousand by {result.plan.judged_by}, after step {result.best_step}"
    yield "best on the held-out", best
    yield "speed", f"{result.pictures_per_second:.2f} pictures a second, {result.data_wait:.1%} waiting for data"
    yield "skipped pictures", str(result.unreadable)
    yield "weights", f"{result.best}, {result.last}"
