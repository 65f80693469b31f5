"""What became of every picture: ``report.json`` for programs, ``report.md`` for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from p3m_edge.atomic import atomic_write
from p3m_edge.data.anonymize.folder import Record, Settings
from p3m_edge.data.detect import Box
from p3m_edge.data.recipe import write_json
from p3m_edge.table import Table


@dataclass(frozen=True)
class AnonymizeReport:
    """Counts of pictures, and their records, sorted by name."""

    out: Path | str
    settings: Settings | None  # None: finished pictures were looked at again, and no more
    done: int
    review: int  # for a person to look at
    failed: int  # they could not be used
    resumed: int  # done by an earlier run
    found_again: int  # the verifier found a face, and they are in review
    faces: int  # boxes that were hidden in the pictures that are done
    pictures: tuple[Record, ...]


def summarise(
    out: Path | str, settings: Settings | None, records: Sequence[Record], resumed: int = 0
) -> AnonymizeReport:
    """Count the records of a run."""
    count = Counter(record.status for record in records)
    return AnonymizeReport(
        out=out, settings=settings, done=count["done"], review=count["review"], failed=count["failed"], resumed=resumed,
        found_again=sum(bool(record.remaining) for record in records),
        faces=sum(len(record.faces) for record in records if record.status == "done"),
        pictures=tuple(sorted(records, key=lambda record: record.name)),
    )  # fmt: skip


def write_report(report: AnonymizeReport, out: Path, stem: str = "report") -> None:
    """Write both files into the output folder, without saying where that lies."""
    write_json(out / f"{stem}.json", replace(report, out=Path()), indent=1)
    atomic_write(out / f"{stem}.md", _markdown(report).encode("utf-8", "backslashreplace"))


def _markdown(report: AnonymizeReport) -> str:
    counts = f"{report.done} done, {report.review} in review, {report.failed} failed, of {len(report.pictures)}."
    settings = report.settings
    if settings is not None:
        counts += (
            f"\nFaces were looked for by: {', '.join(settings.detectors)}. "
            f"Pictures without a face: {'kept' if settings.keep_faceless else 'put into review'}. "
            f"Looked at again by: {settings.verifier or 'nobody'}."
        )
    columns = ("picture", "status", "why", "faces (x, y, width x height; score, who)", "area", "looked at again by")
    table = Table("", columns, tuple(map(_row, report.pictures)))
    return f"# Anonymised portraits\n\n{counts}\n\n{table.markdown()}\n"


def _row(record: Record) -> tuple[str, ...]:
    faces = "; ".join(map(_face, record.faces))
    return record.name, record.status, record.reason or "", faces, f"{record.area:.1%}", record.verified or ""


def _face(box: Box) -> str:
    unsure = "" if box.sure else ", unsure"
    return f"{box.x:.0f}, {box.y:.0f}, {box.width:.0f} x {box.height:.0f} ({box.score:.2f}, {box.detector}{unsure})"
