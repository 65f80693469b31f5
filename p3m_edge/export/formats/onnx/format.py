"""The ONNX targets: one file for ONNX Runtime, in float32, half precision, or with Q/DQ nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import onnx

from p3m_edge.export import graph
from p3m_edge.export.formats import Built, Format, QuantizationTraits
from p3m_edge.export.graph.half import staying, to_half, weights_in_half
from p3m_edge.export.graph.qdq import QDQ, parts_of, quantised
from p3m_edge.export.graph.ranges import Range
from p3m_edge.export.graph.reference import exact_run
from p3m_edge.export.quantize.calibration import Calibration
from p3m_edge.export.quantize.search import Candidate
from p3m_edge.export.session import ExportSession
from p3m_edge.targets import Target

MINIMUM_ONNXRUNTIME = "1.17"
Write = Callable[["onnx.ModelProto", Sequence[str], Path], Built]
"""Writes a quantised graph into a folder; the nodes of these names were not quantised."""


class OnnxFormat(Format):
    """Accuracy in 8 bits is judged with basic optimisation, where no product saturates."""

    native_unpooling = True
    float_target = "onnx-fp32"
    traits = QuantizationTraits(exact=exact_run)

    def build(self, session: ExportSession, target: Target, folder: Path) -> Built:
        """Write ``model.onnx`` in float32 or half precision, or in float32 with weights in half precision."""
        model = session.graph
        kept: tuple[str, ...] = ()
        if target.precision == "fp16" and session.request.half == "weights":
            kept = staying(model, {})
            model = weights_in_half(model, kept)
        elif target.precision == "fp16":
            model, kept = to_half(model, session.network_images())
        graph.save(model, folder / target.model_file)
        return Built(MINIMUM_ONNXRUNTIME, kept)

    def candidates(
        self, session: ExportSession, target: Target, calibration: Calibration, folder: Path
    ) -> tuple[Candidate, ...]:
        """Ranges that are averaged or the widest, and weights of 7 bits."""

        def write(model: onnx.ModelProto, nodes: Sequence[str], folder: Path) -> Built:
            graph.save(model, folder / target.model_file)
            return Built(MINIMUM_ONNXRUNTIME, tuple(nodes))

        return qdq_candidates(session.graph, calibration.ranges(), session.request.qdq, write)


def qdq_candidates(
    model: onnx.ModelProto, ranges: Mapping[str, Range], form: QDQ, write: Write, *, inputs_alone: bool = False
) -> tuple[Candidate, ...]:
    """The ways to quantise a float32 graph, the preferred one first; for the other parameters see :func:`quantised`.

    Parameters
    ----------
    write
        Writes the file.
    """
    parts = parts_of(model)

    def candidate(name: str, what: str, **options: bool) -> Candidate:
        def build(folder: Path, kept: Sequence[str]) -> Built:
            nodes = tuple(node for part in kept for node in parts[part])
            return write(quantised(model, ranges, form, nodes, inputs_alone=inputs_alone, **options), nodes, folder)

        return Candidate(name, f"{form}, {what}", build)

    found = (
        candidate("default", "weights per channel, ranges averaged over the pictures"),
        candidate("widest ranges", "weights per channel, the widest ranges of all pictures", widest=True),
    )
    if inputs_alone:  # no products in 16 bits, as of older processors
        return found
    return *found, candidate("7-bit weights", "weights of 7 bits: no product saturates", seven_bits=True)


FORMAT = OnnxFormat()
