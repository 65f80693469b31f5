"""The LiteRT targets: a ``.tflite`` file for Android, converted by litert-torch in a process of its own.

It takes and gives what every artefact does: a frame in uint8, alpha in float32, also where it computes in 8 bits: 8-bit
results would only be rounded once more. LiteRT itself runs it here, with XNNPACK's kernels for the processor; the
delegates for GPU and NPU of a device have not been run, which manifest and ``delegates.json`` say.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from p3m_edge.export.formats import Built, Format, QuantizationTraits, run_converter
from p3m_edge.export.formats.litert.convert import LiteRtOrder
from p3m_edge.export.formats.litert.kotlin import FILE, kotlin_source
from p3m_edge.export.formats.litert.lint import refused
from p3m_edge.export.formats.litert.parts import fusion_of, scopes_of
from p3m_edge.export.formats.litert.quantise import HalfOrder, IntegerOrder
from p3m_edge.export.formats.litert.ranges import activation_ranges
from p3m_edge.export.graph import INPUT
from p3m_edge.export.graph.program import save
from p3m_edge.export.graph.ranges import Range
from p3m_edge.export.quantize.calibration import Calibration
from p3m_edge.export.quantize.search import Candidate
from p3m_edge.export.session import ExportSession
from p3m_edge.manifest import Manifest
from p3m_edge.runtimes.engines import litert
from p3m_edge.targets import Target

MINIMUM_LITERT = "2.3"  # no older one was tried
CONVERTER = "p3m_edge.export.formats.litert.convert"
QUANTIZER = "p3m_edge.export.formats.litert.quantise"
DELEGATES = "delegates.json"
NOT_RUN = "the processor alone, by XNNPACK; delegates for GPU and NPU have not been run"


class LiteRtFormat(Format):
    """Converted from PyTorch's operators; fewer bits are made of the model in float32."""

    single_frame = True
    float_target = "litert-fp32"
    traits = QuantizationTraits("litert-quantizer")

    def trace(self, session: ExportSession) -> None:
        """The network as PyTorch's operators, without the booleans that a GPU's delegate refuses."""
        _ = session.program_without_booleans

    def build(self, session: ExportSession, target: Target, folder: Path) -> Built:
        """Write ``model.tflite``, Kotlin for it, and what a GPU would leave to the processor."""
        litert.require()
        with tempfile.TemporaryDirectory(dir=folder, prefix=".convert-") as temporary:
            traced, model, half = (Path(temporary) / name for name in ("program.pt2", "single.tflite", "half.tflite"))
            save(session.program_without_booleans, traced)
            order = LiteRtOrder(str(traced), str(model), INPUT, session.outputs)
            run_converter(CONVERTER, order, "litert-torch", f"the network ({session.network.arch})")
            if target.precision == "fp16":
                run_converter(QUANTIZER, HalfOrder(str(model), str(half)), "litert-quantizer", "weights", "halve")
                model = half
            model.rename(folder / target.model_file)
        return self._built(session, target, folder, ())

    def _built(self, session: ExportSession, target: Target, folder: Path, kept: Sequence[str]) -> Built:
        """Write what comes with a model in which these parts are in float32, and describe it."""
        source = kotlin_source(session.network.arch, target, session.request)
        (folder / FILE).write_text(source, encoding="utf-8")
        found = {"run": NOT_RUN, "refused_by_gpu": refused(folder / target.model_file)}
        (folder / DELEGATES).write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
        return Built(MINIMUM_LITERT, tuple(kept))

    def describe(self, session: ExportSession, target: Target, built: Built, folder: Path) -> Manifest:
        """With what has run it."""
        manifest = super().describe(session, target, built, folder)
        verified = replace(manifest.verified, machine=manifest.verified.machine | {"delegates": NOT_RUN})
        return replace(manifest, verified=verified)

    def candidates(
        self, session: ExportSession, target: Target, calibration: Calibration, folder: Path
    ) -> tuple[Candidate, ...]:
        """Ranges that are averaged or the widest; they are measured once, in the model in float32."""
        source = folder / target.model_file

        def candidate(name: str, what: str, *, widest: bool) -> Candidate:
            def build(folder: Path, kept: Sequence[str]) -> Built:
                found = calibration.attempts.remember(
                    "litert-ranges",
                    dict[str, Range],
                    lambda: activation_ranges(source, calibration.images("measuring ranges")),
                )
                table = {name: each[:2] if widest else each[2:] for name, each in found.items()}
                scopes = (*scopes_of(source, session.program_without_booleans, kept), *fusion_of(source))
                order = IntegerOrder(str(source), str(folder / target.model_file), table, scopes)
                run_converter(QUANTIZER, order, "litert-quantizer", "the network", "quantise")
                return self._built(session, target, folder, kept)

            return Candidate(name, f"weights per channel, outputs in float32, {what}", build)

        return (
            candidate("default", "ranges averaged over the pictures", widest=False),
            candidate("widest ranges", "the widest ranges of all pictures", widest=True),
        )


FORMAT = LiteRtFormat()
