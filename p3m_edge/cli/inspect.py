"""``p3m-edge inspect``: what is in an artefact."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from p3m_edge import manifest as manifests
from p3m_edge.cli import options
from p3m_edge.cli.tables import megabytes, parity_table, table
from p3m_edge.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console as RichConsole
    from rich.table import Table

    from p3m_edge.cli.console import Console

HELP = """Show what is in an artefact: model, provenance and licence of its weights, input, outputs, files,
parity, verification level, versions. A rejected artefact is shown too. Nothing is run or hashed;
`p3m-edge verify` does that."""
EXAMPLES = """
p3m-edge inspect out/demo/onnx-fp32
p3m-edge inspect out/demo/openvino-fp16 --json
"""


@dataclass(frozen=True)
class Inspection:
    """An artefact's manifest and the state of its folder.

    ``absent`` are the recorded files that are missing; ``bytes`` is what the others take on disc.
    """

    folder: Path
    status: str
    bytes: int
    absent: tuple[str, ...]
    manifest: Manifest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folder."""
    parser.add_argument("artefact", metavar="DIR", type=options.path, help="the folder that `p3m-edge export` wrote")


def run(args: argparse.Namespace, console: Console) -> int:
    """Read the manifest and show it."""
    inspection = inspect(args.artefact)
    console.emit(inspection, lambda out: _render(out, inspection))
    if inspection.absent:
        console.warn(f"missing in {inspection.folder}: {', '.join(inspection.absent)}")
    return 0


def inspect(folder: Path) -> Inspection:
    """Read an artefact, rejected or not.

    Raises
    ------
    ArtefactError
        The folder is no artefact, or its manifest cannot be read.
    """
    manifest = manifests.read(folder, allow_rejected=True)
    rejected = folder.resolve().name.endswith(manifests.REJECTED_SUFFIX)
    rejected |= manifest.parity is not None and not manifest.parity.passed
    present = {name: folder / name for name in manifest.files if (folder / name).is_file()}
    return Inspection(
        folder=folder,
        status="rejected" if rejected else manifest.engine.status,
        bytes=sum(path.stat().st_size for path in present.values()),
        absent=tuple(sorted(set(manifest.files) - set(present))),
        manifest=manifest,
    )


def _render(out: RichConsole, inspection: Inspection) -> None:
    facts = table(str(inspection.folder), "what", "value", header=False)
    for what, value in _rows(inspection):
        facts.add_row(what, value)
    out.print(facts)
    out.print(_files(inspection))
    parity = inspection.manifest.parity
    if parity is not None:
        out.print(parity_table(f"parity: {'passed' if parity.passed else 'FAILED'}", parity))
        for failure in parity.failures:
            out.print(f"failed: {failure}", style="red", soft_wrap=True)


def _rows(inspection: Inspection) -> Iterator[tuple[str, str]]:
    manifest = inspection.manifest
    model, engine, frame = manifest.model, manifest.engine, manifest.input
    yield "status", inspection.status + (f" ({engine.reason})" if engine.reason else "")
    yield "target", f"{manifest.target} ({engine.name} >= {engine.minimum_version}, {manifest.precision})"
    trained = "trained" if model.trained else "NOT TRAINED: stand-in weights, its mattes mean nothing"
    yield "model", f"P3M-Net {model.arch}, {model.parameters:,} parameters, unpool {manifest.unpool}"
    yield "weights", trained
    yield "provenance", model.provenance
    yield "licence", model.licence
    yield "checkpoint", f"SHA-256 {model.checkpoint_sha256}"
    height, width = ("any" if side is None else str(side) for side in (frame.height, frame.width))
    shape = f"[{frame.batch}, {height}, {width}, 3]"
    yield (
        "input",
        f"{frame.name}: {frame.dtype} {shape} {frame.layout} {frame.colour}, multiples of {frame.multiple_of}",
    )
    for output in manifest.outputs:
        yield "output", f"{output.name}: {output.dtype} {output.layout}, channels: {output.channels}"
    if manifest.fp32_nodes:
        yield "kept in fp32", f"nodes: {len(manifest.fp32_nodes)}: {', '.join(manifest.fp32_nodes)}"
    machine = manifest.verified.machine
    where = ", ".join(str(machine[name]) for name in ("cpu", "architecture", "system") if machine.get(name))
    yield "verified", manifest.verified.level + (f" on {where}" if where else "")
    yield "verified with", _pairs(manifest.verified.versions) or "-"
    yield "built with", _pairs({"p3m-edge": manifest.p3m_edge} | engine.versions)


def _pairs(values: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _files(inspection: Inspection) -> Table:
    title = f"files, {megabytes(inspection.bytes)} in all"
    files = table(title, "file", "bytes", "SHA-256 in the manifest", right=("bytes",))
    for name, record in inspection.manifest.files.items():
        absent = " (missing)" if name in inspection.absent else ""
        files.add_row(name + absent, f"{record.bytes:,}", record.sha256, style="red" if absent else None)
    return files
