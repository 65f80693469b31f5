"""``p3m-edge ablate-cp``: what P3M-CP changes, measured on pictures whose faces are there in both forms."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from p3m_edge.atomic import atomic_write
from p3m_edge.cli import matte_options, options
from p3m_edge.cli.tables import table
from p3m_edge.errors import needing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console as RichConsole

    from p3m_edge.cli.console import Console
    from p3m_edge.train.ablation import Ablation, Spread

HELP = """Does P3M-CP help? Trains one network four ways (without P3M-CP, P3M-ICP, P3M-FCP, both), with several seeds
each and as many steps each, on portraits whose faces are hidden; tests the last weights on pictures with hidden and
with normal faces (B:B and B:N); prints SAD on the whole picture and inside the face, the gap between the two with its
spread over the seeds, and the gap's 95 % interval by the paired bootstrap over the pictures. Writes report.md and
report.json. An ablation that was interrupted goes on when the command is given again. See docs/p3m-cp.md."""
EXAMPLES = """
p3m-edge ablate-cp --data people --test both-forms --faces sources --encoder-weights lite0.pth --out ablation
p3m-edge ablate-cp --data people --test both-forms --faces CelebAMask-HQ --steps 3000 --seeds 5 --out longer
p3m-edge ablate-cp --data people --test both-forms --faces sources --set feature_paste.levels=[1,2,3] --out levels
"""
_COLUMNS = ("P3M-CP", "SAD", "B:B", "B:N", "gap", "95 % interval of the gap")
_TITLE = "SAD in thousands, mean ± standard deviation over the seeds; gap: B:N less B:B"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """On what, how long, how often."""
    parser.add_argument("--data", required=True, metavar="DIR", help="to train on: faces hidden, with facemask/")
    parser.add_argument(
        "--test", required=True, metavar="DIR", help="blurred_image/, original_image/, alpha/ and facemask/"
    )
    parser.add_argument("--faces", required=True, metavar="DIR|synth:COUNT", help="source faces, as for train")
    parser.add_argument("--out", type=options.path, required=True, metavar="FOLDER", help="runs and report")
    parser.add_argument("--preset", default="mobile", metavar="NAME", help="of train (default: mobile)")
    parser.add_argument("--encoder-weights", metavar="FILE", help="ImageNet weights that every training starts from")
    parser.add_argument(
        "--steps", type=options.positive, default=1500, metavar="N", help="of each training (default: 1500)"
    )
    parser.add_argument(
        "--seeds", type=options.positive, default=3, metavar="N", help="trainings of each way (default: 3)"
    )
    parser.add_argument(
        "--size", type=options.size, metavar="WIDTHxHEIGHT", help="of the network in the test (default: as in training)"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="any setting of the training; repeatable"
    )
    matte_options.add_arguments(parser)


def run(args: argparse.Namespace, console: Console) -> int:
    """Ask, and write down the answer."""
    with needing("train"):
        from p3m_edge.train import ablation
    from p3m_edge.cli.console import to_json
    from p3m_edge.cli.train import Reporter

    size = None if args.size is None else (args.size.width, args.size.height)
    overrides = (*matte_options.settings(args), *args.set)
    setting = ablation.Setting(
        args.data, args.faces, args.test, args.preset, overrides, args.encoder_weights, args.steps, args.seeds, size
    )
    with Reporter(console) as reporter:
        found = ablation.ablate(setting, args.out, reporter)
    atomic_write(args.out / "report.json", to_json(found))
    atomic_write(args.out / "report.md", markdown(found).encode())
    console.emit(found, lambda screen: _render(screen, found))
    return 0


def markdown(found: Ablation) -> str:
    """The table as Markdown, with how it came about."""
    question, setting = found.question, found.question.setting
    size = "the training's size" if setting.size is None else "{}x{}".format(*setting.size)
    encoder = "random weights" if setting.encoder_weights is None else Path(setting.encoder_weights).name
    lines = [
        f"Trained on {question.train}; source faces: {question.licence}; tested on {len(question.pictures)} pictures "
        f"in both forms at {size}; preset {setting.preset}, the encoder from {encoder}, {setting.steps} steps, "
        f"{setting.seeds} seeds" + (f"; {', '.join(setting.overrides)}" if setting.overrides else "") + ".",
        f"{_TITLE}. The interval is over the pictures (each with its mean over the seeds).",
        "",
        "| " + " | ".join(_COLUMNS) + " |",
        "| --- | --- |" + " ---: |" * (len(_COLUMNS) - 2),
    ]  # fmt: skip
    lines += ["| " + " | ".join(cells) + " |" for cells in _rows(found)]
    return "\n".join(lines) + "\n"


def _rows(found: Ablation) -> Iterator[tuple[str, ...]]:
    for row in found.rows:
        spreads = (_cell(spread) for spread in (row.blurred, row.normal, row.gap))
        yield row.variant, row.where, *spreads, "{:.3f} to {:.3f}".format(*row.interval)


def _cell(spread: Spread) -> str:
    return f"{spread.mean:.3f} ± {spread.deviation:.3f}"


def _render(out: RichConsole, found: Ablation) -> None:
    rows = table(_TITLE, *_COLUMNS, right=_COLUMNS[2:])
    for cells in _rows(found):
        rows.add_row(*cells)
    out.print(rows)
