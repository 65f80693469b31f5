"""What ``export`` and ``inspect`` say about INT8: the options, the ladder as a table, and advice."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from p3m_edge.cli import options
from p3m_edge.cli.tables import megabytes, number, table
from p3m_edge.manifest import AccuracyRecord, QuantizationRecord, RungRecord

if TYPE_CHECKING:
    from rich.table import Table

    from p3m_edge.export import ExportResult

_WORTH = 1.05
"""An INT8 artefact that is not even this many times as fast as float32 is not recommended."""


def add_int8_arguments(parser: argparse.ArgumentParser) -> None:
    """What INT8 is calibrated and judged with. The defaults are those of :class:`p3m_edge.export.ExportRequest`."""
    group = parser.add_argument_group("INT8 targets")
    group.add_argument(
        "--calib", type=options.path, metavar="DIR",
        help="portraits to calibrate with: a folder or a data set (default: synthetic ones, no proof for photographs)",
    )  # fmt: skip
    group.add_argument(
        "--calib-count", type=options.positive, default=128, metavar="N",
        help="how many of them, 32 or more (default: 128)",
    )  # fmt: skip
    group.add_argument(
        "--measure", type=options.path, metavar="DIR",
        help="a data set, or portraits without mattes, to judge with; not those of --calib (default: synthetic ones)",
    )  # fmt: skip
    group.add_argument("--seed", type=options.whole, default=0, metavar="N", help="of the choice (default: 0)")
    group.add_argument(
        "--max-drop", type=_share, default=0.05, metavar="SHARE",
        help="by which share the SAD of the measuring pictures may rise (default: 0.05)",
    )  # fmt: skip
    group.add_argument(
        "--qdq", choices=("u8s8", "s8s8"), default="u8s8",
        help="form of onnx-int8: u8s8 for x86 processors (default), s8s8 as TensorRT takes it",
    )  # fmt: skip


def rung_line(rung: RungRecord) -> str:
    """A rung in one line."""
    verdict = "passed" if not rung.failures else "; ".join(rung.failures)
    return f"{rung.name}: {verdict}; {rung.speed[0]:.2f} times as fast as float32"


def ladder_table(target: str, record: QuantizationRecord) -> Table:
    """All rungs of a target."""
    right = ("SAD float32", "SAD", "rise", "difference", "flips", "to unknown", "times as fast", "size")
    rows = table(f"INT8 of {target}", "rung", "verdict", *right, right=right)
    for rung in record.rungs:
        a = rung.accuracy
        low, high = rung.speed[1:]
        rows.add_row(
            rung.name + (" *" if rung.name == record.chosen else ""), "failed" if rung.failures else "passed",
            number(a.float_sad), number(a.sad), "-" if a.rise is None else f"{a.rise:+.1%}", number(a.mean_difference),
            number(a.flips), number(a.unknown_flips), f"{rung.speed[0]:.2f} ({low:.2f} to {high:.2f})",
            megabytes(rung.bytes), style="red" if rung.failures else None,
        )  # fmt: skip
    rows.caption = (
        f"* in the artefact; measured with {record.measuring.pictures} pictures ({record.measuring.source}), "
        f"calibrated with {record.calibration.pictures} ({record.calibration.source})"
    )
    return rows


def gate_failures(record: QuantizationRecord | None) -> tuple[str, ...]:
    """What was beyond the accuracy gate in the rung that is in the artefact; nothing for one that passed."""
    if record is None or record.passed:
        return ()
    chosen = next(rung for rung in record.rungs if rung.name == record.chosen)
    return tuple(f"{chosen.name}: {failure}" for failure in chosen.failures)


def advice(results: Iterable[ExportResult]) -> Iterator[str]:
    """What must not be overlooked: pictures that prove little, INT8 that does not pay, processors that saturate."""
    remarks: dict[str, None] = {}
    for result in results:
        record = result.quantization
        if record is None:
            continue
        for remark in (*record.calibration.remarks, *record.measuring.remarks):
            remarks.setdefault(f"INT8: {remark}")
        chosen = next(rung for rung in record.rungs if rung.name == record.chosen)
        if record.passed and chosen.speed[0] < _WORTH:
            other = result.target.replace("int8", "fp16")
            remarks.setdefault(
                f"{result.target} is {chosen.speed[0]:.2f} times as fast as float32 here: it does not pay; use {other}"
            )
        if chosen.here is not None and _worse(chosen.here, chosen.accuracy):
            remarks.setdefault(
                f"{result.target}: this processor's 8-bit products saturate; here alpha differs by "
                f"{chosen.here.mean_difference:.4f} from float32, elsewhere by {chosen.accuracy.mean_difference:.4f}"
            )
    yield from remarks


def _worse(here: AccuracyRecord, accuracy: AccuracyRecord) -> bool:
    """Whether this machine's products are visibly not the exact ones; twice the difference is no rounding."""
    return not here.mean_difference <= 2 * accuracy.mean_difference + 1e-4


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share < 10:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share of 0 or more, such as 0.05")
    return share
