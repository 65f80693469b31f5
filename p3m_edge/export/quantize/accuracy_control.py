"""Accuracy control: with how few parts in float32 a network meets the gate, within a budget.

NNCF has such a loop (``quantize_with_accuracy_control``). It is not used: it reverts one operation after the other,
knows no limit of time, keeps nothing on disc that an interrupted run could go on from, and serves OpenVINO and ONNX by
different means. This one is told how to make an attempt, and works for any format.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from p3m_edge.export.formats import format_of
from p3m_edge.export.graph.qdq import depthwise, quantised
from p3m_edge.export.quantize.accuracy import Criterion
from p3m_edge.export.quantize.calibration import Calibration
from p3m_edge.export.quantize.sensitivity import hardest, ordered, rank
from p3m_edge.export.session import ExportSession
from p3m_edge.targets import Target

_LOOKED_AT = 8
"""Calibration pictures that parts are compared on: those on which the quantised network is furthest off."""


def fewest(order: Sequence[str], passes: Callable[[Sequence[str]], bool]) -> None:
    """Look for the fewest parts, taken in their order, that must stay in float32: by halving the interval.

    More parts in float32 are taken to be no worse, and all of them to be the float32 network, which is not tried. Every
    attempt that passes has fewer of them than the one that passed before it.

    ``order`` names that part first which hurts most; ``passes`` makes an attempt with some in float32, and says whether
    it meets the gate.
    """
    fails, passed = 0, len(order)
    while passed - fails > 1:
        middle = (fails + passed) // 2
        if passes(order[:middle]):
            passed = middle
        else:
            fails = middle


def ranked(session: ExportSession, target: Target, calibration: Calibration, criterion: Criterion) -> Sequence[str]:
    """The parts of the network, ranked by the error that quantising each one alone causes, in ONNX for any format.

    On calibration pictures: those that are measured with decide about the gate alone.
    """
    model, traits = session.graph(), format_of(target.engine).traits
    form = traits.qdq or session.request.qdq

    def measure() -> tuple[str, ...]:
        ranges = calibration.ranges("measuring ranges to rank the parts")
        kept = () if traits.grouped else depthwise(model)
        everything = quantised(model, ranges, form, kept)
        progress = calibration.progress("looking for the hardest pictures", limited=True)
        total = len(calibration.pictures)
        images = hardest(model, everything, calibration.images(), _LOOKED_AT, criterion, progress, total)
        digest = hashlib.sha256(b"".join(image.tobytes() for image in images)).hexdigest()
        found = rank(
            model, ranges, images, digest, form=form, kept=kept,
            cache=calibration.attempts.folder / f"parts-{criterion}.json",
            progress=calibration.progress(f"ranking the parts by {criterion}", limited=True),
        )  # fmt: skip
        return ordered(found, criterion)

    return calibration.attempts.remember(f"order-{criterion}", tuple[str, ...], measure)
