"""Weights in fewer bits, judged by the mattes: beside those of the same network in float32, on the measuring pictures.

The limits are those of :mod:`p3m_edge.export.quantize.accuracy`, and MSE and GRAD have that of the SAD. Nothing is
calibrated, and there is one attempt.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

from p3m_edge.export.formats import Tell, format_of
from p3m_edge.export.quantize import UnfitError
from p3m_edge.export.quantize.accuracy import AccuracyEvaluator, Gate
from p3m_edge.export.session import ExportSession
from p3m_edge.folder import size
from p3m_edge.manifest import Manifest
from p3m_edge.manifest_schema import AccuracyRecord, AttemptRecord, QuantizationRecord

WAYS = {
    "int8": "weights in 8 bits, symmetric, a scale for each channel",
    "pal6": "weights in palettes of 64 values, by k-means",
    "pal4": "weights in palettes of 16 values, by k-means",
}


def measure_weights(session: ExportSession, manifest: Manifest, folder: Path, tell: Tell) -> Manifest:
    """Measure the artefact in ``folder``; its manifest with the figures and the verdict.

    Raises
    ------
    InputError
        The float32 network's results are not finite, or a picture has changed since it was chosen.
    """
    request, measuring, way = session.request, session.sets.measuring, manifest.precision
    assert measuring is not None
    tell(f"measuring with {len(measuring)} pictures")
    start = time.perf_counter()
    accuracy: AccuracyRecord | None = None
    model_format = format_of(manifest.engine.name)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".measure-") as temporary:
        evaluator = AccuracyEvaluator(measuring, session.size, request.batch, session.infer, Path(temporary))
        with model_format.open_for_verification(manifest, folder) as engine:
            try:
                accuracy = evaluator.measure(lambda images: engine.infer(images, engine.outputs))
                failed = Gate(request.max_drop, model_format.traits.edges).failures(accuracy)
            except UnfitError as error:
                failed = (str(error),)
    seconds, model = time.perf_counter() - start, size(folder / manifest.model_file)
    attempt = AttemptRecord(way, WAYS[way], accuracy, failed, None, None, model, seconds)
    record = measuring.record(request.seed)
    quantization = QuantizationRecord("weights", None, record, request.max_drop, (attempt,), way, not failed)
    return replace(manifest, quantization=quantization)
