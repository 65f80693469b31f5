"""Files of ``torch.export``, run by PyTorch; "in 8 bits", weights are rounded to few values, or to many."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path

import torch

from p3m_edge.export.formats import Built, Format, Headroom, QuantizationTraits, Stage, Tell
from p3m_edge.export.quantize.calibration import Calibration
from p3m_edge.export.quantize.search import Candidate
from p3m_edge.export.session import ExportSession
from p3m_edge.manifest import Manifest, record_files
from p3m_edge.runtimes.contract import EngineInfo, Images, Loaded, Outputs
from p3m_edge.runtimes.engine import Engine
from p3m_edge.targets import INT8, Target

ENGINE = "sketch"
SINGLE = Target("sketch-fp32", ENGINE, "fp32", "model.pt2", ("torch",), ("torch",), INT8)  # type: ignore[arg-type]  # an engine that the package does not have
EIGHT = dataclasses.replace(SINGLE, name="sketch-int8", precision="int8")


class SketchFormat(Format):
    """It takes one frame, and its engine is PyTorch."""

    single_frame = True
    float_target = SINGLE.name
    traits = QuantizationTraits("rounding")

    def trace(self, session: ExportSession) -> None:
        _ = session.program

    def build(self, session: ExportSession, target: Target, folder: Path) -> Built:
        return self._write(session, folder / target.model_file, None)

    def candidates(
        self, session: ExportSession, target: Target, calibration: Calibration, folder: Path
    ) -> tuple[Candidate, ...]:
        assert calibration.ranges()

        def candidate(name: str, steps: int) -> Candidate:
            def build(folder: Path, kept: Sequence[str]) -> Built:
                return self._write(session, folder / target.model_file, steps)

            return Candidate(name, f"weights of {2 * steps + 1} values", build)

        return candidate("coarse", 1), candidate("fine", 4095)

    def _write(self, session: ExportSession, path: Path, steps: int | None) -> Built:
        written = io.BytesIO()
        torch.export.save(session.program, written)
        program = torch.export.load(io.BytesIO(written.getvalue()))
        for value in program.state_dict.values() if steps else ():
            scale = value.detach().abs().amax().clamp_min(1e-9) / (steps or 1)
            value.data.copy_((value / scale).round() * scale)
        torch.export.save(program, path)
        return Built(torch.__version__.partition("+")[0])

    def open_for_verification(
        self, manifest: Manifest, folder: Path, headroom: Headroom | None = None, *, sequence: bool = False
    ) -> Engine:
        network = torch.export.load(folder / manifest.model_file).module()
        names = [output.name for output in manifest.outputs]

        def run(images: Images, outputs: tuple[str, ...]) -> Outputs:
            with torch.inference_mode():
                found = network(torch.from_numpy(images.transpose(0, 3, 1, 2).astype("float32")))
            return {name: value.numpy() for name, value in zip(names, found, strict=True) if name in outputs}

        info = EngineInfo(ENGINE, torch.__version__, "cpu", "", "graph", "latency", None, 1, "none")
        return Engine(manifest, Loaded(info, (run,)))

    def after_parity(self, target: Target) -> tuple[Stage, ...]:
        return (Stage("label", _label),)


def _label(session: ExportSession, manifest: Manifest, folder: Path, tell: Tell) -> Manifest:
    tell(f"a label for {session.network.arch}")
    (folder / "label.txt").write_text(manifest.target)
    return dataclasses.replace(manifest, files=record_files(folder))


FORMAT = SketchFormat()
