"""``p3m-edge train``: train P3M-Net on portraits with blurred faces, with P3M-CP if wanted."""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from p3m_edge.cli import matte_options, options
from p3m_edge.cli.tables import table
from p3m_edge.errors import UsageError, needing

if TYPE_CHECKING:
    from rich.console import Console as RichConsole

    from p3m_edge.cli.console import Console
    from p3m_edge.train.encoder_weights import EncoderReport
    from p3m_edge.train.request import TrainPlan, TrainRequest, TrainResult

HELP = """Train P3M-Net. The settings are TOML: a preset, changed by a file, changed by the options. A part of the
training set is held out and judged; the test sets are never looked at. Weights for export end in RUN/best.safetensors
and RUN/last.safetensors. A run that was interrupted goes on with --resume. See docs/training.md."""
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
_COMMON = {
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
_PREVIEW_ROWS = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to train on what, how, and where it goes."""
    what = parser.add_argument_group("what")
    what.add_argument("--preset", metavar="NAME", help="p3m-r34 (default), p3m-swin-t, p3m-vitae-s, mobile or smoke")
    what.add_argument("--config", type=options.path, metavar="FILE", help="TOML with settings that differ")
    what.add_argument("--data", metavar="DIR|synth:SEED", help="a portrait set, or portraits generated on the fly")
    what.add_argument("--encoder-weights", type=options.path, metavar="FILE", help="ImageNet weights to start from")
    what.add_argument("--weights", type=options.path, metavar="CKPT", help="a checkpoint to start from")
    # None and not False, as what else has no meaning with --resume
    what.add_argument("--qat", action="store_true", default=None, help="go on from --weights, rounding as INT8 does")
    teach = parser.add_argument_group("a teacher")
    teach.add_argument("--teacher", type=options.path, metavar="CKPT", help="a larger network to learn from")
    teach.add_argument(
        "--unlabelled", metavar="DIR",
        help="pictures without mattes, for the teacher; if they show faces, p3m-edge data anonymize comes first",
    )  # fmt: skip
    paste = parser.add_argument_group("P3M-CP")
    paste.add_argument("--cp", metavar="M[,M]", help="icp (into the picture), fcp (into the features), or both")
    paste.add_argument(
        "--faces", metavar="DIR|synth:COUNT", help="source faces: CelebAMask-HQ, any folder, or generated"
    )
    paste.add_argument("--preview", type=options.path, metavar="FILE", help="write a sheet of P3M-ICP, train nothing")
    where = parser.add_argument_group("where")
    where.add_argument("--out", type=options.path, metavar="RUN", help="the run's folder, new or empty")
    where.add_argument("--resume", action="store_true", help="go on with the run in --out")
    where.add_argument("--dry-run", action="store_true", help="check everything and say what would be done")
    how = parser.add_argument_group("settings (all of them: docs/training.md)")
    how.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="any setting; repeatable"
    )  # fmt: skip
    matte_options.add_arguments(how)
    for name, (key, text) in _COMMON.items():
        how.add_argument(f"--{name}", metavar="VALUE", help=f"{key}: {text}")


def run(args: argparse.Namespace, console: Console) -> int:
    """Train, preview, or say what would be done."""
    with needing("train"):
        from p3m_edge.train import run as runs
    if args.preview is not None:
        return _preview(args, console)
    request = _request(args)
    if args.dry_run:
        planned = runs.plan(request)
        document = {"plan": planned, "config": request.config}
        console.emit(document, lambda out: _render_plan(out, planned))
        return 0
    with Reporter(console) as reporter:
        result = runs.train(request, reporter)
    if result is not None:  # the first of several processes
        console.emit(result, lambda out: _render_result(out, result))
    return 0


def _request(args: argparse.Namespace) -> TrainRequest:
    """What the command line asks for."""
    from p3m_edge.train import config as configs
    from p3m_edge.train import qat
    from p3m_edge.train.origin import OPTIONS
    from p3m_edge.train.request import TrainRequest
    from p3m_edge.train.run import resumed

    if args.out is None:
        raise UsageError("which folder is the run to be in?", hint="--out RUN")
    if args.resume:
        fixed = ("preset", "config", "cp", "encoder_weights", "weights", "qat")
        given = [f"--{name.replace('_', '-')}" for name in fixed if getattr(args, name) is not None]
        if given:
            raise UsageError(f"{given[0]} has no meaning with --resume", hint="the run in --out knows it")
        places = {name: str(value) for name in OPTIONS if (value := getattr(args, name)) is not None}
        return resumed(args.out, _overrides(args), places)
    preset = args.preset or (qat.preset(args.weights) if args.qat and args.weights is not None else configs.BASE)
    config = configs.load(preset, args.config, _overrides(args), qat=bool(args.qat))
    teacher = args.teacher or (args.weights if args.qat else None)
    return TrainRequest(
        config, args.data, args.out, args.faces, args.encoder_weights, args.weights,
        teacher=teacher, unlabelled=args.unlabelled,
    )  # fmt: skip


def _overrides(args: argparse.Namespace) -> list[str]:
    """The options as settings; those of ``--set`` come last."""
    values = [f"{key}={getattr(args, name)}" for name, (key, _) in _COMMON.items() if getattr(args, name) is not None]
    values += matte_options.settings(args)
    if args.cp is not None:
        methods = ", ".join(f'"{method.strip()}"' for method in args.cp.split(",") if method.strip())
        values.append(f"copy_paste.methods=[{methods}]")
    return [*values, *args.set]


def _preview(args: argparse.Namespace, console: Console) -> int:
    """Write a sheet of what P3M-ICP does to the first pictures."""
    from p3m_edge.data.copy_paste import ImagePaste, preview
    from p3m_edge.imageio import write_png
    from p3m_edge.train import config as configs
    from p3m_edge.train.inputs import Draw, open_inputs

    if args.data is None or args.faces is None:
        raise UsageError("a preview needs pictures and faces", hint="--data DIR --faces DIR")
    config = configs.load(args.preset or configs.BASE, args.config, _overrides(args))
    if "icp" not in config.copy_paste.methods:
        raise UsageError("a preview shows P3M-ICP; features cannot be looked at", hint="--cp icp")
    inputs = open_inputs(args.data, args.faces, config)
    assert inputs.faces is not None
    samples = [inputs.train.read(Draw(0, item)) for item in range(min(_PREVIEW_ROWS, len(inputs.train)))]
    step = ImagePaste(inputs.faces, **vars(config.image_paste))
    write_png(args.preview, preview(samples, step, config.run.seed))
    console.emit(
        {"preview": args.preview, "pictures": len(samples)},
        lambda out: out.print(f"{args.preview}: {len(samples)} pictures", soft_wrap=True),
    )
    return 0


class Reporter:
    """Shows how it goes: a bar on a terminal, a line now and then elsewhere; only the first process does."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Any = nullcontext()
        self._task: Any = None
        self._shown = -1

    def __enter__(self) -> Reporter:
        if self._console.err.is_terminal:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
            self._bar = Progress(*columns, console=self._console.err, transient=True)
        self._bar.__enter__()
        return self

    def __exit__(self, *details: Any) -> None:
        self._bar.__exit__(*details)

    def progress(self, what: str, done: int, total: int) -> None:
        if self._console.err.is_terminal:
            if self._task is None:
                self._task = self._bar.add_task(what, total=total)
            self._bar.update(self._task, description=what, completed=done)
        elif 20 * done // total != self._shown:
            self._shown = 20 * done // total
            self._console.note(f"{done}/{total} {what}")

    def warn(self, message: str) -> None:
        self._console.warn(message)


def _render_plan(out: RichConsole, planned: TrainPlan) -> None:
    rows = table("training", "what", "value", header=False)
    for name, value in _plan_rows(planned):
        rows.add_row(name, value)
    out.print(rows)
    if planned.encoder is not None:
        _render_encoder(out, planned.encoder)


def _plan_rows(planned: TrainPlan) -> list[tuple[str, str]]:
    faces = {True: "blurred", False: "not blurred", None: "not known"}[planned.blurred]
    teacher = []
    if (info := planned.teacher) is not None:
        teacher = [("teacher", f"{info.arch}, sha256 {info.sha256[:12]}, licence: {info.licence}; {info.provenance}")]
    return [
        (
            "network",
            f"{planned.arch}, {planned.parameters / 1e6:.2f} million parameters"
            + ", rounded as INT8 while it learns" * planned.qat,
        ),
        ("device", f"{planned.device}, {planned.processes} process{'es' * (planned.processes > 1)}"),
        ("data", planned.data),
        ("faces in them", faces),
        ("source faces", planned.faces or "none: no P3M-CP"),
        *teacher,
        ("pictures", f"{planned.pictures} an epoch, {planned.held_out} held out and judged by {planned.judged_by}"),
        (
            "steps",
            f"{planned.first_step} to {planned.steps}, {planned.steps_per_epoch} an epoch, of {planned.batch} pictures",
        ),
    ]


def _render_encoder(out: RichConsole, report: EncoderReport) -> None:
    out.print(f"{report.file}: {report.loaded} of the encoder's {report.tensors} tensors loaded", soft_wrap=True)
    for title, lines in (("not in the file", report.missing), ("not used", report.unused)):
        for line in lines:
            out.print(f"  {title}: {line}", soft_wrap=True)


def _render_result(out: RichConsole, result: TrainResult) -> None:
    rows = table("training", "what", "value", header=False)
    for name, value in _plan_rows(result.plan):
        rows.add_row(name, value)
    rows.add_row("ended", f"after step {result.step}: {result.reason}")
    rows.add_row(
        "loss of the last step", f"{result.losses['total']:.4f}" if result.losses else "no step was left to do"
    )
    rows.add_row(
        "best on the held-out",
        f"SAD {result.best_sad:.3f} thousand by {result.plan.judged_by}, after step {result.best_step}",
    )
    rows.add_row(
        "speed", f"{result.pictures_per_second:.2f} pictures a second, {result.data_wait:.1%} waiting for data"
    )
    rows.add_row("skipped pictures", str(result.unreadable))
    rows.add_row("weights", f"{result.best}, {result.last}")
    out.print(rows)
    if result.plan.encoder is not None:
        _render_encoder(out, result.plan.encoder)
