"""What ``export`` and ``inspect`` say about INT8: the options, the ladder as a table, and advice."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from p3m_edge import targets
from p3m_edge.cli import options
from p3m_edge.cli.tables import megabytes, number, table
from p3m_edge.errors import UsageError
from p3m_edge.records import AccuracyRecord, QuantizationRecord, RungRecord
from p3m_edge.targets import ATTEMPTS, BUDGET_MINUTES, CALIBRATION_PICTURES, MAX_DROP

if TYPE_CHECKING:
    from rich.table import Table

    from p3m_edge.export import ExportResult, StageEvent

_WORTH = 1.1
"""An INT8 artefact that is not even this many times as fast as float32 is not recommended."""

_FIELDS = {
    "calib": "calibration", "calib_count": "calibration_count", "measure": "measuring", "seed": "seed",
    "max_drop": "max_drop", "qdq": "qdq", "budget": "budget", "attempts": "attempts",
}  # fmt: skip
"""The options, and the fields of :class:`p3m_edge.export.ExportRequest` that they set."""

_MEASURING = ("measure", "seed", "max_drop")
"""Those that also mean something where the weights alone have fewer bits."""


def add_int8_arguments(parser: argparse.ArgumentParser) -> None:
    """What INT8 is calibrated and judged with; :func:`int8_options` reads it."""
    group = parser.add_argument_group("INT8 targets")
    group.add_argument(
        "--calib", type=options.path, metavar="DIR",
        help="portraits to calibrate with: a folder or a data set (default: synthetic ones, no proof for photographs)",
    )  # fmt: skip
    group.add_argument(
        "--calib-count", type=options.positive, metavar="N",
        help=f"how many of them, 32 or more (default: {CALIBRATION_PICTURES})",
    )  # fmt: skip
    group.add_argument(
        "--measure", type=options.path, metavar="DIR",
        help="a data set, or portraits without mattes, to judge with; not those of --calib (default: synthetic ones)",
    )  # fmt: skip
    group.add_argument("--seed", type=options.whole, metavar="N", help="of the choice (default: 0)")
    group.add_argument(
        "--max-drop", type=_share, metavar="SHARE",
        help=f"by which share the SAD of the measuring pictures may rise (default: {MAX_DROP:g}); above 0.1, GRAD and "
        "dtSSD may rise as much",
    )  # fmt: skip
    group.add_argument(
        "--qdq", choices=("u8s8", "s8s8"),
        help="form of onnx-int8: u8s8 for x86 processors (default), s8s8 as TensorRT takes it",
    )  # fmt: skip
    group.add_argument(
        "--budget", type=_minutes, metavar="MINUTES",
        help=f"how long to look for an artefact that meets the gate, for each target (default: {BUDGET_MINUTES:g}); "
        "what was found by then is kept, and the same line with more goes on",
    )  # fmt: skip
    group.add_argument(
        "--attempts", type=options.positive, metavar="N", help=f"in how many attempts (default: {ATTEMPTS})"
    )


def int8_options(args: argparse.Namespace, names: Iterable[str]) -> dict[str, Any]:
    """The options that were given, as :class:`p3m_edge.export.ExportRequest` names them; its defaults are the others.

    Raises
    ------
    UsageError
        An option was given that means nothing to any of the targets with these names.
    """
    chosen = [targets.get(name) for name in names]
    measured = [target.name for target in chosen if target.needs_calibration or target.weight_only]
    climbing = [target.name for target in chosen if target.needs_calibration]
    given = [name for name in _FIELDS if getattr(args, name) is not None]
    for name in given:
        option = f"--{name.replace('_', '-')}"
        if not measured:
            raise UsageError(f"{option} is for INT8 targets, and none was named", hint="for example --target onnx-int8")
        if name not in _MEASURING and not climbing:
            raise UsageError(
                f"{option} is for targets that are calibrated, not for {', '.join(measured)}",
                hint=f"leave out {option}",
            )
        if name == "qdq" and "onnx-int8" not in climbing:
            raise UsageError(f"{option} is for onnx-int8, not for {', '.join(climbing)}", hint=f"leave out {option}")
    return {_FIELDS[name]: getattr(args, name) for name in given}


def note_line(event: StageEvent) -> str:
    """What a stage that is at work tells."""
    return event.text if event.rung is None else rung_line(event.rung)


def rung_line(rung: RungRecord) -> str:
    """A rung in one line."""
    verdict = "passed" if not rung.failures else "; ".join(rung.failures)
    speed = "" if rung.speed is None else f"; {rung.speed[0]:.2f} times as fast as float32"
    return f"{rung.name}: {verdict}{speed}"


def ladder_table(target: str, record: QuantizationRecord) -> Table:
    """All rungs of a target."""
    right = (
        "SAD float32",
        "SAD",
        "rise",
        "of MSE",
        "of GRAD",
        "of dtSSD",
        "difference",
        "flips",
        "to unknown",
        "times as fast",
        "size",
    )
    rows = table(f"mattes of {target}", "rung", "verdict", *right, right=right)
    for rung in record.rungs:
        name = rung.name + (" *" if rung.name == record.chosen else "")
        a = rung.accuracy
        if a is None:
            rows.add_row(name, "failed", *("-" for _ in right), style="red")
            continue
        speed = "-" if rung.speed is None else "{:.2f} ({:.2f} to {:.2f})".format(*rung.speed)
        rows.add_row(
            name, "failed" if rung.failures else "passed",
            number(a.float_sad), number(a.sad),
            *("-" if rise is None else f"{rise:+.1%}" for rise in (a.rise, a.mse_rise, a.grad_rise, a.dtssd_rise)),
            number(a.mean_difference), number(a.flips), number(a.unknown_flips), speed, megabytes(rung.bytes),
            style="red" if rung.failures else None,
        )  # fmt: skip
    rows.caption = f"* in the artefact; measured with {record.measuring.pictures} pictures ({record.measuring.source})"
    if record.calibration is not None:
        rows.caption += f", calibrated with {record.calibration.pictures} ({record.calibration.source})"
    return rows


def gate_failures(record: QuantizationRecord | None) -> tuple[str, ...]:
    """What was beyond the accuracy gate in the rung that is in the artefact; nothing for one that passed."""
    if record is None or record.passed:
        return ()
    ended = ("the budget was spent; the same line with a larger --budget or --attempts goes on",)
    return (
        *(f"{record.chosen}: {failure}" for failure in _chosen(record).failures),
        *(ended if record.budget_spent else ()),
    )


def advice(results: Iterable[ExportResult]) -> Iterator[str]:
    """What must not be overlooked: pictures that prove little, INT8 that does not pay, processors that saturate."""
    remarks: dict[str, None] = {}
    for result in results:
        record = result.quantization
        if record is None:
            continue
        for remark in (*(record.calibration.remarks if record.calibration else ()), *record.measuring.remarks):
            remarks.setdefault(remark)
        chosen = _chosen(record)
        if chosen.accuracy is None or chosen.speed is None:
            continue
        value, low, high = chosen.speed
        if record.passed and value < _WORTH:
            other = result.target.replace("int8", "fp16")
            remarks.setdefault(
                f"{result.target} is {value:.2f} times as fast as float32 here: it does not pay; use {other}"
            )
        elif record.passed and low < 1:
            remarks.setdefault(
                f"{result.target} is {value:.2f} ({low:.2f} to {high:.2f}) times as fast as float32 here: the machine "
                "was too busy to tell whether it pays; see p3m-edge bench"
            )
        if chosen.here is not None and _worse(chosen.here, chosen.accuracy):
            remarks.setdefault(
                f"{result.target}: this processor's 8-bit products saturate; here alpha differs by "
                f"{chosen.here.mean_difference:.4f} from float32, elsewhere by {chosen.accuracy.mean_difference:.4f}"
            )
    yield from remarks


def _chosen(record: QuantizationRecord) -> RungRecord:
    """The attempt that is in the artefact."""
    return next(rung for rung in record.rungs if rung.name == record.chosen)


def _worse(here: AccuracyRecord, accuracy: AccuracyRecord) -> bool:
    """Whether this machine's products are visibly not the exact ones; twice the difference is no rounding."""
    return not here.mean_difference <= 2 * accuracy.mean_difference + 1e-4


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = math.nan
    if not 0 < minutes < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of minutes above 0")
    return minutes


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share < 10:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share of 0 or more, such as 0.05")
    return share
