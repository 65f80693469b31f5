"""``p3m-edge data anonymize``: blur the faces of ordinary portraits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from p3m_edge.bulk.anonymize import AnonymizeWork, find_portraits, with_boxes
from p3m_edge.bulk.store import Store, address, is_remote
from p3m_edge.cli import bulk
from p3m_edge.cli.options import argument, group, option
from p3m_edge.cli.options.shared import Bulk, Mattes, workers
from p3m_edge.cli.ui import Console, Part, counting
from p3m_edge.cli.verbs import unfinished
from p3m_edge.data.anonymize import run as work
from p3m_edge.data.anonymize.folder import Job, Output, Record, Settings, read_boxes
from p3m_edge.data.anonymize.report import AnonymizeReport, summarise, write_report
from p3m_edge.data.anonymize.run import open_detectors
from p3m_edge.data.detect import CASCADE
from p3m_edge.data.sets import find_items
from p3m_edge.errors import GateError, P3MEdgeError, UsageError
from p3m_edge.table import Styled, table
from p3m_edge.temporary import temporary_folder

EXAMPLES = """
p3m-edge data anonymize photos/ anonymous/ --verify
p3m-edge data anonymize photos/ anonymous/ --detector cascade --detector yunet.onnx
p3m-edge data anonymize photos/ anonymous/ --boxes faces.csv
p3m-edge data anonymize anonymous/ --verify --verifier yunet.onnx
p3m-edge data anonymize s3://bucket/photos s3://bucket/anonymous --executor ray
"""


@dataclass(frozen=True)
class Arguments:
    """Blur the faces of ordinary portraits: a P3M-style data set. IN is a folder of pictures, or a data set's
    (image/ with alpha/, or P3M-10k's). OUT gets
      blurred_image/  the pictures, faces blurred beyond recognition, hair and contour as they were (where IN has
                      mattes)
      facemask/       where they were changed
      alpha/          the mattes, where IN has them
      review/         pictures that may show a face as it is: none was found, the one found is not the subject's, or one
                      was found again (--verify). Look at them; --boxes says what you saw
      report.json, report.md, records/   what was done to each picture
    The embedded detector finds FRONTAL faces only; a second face in a picture may escape it. Look at what you publish.

    All pictures are encoded afresh as 8-bit PNG: no metadata, thumbnails or colour profiles. File names are kept.
    A further run skips what is done with the same settings. A picture that cannot be used does not stop the others
    (exit code 1). With --verify a face that is found again ends in review/, and the exit code is 3. Without OUT,
    --verify looks at the blurred_image/ of a folder that is there already, and moves what shows a face into its
    review/.
    """

    folder: Path = argument("a folder of pictures, or a data set's", "IN")
    out: Path | None = argument("where the set goes", "OUT", nargs="?")
    force: bool = option("do pictures again that are done", default=False)
    workers: int | None = workers()
    mattes: Mattes = group(Mattes)
    detector: tuple[str, ...] = option(
        "cascade (embedded; the default) or a YuNet ONNX file; given several times, all of them look",
        (), metavar="D", group="finding faces",
    )  # fmt: skip
    boxes: Path | None = option(
        "faces that you marked, for the pictures named there: CSV with name, x, y, width, height (hairline to chin, "
        "cheek to cheek, in pixels; empty: there is no face)"
    )
    no_face: Literal["review", "keep"] = option(
        "where pictures without a face go: review/ (default), or the output as they are", "review"
    )
    verify: bool = option("look for faces in the results; one found is a failure", default=False, group="looking again")
    verifier: str = option(
        "who looks: cascade (default; other sizes, mirrored, turned) or a YuNet ONNX file", CASCADE, metavar="D"
    )
    bulk: Bulk = group(Bulk, "many machines")


def run(args: Arguments, console: Console) -> None:
    """Anonymise a folder, or verify one."""
    stopped = None
    if args.bulk.executor == "ray":
        if args.out is None:
            raise UsageError("OUT is missing", hint="--executor ray anonymises; --verify looks again while it does")
        report, stopped = _anonymize_on_ray(args, args.out, console)
    elif stores := [place for place in (args.folder, args.out) if place is not None and is_remote(place)]:
        raise UsageError(f"{address(stores[0])} is in a store", hint="--executor ray works on stores")
    elif args.out is not None:
        report = _anonymize(args, args.out, console)
    elif args.verify:
        report = _verify(args, console)
    else:
        raise UsageError("OUT is missing", hint="without OUT, --verify looks at a folder that is there already")
    console.emit(report, _render(report), stopped or _error(report))


def _anonymize(args: Arguments, out: Path, console: Console) -> AnonymizeReport:
    items = find_items(args.folder, args.mattes.form)
    boxes = {} if args.boxes is None else read_boxes(args.boxes, (item.name for item in items))
    settings = _settings(args)
    output = Output(out)
    output.prepare(args.folder, alphas=any(item.alpha is not None for item in items))
    jobs = [Job(item, boxes.get(item.name)) for item in items]
    earlier = {} if args.force else {job.item.name: output.finished(job, settings) for job in jobs}
    records = [record for record in earlier.values() if record is not None]
    left = [job for job in jobs if earlier.get(job.item.name) is None]
    with counting(console, "anonymise") as progress:
        made = work.anonymize_all(left, output, settings, args.workers, progress)
    report = summarise(out, settings, [*records, *made], len(records))
    write_report(report, out)
    return report


def _anonymize_on_ray(args: Arguments, out: Path, console: Console) -> tuple[AnonymizeReport, P3MEdgeError | None]:
    """The same by Ray's workers, from and to folders or stores; and why it was stopped, if it was."""
    if args.workers is not None:
        raise UsageError("--workers is for this machine", hint="--ray-workers are those of --executor ray")
    bulk.check_places([args.folder], out)
    items, settings = find_portraits(args.folder, args.mattes.form), _settings(args)
    if args.boxes is not None:
        items = with_boxes(items, read_boxes(args.boxes, (item.name for item in items)))
    if not is_remote(out):
        Output(out).prepare(args.folder, alphas=any(len(item.inputs) > 1 for item in items))
    open_detectors(settings)  # what is wrong with them is said here, and not by every worker
    records: list[Record] = []
    work = AnonymizeWork(address(out), settings)
    done, stopped = bulk.process(work, out, items, records.append, console, args.bulk, force=args.force)
    report = summarise(bulk.place(out), settings, records, done)
    with temporary_folder() as folder:
        write_report(report, folder)
        for name in ("report.json", "report.md"):
            Store(address(out)).put(folder / name, name)
    return report, stopped


def _settings(args: Arguments) -> Settings:
    return Settings(
        detectors=tuple(dict.fromkeys(args.detector)) or (CASCADE,), keep_faceless=args.no_face == "keep",
        verifier=args.verifier if args.verify else None, stored=args.mattes.form,
    )  # fmt: skip


def _verify(args: Arguments, console: Console) -> AnonymizeReport:
    items = work.find_anonymised(args.folder)
    with counting(console, "verify") as progress:
        records = work.verify_all(items, args.folder, args.verifier, args.workers, progress)
    report = summarise(args.folder, None, records)
    write_report(report, args.folder, "verify-report")
    return report


def _error(report: AnonymizeReport) -> P3MEdgeError | None:
    if report.found_again:
        return GateError(
            f"a face was found again in {report.found_again} of {len(report.pictures)} pictures; they are in review/",
            hint="look at them, and mark their faces in a file for --boxes, or find them with a YuNet --detector",
        )
    return unfinished(report.failed, len(report.pictures), "pictures failed")


def _render(report: AnonymizeReport) -> Iterator[Part]:
    trouble = [record for record in report.pictures if record.status != "done"]
    if trouble:
        rows = (Styled((r.name, r.status, r.reason or ""), "red" if r.remaining else None) for r in trouble)
        yield table("to be looked at", "picture|status|why", rows)
    resumed = f" ({report.resumed} by an earlier run)" if report.resumed else ""
    yield (
        f"{report.done} done with {report.faces} faces hidden, {report.review} in review, {report.failed} failed"
        f"{resumed}; in {report.out}"
    )
