"""``p3m-edge data anonymize``: blur the faces of ordinary portraits."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from p3m_edge.cli import matte_options, options
from p3m_edge.cli.progress import counting
from p3m_edge.cli.tables import table
from p3m_edge.data.anonymize import run as work
from p3m_edge.data.anonymize.folder import Job, Output, Record, Settings, read_boxes
from p3m_edge.data.anonymize.report import Report, summarise, write_report
from p3m_edge.data.detect import CASCADE
from p3m_edge.data.sets import find_items
from p3m_edge.errors import GateError, P3MEdgeError, PartialError, UsageError

if TYPE_CHECKING:
    from rich.console import Console as RichConsole

    from p3m_edge.cli.console import Console

HELP = """Blur the faces of ordinary portraits: a P3M-style data set. IN is a folder of pictures, or a data set's
(image/ with alpha/, or P3M-10k's). OUT gets
  blurred_image/  the pictures, faces blurred beyond recognition, hair and contour as they were (where IN has mattes)
  facemask/       where they were changed
  alpha/          the mattes, where IN has them
  review/         pictures that may show a face as it is: none was found, the one found is not the subject's, or one
                  was found again (--verify). Look at them; --boxes says what you saw
  report.json, report.md, records/   what was done to each picture
The embedded detector finds FRONTAL faces only; a second face in a picture may escape it. Look at what you publish.

All pictures are encoded afresh as 8-bit PNG: no metadata, thumbnails or colour profiles. File names are kept.
A further run skips what is done with the same settings. A picture that cannot be used does not stop the others (exit
code 1). With --verify a face that is found again ends in review/, and the exit code is 3. Without OUT, --verify looks
at the blurred_image/ of a folder that is there already, and moves what shows a face into its review/."""
EXAMPLES = """
p3m-edge data anonymize photos/ anonymous/ --verify
p3m-edge data anonymize photos/ anonymous/ --detector cascade --detector yunet.onnx
p3m-edge data anonymize photos/ anonymous/ --boxes faces.csv
p3m-edge data anonymize anonymous/ --verify --verifier yunet.onnx
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to anonymise, how to find faces, and who looks again."""
    parser.add_argument("folder", metavar="IN", type=options.path, help="a folder of pictures, or a data set's")
    parser.add_argument("out", metavar="OUT", nargs="?", type=options.path, help="where the set goes")
    parser.add_argument("--force", action="store_true", help="do pictures again that are done")
    parser.add_argument("--workers", type=options.positive, metavar="N", help="processes (default: one for each core)")
    matte_options.add_arguments(parser)
    find = parser.add_argument_group("finding faces")
    find.add_argument(
        "--detector", action="append", metavar="D",
        help="cascade (embedded; the default) or a YuNet ONNX file; given several times, all of them look",
    )  # fmt: skip
    find.add_argument(
        "--boxes", type=options.path, metavar="FILE",
        help="faces that you marked, for the pictures named there: CSV with name, x, y, width, height"
        " (hairline to chin, cheek to cheek, in pixels; empty: there is no face)",
    )  # fmt: skip
    find.add_argument(
        "--no-face", choices=("review", "keep"), default="review",
        help="where pictures without a face go: review/ (default), or the output as they are",
    )  # fmt: skip
    again = parser.add_argument_group("looking again")
    again.add_argument("--verify", action="store_true", help="look for faces in the results; one found is a failure")
    again.add_argument(
        "--verifier", metavar="D", default=CASCADE,
        help="who looks: cascade (default; other sizes, mirrored, turned) or a YuNet ONNX file",
    )  # fmt: skip


def run(args: argparse.Namespace, console: Console) -> int:
    """Anonymise a folder, or verify one."""
    if args.out is None:
        if not args.verify:
            raise UsageError("OUT is missing", hint="without OUT, --verify looks at a folder that is there already")
        report = _verify(args, console)
    else:
        report = _anonymize(args, console)
    error = _error(report)
    console.emit(report, lambda out: _render(out, report), error)
    if error is not None:
        raise error
    return 0


def _anonymize(args: argparse.Namespace, console: Console) -> Report:
    stored = matte_options.matte_form(args)
    items = find_items(args.folder, stored)
    boxes = {} if args.boxes is None else read_boxes(args.boxes, (item.name for item in items))
    settings = Settings(
        detectors=tuple(dict.fromkeys(args.detector or (CASCADE,))),
        keep_faceless=args.no_face == "keep",
        verifier=args.verifier if args.verify else None,
        stored=stored,
    )
    output = Output(args.out)
    output.prepare(args.folder, alphas=any(item.alpha is not None for item in items))
    jobs = [Job(item, boxes.get(item.name)) for item in items]
    earlier = {} if args.force else {job.item.name: output.finished(job, settings) for job in jobs}
    records = [record for record in earlier.values() if record is not None]
    left = [job for job in jobs if earlier.get(job.item.name) is None]
    resumed = len(records)
    with counting(console, "anonymise") as progress:
        records += work.anonymize_all(left, output, settings, args.workers, progress)
    report = summarise(args.out, settings, records, resumed)
    write_report(report)
    return report


def _verify(args: argparse.Namespace, console: Console) -> Report:
    checks = work.find_checks(args.folder)
    with counting(console, "verify") as progress:
        records = work.verify_all(checks, args.folder, args.verifier, args.workers, progress)
    report = summarise(args.folder, None, records)
    write_report(report, "verify-report")
    return report


def _error(report: Report) -> P3MEdgeError | None:
    if report.found_again:
        return GateError(
            f"a face was found again in {report.found_again} of {len(report.pictures)} pictures; they are in review/",
            hint="look at them, and mark their faces in a file for --boxes, or find them with a YuNet --detector",
        )
    if report.failed:
        return PartialError(
            f"{report.failed} of {len(report.pictures)} pictures failed",
            hint="run it again when this is put right: what is done is skipped",
        )
    return None


def _render(out: RichConsole, report: Report) -> None:
    trouble: list[Record] = [record for record in report.pictures if record.status != "done"]
    if trouble:
        rows = table("to be looked at", "picture", "status", "why")
        for record in trouble:
            rows.add_row(record.name, record.status, record.reason or "", style="red" if record.remaining else None)
        out.print(rows)
    resumed = f" ({report.resumed} by an earlier run)" if report.resumed else ""
    out.print(
        f"{report.done} done with {report.faces} faces hidden, {report.review} in review, {report.failed} failed"
        f"{resumed}; in {report.out}",
        soft_wrap=True,
    )
