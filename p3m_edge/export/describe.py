"""The manifest of an artefact that is being made."""

from __future__ import annotations

from pathlib import Path

import msgspec

from p3m_edge import __version__
from p3m_edge import manifest as manifests
from p3m_edge.benchmarks.fingerprint import fingerprint
from p3m_edge.export import forms
from p3m_edge.export.request import ExportRequest
from p3m_edge.export.workbench import Built, Workbench
from p3m_edge.manifest import Manifest
from p3m_edge.model.p3mnet import MULTIPLE
from p3m_edge.records import EngineRecord, Form, InputRecord, OutputName, OutputRecord, VerifiedRecord
from p3m_edge.targets import Target


def describe(bench: Workbench, target: Target, built: Built, folder: Path) -> Manifest:
    """The manifest of an artefact whose parity is about to be checked on this machine."""
    request = bench.request
    machine = fingerprint()
    return Manifest(
        schema=manifests.SCHEMA_VERSION,
        target=target.name,
        precision=target.precision,
        model_file=target.model_file,
        engine=_engine(target, built, machine.packages),
        model=bench.record,
        input=frame(request),
        outputs=tuple(_output(name, forms.alpha(target, request.alpha)) for name in bench.outputs),
        unpool=bench.unpool,
        files=manifests.record_files(folder),
        parity=None,
        verified=VerifiedRecord(built.level, msgspec.to_builtins(machine), machine.packages),
        fp32_nodes=built.fp32_nodes,
        looked_at=bench.looked_at.record(request.seed) if bench.looked_at is not None and built.looked_at else None,
        p3m_edge=__version__,
        functions=forms.functions(request),
        smoothing=request.smoothing,
    )


def frame(request: ExportRequest) -> InputRecord:
    """What the model file takes."""
    height, width = (None, None) if request.dynamic else (request.height, request.width)
    return InputRecord("image", request.batch, height, width, MULTIPLE)


def _engine(target: Target, built: Built, versions: dict[str, str]) -> EngineRecord:
    """The record of the engine; those of TensorRT are built at the end, if at all."""
    if target.engine != "tensorrt":
        return EngineRecord(target.engine, "built", built.minimum_version, versions)
    return EngineRecord(
        target.engine, "not-built", built.minimum_version, versions, "its typed graph has not been verified"
    )


def _output(name: OutputName, alpha: Form) -> OutputRecord:
    if name == "alpha":
        return OutputRecord(name, 1, form=alpha)
    return OutputRecord(name, 3 if name == "global_logits" else 1)
