"""``p3m-edge package``: an artefact as the model repository of a server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from p3m_edge.cli.options import argument, option
from p3m_edge.cli.options.values import integer
from p3m_edge.cli.ui import Console, megabytes
from p3m_edge.folder import size
from p3m_edge.runtimes.default import bundled
from p3m_edge.serving.batch import Agreement
from p3m_edge.serving.repository import MODEL, SERVERS, START, Layout, build
from p3m_edge.serving.triton import Schedule

EXAMPLES = """
p3m-edge package --layout triton --out models
p3m-edge package out/onnx-fp32 --layout triton --out models --max-batch 16 --delay 5000 --instances 2
p3m-edge package out/openvino-fp32 --layout ovms --out models --force
"""


@dataclass(frozen=True)
class Arguments:
    """Write the model repository of a server: Triton with its backend onnxruntime, or OpenVINO Model Server. It holds
    the model file, its configuration, the manifest, the licence, how to start the server, and a client; for Triton
    also dynamic batching, and the golden pictures as warm-up.

    The number of frames becomes free in the model file, and the new file is checked: the golden vectors must be within
    the artefact's limits, and frames in a batch must give what they give alone. A file that cannot do that keeps its
    number of frames, and a warning says why.
    """

    artefact: Path | None = argument(
        "an artefact: onnx-* for triton, openvino-* for ovms (default: that of this package)", "ARTEFACT", nargs="?"
    )
    layout: Layout = option("the server", required=True)
    out: Path = option("the new folder", metavar="DIR", required=True)
    max_batch: int = option("most frames in a batch; 1: the model file stays as it is", 8, parse=integer(1, 256))
    delay: int = option(
        "triton: microseconds that a request may wait for others", 2000, metavar="US", parse=integer(0, 10_000_000)
    )
    instances: int = option("triton: copies of the model side by side (on each GPU)", 1, parse=integer(1, 64))
    force: bool = option("replace a repository that is there", default=False)


@dataclass(frozen=True)
class Repository:
    """What was written; ``agreement`` and ``fixed`` as in :class:`~p3m_edge.serving.repository.Packaged`."""

    folder: Path
    bytes: int
    layout: Layout
    model: str
    target: str
    max_batch: int
    agreement: Agreement | None
    fixed: str | None
    start: str


def run(args: Arguments, console: Console) -> None:
    """Write the repository, checked."""
    schedule = Schedule(args.max_batch, args.delay, args.instances)
    with console.status("checking batches"):
        packaged = build(args.artefact or bundled(), args.out, args.layout, schedule, force=args.force)
    target, start = packaged.manifest.target, START[args.layout]
    document = Repository(
        args.out, size(args.out), args.layout, MODEL, target, packaged.max_batch, packaged.agreement, packaged.fixed,
        start,
    )  # fmt: skip
    lines = [f"written: {args.out}, {megabytes(document.bytes)}, {target} for {SERVERS[args.layout]}"]
    if (found := packaged.agreement) is not None:
        lines.append(
            f"checked: {found.frames} frames in a batch give the alphas of single ones (largest difference "
            f"{found.difference:.1g})"
        )
    lines.append(f"in that folder: {start}")
    asked = args.max_batch > 1 and packaged.fixed is not None
    console.emit(document, lines, warnings=[f"the server joins no requests: {packaged.fixed}"] * asked)
