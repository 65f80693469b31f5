"""``p3m-edge web``: an artefact as a page in the browser."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from p3m_edge.cli.options import argument, option
from p3m_edge.cli.options.values import integer
from p3m_edge.cli.ui import Console, megabytes
from p3m_edge.folder import size
from p3m_edge.runtimes.default import bundled
from p3m_edge.web import runtime
from p3m_edge.web.build import build
from p3m_edge.web.server import address, server

EXAMPLES = f"""
npm pack {runtime.NAME}@{runtime.VERSION} && tar -xzf {runtime.NAME}-{runtime.VERSION}.tgz
p3m-edge web --out site --runtime package --serve
p3m-edge web out/onnx-fp32 --out site --runtime node_modules/{runtime.NAME} --force
"""
_PORT = 8017


@dataclass(frozen=True)
class Arguments:
    """Write a folder that any static server can serve: a demo page, the module p3m-edge.js for your own pages (its
    types are in p3m-edge.d.ts), the artefact, and ONNX Runtime Web. The page mattes pictures and the webcam in the
    browser; nothing is fetched from elsewhere, and nothing leaves the machine. It runs the golden vectors before it
    uses a provider.

    Nothing is downloaded: --runtime is the npm package, unpacked, and its files must be those of the version that is
    pinned here. --serve starts the page on 127.0.0.1, with the headers that threads need, until Ctrl-C.
    """

    artefact: Path | None = argument(
        "an artefact of ONNX Runtime (onnx-*; default: that of this package)", "ARTEFACT", nargs="?"
    )
    out: Path = option("the new folder", metavar="DIR", required=True)
    runtime: Path = option("the unpacked npm package", Path("node_modules") / runtime.NAME, metavar="DIR")
    force: bool = option("replace a site that is there", default=False)
    serve: bool = option("serve it on this machine, for this machine", default=False)
    port: int = option("of --serve; 0: any that is free", _PORT, metavar="N", parse=integer(0, 65535))


@dataclass(frozen=True)
class Site:
    """What was written; ``address`` is where it is served, if it is."""

    folder: Path
    bytes: int
    target: str
    runtime: str
    address: str | None


def run(args: Arguments, console: Console) -> None:
    """Write the site, and serve it until it is interrupted."""
    with ExitStack() as stack:
        listening = stack.enter_context(server(args.out, args.port)) if args.serve else None
        manifest = build(args.artefact or bundled(), args.out, args.runtime, force=args.force)
        place = None if listening is None else address(listening)
        site = Site(args.out, size(args.out), manifest.target, f"{runtime.NAME} {runtime.VERSION}", place)
        lines = [f"written: {args.out}, {megabytes(site.bytes)}, {site.target} with {site.runtime}"]
        if place is not None:
            lines.append(f"open {place} in a browser; Ctrl-C ends it")
        console.emit(site, lines)
        if listening is not None:
            listening.serve_forever()
