"""Weights in fewer bits, judged by the mattes: beside those of the same network in float32, on the measuring pictures.

The limits are those of :mod:`p3m_edge.export.accuracy`, and MSE and GRAD have that of the SAD. Nothing is calibrated,
and there is one attempt.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from p3m_edge.export.accuracy import Gate, UnfitError, Yardstick
from p3m_edge.export.calibration import PictureSet
from p3m_edge.export.levels import open_highest
from p3m_edge.export.workbench import Workbench
from p3m_edge.folder import size
from p3m_edge.manifest import Manifest
from p3m_edge.records import AccuracyRecord, QuantizationRecord, RungRecord
from p3m_edge.targets import Precision

WAYS: dict[Precision, str] = {
    "int8": "weights in 8 bits, symmetric, a scale for each channel",
    "pal6": "weights in palettes of 64 values, by k-means",
    "pal4": "weights in palettes of 16 values, by k-means",
}


def judge(
    bench: Workbench, measuring: PictureSet, manifest: Manifest, folder: Path, precision: Precision,
    tell: Callable[[str], None],
) -> QuantizationRecord:  # fmt: skip
    """Measure the artefact in ``folder``.

    Raises
    ------
    InputError
        The float32 network's results are not finite, or a picture has changed since it was chosen.
    """
    request = bench.request
    tell(f"measuring with {len(measuring)} pictures")
    start = time.perf_counter()

    with tempfile.TemporaryDirectory(dir=folder, prefix=".measure-") as temporary:
        place = (request.height, request.width)
        yardstick = Yardstick(measuring, place, request.batch, bench.infer, Path(temporary))
        accuracy: AccuracyRecord | None = None
        failed: tuple[str, ...] = ()
        with open_highest(manifest, folder) as engine:
            try:
                accuracy = yardstick.measure(lambda images: engine.infer(images, engine.outputs))
                failed = Gate(request.max_drop, edges=True).failures(accuracy)
            except UnfitError as error:
                failed = (str(error),)
    seconds = time.perf_counter() - start
    model = size(folder / manifest.model_file)
    rung = RungRecord(precision, WAYS[precision], accuracy, failed, None, None, model, seconds)
    record = measuring.record(request.seed)
    return QuantizationRecord("weights", None, record, request.max_drop, (rung,), precision, not failed)
