"""What P3M-CP changes, measured on pictures whose faces are there in both forms: ``python tools/ablate_cp.py``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from p3m_edge.cli import main, ui
from p3m_edge.cli.options import fill, group, option
from p3m_edge.cli.options.shared import Mattes
from p3m_edge.cli.options.values import Size
from p3m_edge.table import Table, table
from p3m_edge.train import ablation
from p3m_edge.train.ablation import Ablation

EXAMPLES = """
python tools/ablate_cp.py --data people --test both-forms --faces sources --encoder-weights lite0.pth --out ablation
python tools/ablate_cp.py --data people --test both-forms --faces CelebAMask-HQ --steps 3000 --seeds 5 --out longer
python tools/ablate_cp.py --data people --test both --faces sources --set feature_paste.levels=[1,2,3] --out levels
"""
_COLUMNS = "P3M-CP|SAD|B:B|B:N|gap|95 % interval of the gap"
_TITLE = "SAD in thousands, mean ± standard deviation over the seeds; gap: B:N less B:B"


@dataclass(frozen=True)
class Arguments:
    """Does P3M-CP help? Trains one network four ways (without P3M-CP, P3M-ICP, P3M-FCP, both), with several seeds
    each and as many steps each, on portraits whose faces are hidden; tests the last weights on pictures with hidden and
    with normal faces (B:B and B:N); prints SAD on the whole picture and inside the face, the gap between the two with
    its spread over the seeds, and the gap's 95 % interval by the paired bootstrap over the pictures. Writes report.md
    and report.json. An ablation that was interrupted goes on when the command is given again, with the new places of
    what has moved. See docs/p3m-cp.md.
    """

    data: str = option("to train on: faces hidden, with facemask/", metavar="DIR", required=True)
    test: str = option("blurred_image/, original_image/, alpha/ and facemask/", metavar="DIR", required=True)
    faces: str = option("source faces, as for train", metavar="DIR|synth:COUNT", required=True)
    out: Path = option("runs and report", metavar="FOLDER", required=True)
    preset: str = option("of train", "mobile", metavar="NAME")
    encoder_weights: str | None = option("ImageNet weights that every training starts from", metavar="FILE")
    steps: int = option("of each training", 1500)
    seeds: int = option("trainings of each way", 3)
    size: Size | None = option("of the network in the test (default: as in training)")
    set: tuple[str, ...] = option("any setting of the training; repeatable", (), metavar="KEY=VALUE")
    mattes: Mattes = group(Mattes)


def run(args: Arguments, console: ui.Console) -> None:
    """Ask, and write down the answer."""
    setting = fill(ablation.Setting, args, overrides=(*args.mattes.settings, *args.set))
    with ui.progress(console, lines=20) as bars:
        found = ablation.ablate(setting, args.out, bars)
    console.write(args.out / "report.json", found)
    console.write(args.out / "report.md", markdown(found))
    console.emit(found, [_table(found)])


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
        _table(found).markdown(),
    ]
    return "\n".join(lines) + "\n"


def _table(found: Ablation) -> Table:
    rows = []
    for row in found.rows:
        spreads = (f"{spread.mean:.3f} ± {spread.deviation:.3f}" for spread in (row.blurred, row.normal, row.gap))
        rows.append((row.variant, row.where, *spreads, "{:.3f} to {:.3f}".format(*row.interval)))
    return table(_TITLE, _COLUMNS, rows)


if __name__ == "__main__":
    sys.exit(main(tool=sys.modules[__name__]))
