"""From a checkpoint to verified artefacts: :func:`plan` and :func:`export`."""

from p3m_edge.export.pipeline import export, plan
from p3m_edge.export.request import ExportRequest, ExportResult, OnEvent, PlannedArtefact, StageEvent, StageTime

__all__ = ["ExportRequest", "ExportResult", "OnEvent", "PlannedArtefact", "StageEvent", "StageTime", "export", "plan"]
