"""``p3m-edge ablate-cp``: what P3M-CP changes, measured on synthetic portraits."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from p3m_edge.atomic import atomic_write
from p3m_edge.cli import options
from p3m_edge.cli.tables import table
from p3m_edge.errors import needing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console as RichConsole

    from p3m_edge.cli.console import Console
    from p3m_edge.train.ablation import Ablation, Score, Variant

HELP = """Does P3M-CP help? Trains the smallest network four ways (without P3M-CP, P3M-ICP, P3M-FCP, both), with several
seeds each, on synthetic portraits whose faces are hidden; tests on hidden and on normal faces (B:B and B:N); prints
SAD on the whole picture and inside the face, with the spread over the seeds. Writes report.md and report.json.
An ablation that was interrupted goes on when the command is given again."""
EXAMPLES = """
p3m-edge ablate-cp --out ablation
p3m-edge ablate-cp --out quick --seeds 1 --steps 60 --train 60 --test 20 --size 64
p3m-edge ablate-cp --out levels --set feature_paste.levels=[1,2,3] --json
"""
_NUMBERS = {
    "train": "portraits to train on (240)", "test": "portraits to test on (60)", "seeds": "trainings of each way (3)",
    "steps": "of each training (300)", "batch": "pictures a step (8)", "faces": "generated source faces (64)",
    "size": "side of the network's input, a multiple of 32 (96)",
}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How much of everything."""
    parser.add_argument("--out", type=options.path, required=True, metavar="FOLDER", help="portraits, runs, report")
    for name, text in _NUMBERS.items():
        parser.add_argument(f"--{name}", type=options.positive, metavar="N", help=text)
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="any setting of the training; repeatable"
    )


def run(args: argparse.Namespace, console: Console) -> int:
    """Ask, and write down the answer."""
    with needing("train"):
        from p3m_edge.train import ablation
    from p3m_edge.cli.console import to_json
    from p3m_edge.cli.train import Reporter

    given = {name: value for name in _NUMBERS if (value := getattr(args, name)) is not None}
    setting = ablation.Setting(**given, overrides=tuple(args.set))
    with Reporter(console) as reporter:
        found = ablation.ablate(setting, args.out, reporter)
    out: Path = args.out
    atomic_write(out / "report.json", to_json(found))
    atomic_write(out / "report.md", markdown(found).encode())
    console.emit(found, lambda screen: _render(screen, found))
    return 0


def markdown(found: Ablation) -> str:
    """The table as Markdown, with how it came about."""
    s = found.setting
    head = ("P3M-CP", *_columns())
    lines = [
        f"{s.train} synthetic portraits to train on, faces hidden; {s.test} to test on; {s.seeds} seeds, {s.steps} "
        f"steps of {s.batch} pictures at {s.size}x{s.size}; {s.faces} source faces"
        + (f"; {', '.join(s.overrides)}" if s.overrides else "") + ".",
        "SAD in thousands, mean and standard deviation over the seeds; gap: B:N less B:B.",
        "",
        "| " + " | ".join(head) + " |",
        "| --- |" + " ---: |" * (len(head) - 1),
    ]  # fmt: skip
    lines += ["| " + " | ".join(cells) + " |" for cells in _rows(found)]
    return "\n".join(lines) + "\n"


def _columns() -> dict[str, Callable[[Score], float]]:
    return {
        "B:B": lambda s: s.blurred, "B:N": lambda s: s.normal, "gap": lambda s: s.gap,
        "B:B, face": lambda s: s.blurred_face, "B:N, face": lambda s: s.normal_face, "gap, face": lambda s: s.face_gap,
    }  # fmt: skip


def _rows(found: Ablation) -> Iterator[tuple[str, ...]]:
    for variant in found.variants:
        yield variant.name, *(_cell(variant, figure) for figure in _columns().values())


def _cell(variant: Variant, figure: Callable[[Score], float]) -> str:
    return f"{variant.mean(figure):.4f} ± {variant.spread(figure):.4f}"


def _render(out: RichConsole, found: Ablation) -> None:
    rows = table("SAD, thousands: mean and deviation over the seeds", "P3M-CP", *_columns(), right=tuple(_columns()))
    for cells in _rows(found):
        rows.add_row(*cells)
    out.print(rows)
