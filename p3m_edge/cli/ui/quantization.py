"""What ``export`` and ``inspect`` say about networks in fewer bits: the attempts as a table, failures, advice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from p3m_edge.cli.ui.show import megabytes, number
from p3m_edge.manifest_schema import AccuracyRecord, AttemptRecord, QuantizationRecord
from p3m_edge.table import NONE, Styled, Table, table

if TYPE_CHECKING:
    from p3m_edge.export import ExportResult

_WORTH = 1.1
"""An INT8 artefact that is not even this many times as fast as float32 is not recommended."""
_COLUMNS = "attempt|verdict|SAD float32|SAD|rise|of MSE|of GRAD|of dtSSD|difference|flips|to unknown|times as fast|size"


def attempt_line(attempt: AttemptRecord) -> str:
    """An attempt in one line."""
    verdict = "; ".join(attempt.failures) or "passed"
    speed = "" if attempt.speed is None else f"; {attempt.speed[0]:.2f} times as fast as float32"
    return f"{attempt.name}: {verdict}{speed}"


def attempts_table(target: str, record: QuantizationRecord) -> Table:
    """All attempts of a target."""
    caption = f"* in the artefact; measured with {record.measuring.pictures} pictures ({record.measuring.source})"
    if record.calibration is not None:
        caption += f", calibrated with {record.calibration.pictures} ({record.calibration.source})"
    return table(f"mattes of {target}", _COLUMNS, (_row(each, record.chosen) for each in record.rungs), caption)


def _row(attempt: AttemptRecord, chosen: str) -> Styled:
    name, a = attempt.name + " *" * (attempt.name == chosen), attempt.accuracy
    if a is None:
        return Styled((name, "failed", *NONE * (_COLUMNS.count("|") - 1)), "red")
    rises = (NONE if rise is None else f"{rise:+.1%}" for rise in (a.rise, a.mse_rise, a.grad_rise, a.dtssd_rise))
    speed = NONE if attempt.speed is None else "{:.2f} ({:.2f} to {:.2f})".format(*attempt.speed)
    return Styled(
        (
            name, "failed" if attempt.failures else "passed", number(a.float_sad), number(a.sad), *rises,
            *map(number, (a.mean_difference, a.flips, a.unknown_flips)), speed, megabytes(attempt.bytes),
        ),
        "red" if attempt.failures else None,
    )  # fmt: skip


def gate_failures(record: QuantizationRecord | None) -> tuple[str, ...]:
    """What was beyond the accuracy gate in the attempt that is in the artefact; nothing for one that passed."""
    if record is None or record.passed:
        return ()
    ended = ("the budget was spent; the same line with a larger --budget or --attempts goes on",)
    failures = (f"{record.chosen}: {failure}" for failure in _chosen(record).failures)
    return (*failures, *(ended if record.budget_spent else ()))


def advice(results: Iterable[ExportResult]) -> tuple[str, ...]:
    """Warnings: pictures that prove little, INT8 that does not pay, processors whose products saturate."""
    return tuple(dict.fromkeys(remark for result in results for remark in _remarks(result)))


def _remarks(result: ExportResult) -> Iterator[str]:
    record = result.quantization
    if record is None:
        return
    for pictures in filter(None, (record.calibration, record.measuring)):
        yield from pictures.remarks
    chosen = _chosen(record)
    if chosen.accuracy is None or chosen.speed is None:
        return
    value, low, high = chosen.speed
    if record.passed and value < _WORTH:
        other = result.target.replace("int8", "fp16")
        yield f"{result.target} is {value:.2f} times as fast as float32 here: it does not pay; use {other}"
    elif record.passed and low < 1:
        yield (
            f"{result.target} is {value:.2f} ({low:.2f} to {high:.2f}) times as fast as float32 here: the machine was "
            "too busy to tell whether it pays; see p3m-edge bench"
        )
    if chosen.here is not None and _worse(chosen.here, chosen.accuracy):
        yield (
            f"{result.target}: this processor's 8-bit products saturate; here alpha differs by "
            f"{chosen.here.mean_difference:.4f} from float32, elsewhere by {chosen.accuracy.mean_difference:.4f}"
        )


def _chosen(record: QuantizationRecord) -> AttemptRecord:
    """The attempt that is in the artefact."""
    return next(attempt for attempt in record.rungs if attempt.name == record.chosen)


def _worse(here: AccuracyRecord, accuracy: AccuracyRecord) -> bool:
    """Whether this machine's products are visibly not the exact ones; twice the difference is no rounding."""
    return not here.mean_difference <= 2 * accuracy.mean_difference + 1e-4
