"""``p3m-edge inspect``: what is in an artefact or a checkpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from p3m_edge import checkpoint_header
from p3m_edge import manifest as manifests
from p3m_edge.atomic import atomic_write
from p3m_edge.cli.options import argument, option
from p3m_edge.cli.ui import Console, Part, megabytes, number, red
from p3m_edge.cli.ui.quantization import attempts_table, gate_failures
from p3m_edge.cli.ui.show import parity_table, proved
from p3m_edge.errors import CheckpointError, UsageError, needing
from p3m_edge.manifest import Manifest
from p3m_edge.manifest_schema import BuildRecord, EmulatedRecord, OutputRecord
from p3m_edge.smallfile import read_small
from p3m_edge.table import NONE, Styled, facts, table

EXAMPLES = """
p3m-edge inspect out/demo/onnx-fp32
p3m-edge inspect out/demo/openvino-fp16 --json
p3m-edge inspect out/demo/onnx-fp32 --bom onnx-fp32.cdx.json
p3m-edge inspect run/best.safetensors
"""
_MAX_BYTES = 4 * 1024**3  # of a checkpoint
_TRAINED = "trained"
_NOT_TRAINED = "NOT TRAINED: stand-in weights, its mattes mean nothing"


@dataclass(frozen=True)
class Arguments:
    """Show what is in an artefact: model, provenance and licence of its weights, input, outputs, files,
    parity, verification level, versions. A rejected artefact is shown too. Nothing is run or hashed;
    `p3m-edge verify` does that.

    Of a checkpoint (.pth, .safetensors) the file is read and checked, and what it says about itself is shown. That
    needs PyTorch, unless it is one of p3m-edge.
    """

    path: Path = argument("the folder that `p3m-edge export` wrote, or a checkpoint", "PATH")
    bom: Path | None = option("also write an inventory of what went into the artefact, in CycloneDX's JSON")


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


@dataclass(frozen=True)
class CheckpointFile:
    """What a checkpoint is; ``sha256`` is that of the whole file, as in the manifests of its artefacts."""

    file: Path
    bytes: int
    sha256: str
    format: str
    arch: str
    trained: bool
    provenance: str
    licence: str


def run(args: Arguments, console: Console) -> None:
    """Read the manifest or the checkpoint and show it."""
    if args.path.is_file():
        if args.bom is not None:
            raise UsageError("--bom is for artefacts, not for checkpoints")
        found = inspect_file(args.path)
        rows = {
            "model": f"P3M-Net {found.arch}",
            "weights": _TRAINED if found.trained else _NOT_TRAINED,
            "provenance": found.provenance,
            "licence": found.licence,
            "format": f"{found.format}, {megabytes(found.bytes)}",
            "checkpoint": f"SHA-256 {found.sha256}",
        }
        console.emit(found, [facts(str(found.file), rows.items())])
        return
    inspection = inspect(args.path)
    if args.bom is not None:
        with needing("sign"):
            from p3m_edge.inventory import inventory
        atomic_write(args.bom, inventory(inspection.manifest), what="the inventory")
    absent = f"missing in {inspection.folder}: {', '.join(inspection.absent)}"
    console.emit(inspection, _render(inspection), warnings=[absent] if inspection.absent else ())


def inspect(folder: Path) -> Inspection:
    """Read an artefact, rejected or not; an :class:`ArtefactError` where it is none."""
    manifest = manifests.read(folder, allow_rejected=True)
    rejected = folder.resolve().name.endswith(manifests.REJECTED_SUFFIX)
    rejected |= any(gate is not None and not gate.passed for gate in (manifest.parity, manifest.quantization))
    present = {name: folder / name for name in manifest.files if (folder / name).is_file()}
    return Inspection(
        folder=folder,
        status="rejected" if rejected else manifest.engine.status,
        bytes=sum(path.stat().st_size for path in present.values()),
        absent=tuple(sorted(set(manifest.files) - set(present))),
        manifest=manifest,
    )


def inspect_file(path: Path) -> CheckpointFile:
    """Read a checkpoint.

    :class:`CheckpointError`: it is none, or damaged; :class:`MissingError`: it is not one of ours, and reading others
    takes PyTorch.
    """
    try:
        data = read_small(path, _MAX_BYTES)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    own = checkpoint_header.read(data, str(path))
    if own is not None:
        says = ("p3m-edge", own.arch, own.trained, own.provenance, own.licence)
    else:
        from p3m_edge.model import inspect_checkpoint

        info = inspect_checkpoint(path)
        says = (info.format, info.arch, info.trained, info.provenance, info.licence)
    return CheckpointFile(path, len(data), hashlib.sha256(data).hexdigest(), *says)


def _render(inspection: Inspection) -> Iterator[Part]:
    manifest = inspection.manifest
    yield facts(str(inspection.folder), _rows(inspection))
    title = f"files, {megabytes(inspection.bytes)} in all"
    yield table(title, "file|bytes|SHA-256 in the manifest", _files(inspection))
    if manifest.parity is not None:
        yield parity_table(f"parity: {'passed' if manifest.parity.passed else 'FAILED'}", manifest.parity)
    if manifest.quantization is not None:
        yield attempts_table(manifest.target, manifest.quantization)
    for failure in (*(manifest.parity.failures if manifest.parity else ()), *gate_failures(manifest.quantization)):
        yield red(f"failed: {failure}")


def _files(inspection: Inspection) -> Iterator[Styled]:
    for name, record in inspection.manifest.files.items():
        absent = name in inspection.absent
        cells = (name + " (missing)" * absent, f"{record.bytes:,}", record.sha256)
        yield Styled(cells, "red" if absent else None)


def _rows(inspection: Inspection) -> Iterator[tuple[str, str]]:
    """What a manifest says, but for files, parity and attempts; what it does not say is left out."""
    m = inspection.manifest
    model, engine, frame, functions = m.model, m.engine, m.input, m.functions
    height, width = ("any" if side is None else str(side) for side in (frame.height, frame.width))
    shape = f"{frame.dtype} [{frame.batch}, {height}, {width}, 3] {frame.layout} {frame.colour}"
    headroom, seen = None if m.parity is None else m.parity.headroom, m.looked_at
    rows: list[tuple[str, str | None]] = [
        ("status", inspection.status + (f" ({engine.reason})" if engine.reason else "")),
        ("target", f"{m.target} ({engine.name} >= {engine.minimum_version}, {m.precision})"),
        ("model", f"P3M-Net {model.arch}, {model.parameters:,} parameters, unpool {m.unpool}"),
        ("weights", _TRAINED if model.trained else _NOT_TRAINED),
        ("provenance", model.provenance),
        ("licence", model.licence),
        ("checkpoint", f"SHA-256 {model.checkpoint_sha256}"),
        ("input", f"{frame.name}: {shape}, multiples of {frame.multiple_of}"),
        *(("function", f"{f.name}: {f.width}x{f.height}" + " (default)" * (f is functions[0])) for f in functions),
        ("smoothing", f"{m.smoothing:g} of the matte before, kept as a state" if m.smoothing else None),
        *(("output", _output(output)) for output in m.outputs),
        *(_build_rows(engine.build) if engine.build else ()),
        *(("build it with", command) for command in engine.commands),
        ("looked at", f"{seen.pictures} pictures for overflow, of {seen.source}" if seen else None),
        ("kept in fp32", f"nodes: {len(m.fp32_nodes)}: {', '.join(m.fp32_nodes)}" if m.fp32_nodes else None),
        ("headroom", f"{headroom:.3g} times: how much larger results could be in half precision" if headroom else None),
        ("verified", proved(m.verified)),
        *(
            (f"largest errors, {unit.unit}", _pairs({name: number(value) for name, value in unit.errors.items()}))
            for unit in m.verified.units
        ),
        *((f"emulated, {each.processor}", _emulated(each)) for each in m.verified.emulated),
        ("verified with", _pairs(m.verified.versions) or NONE),
        ("built with", _pairs({"p3m-edge": m.p3m_edge} | engine.versions)),
    ]
    yield from ((name, value) for name, value in rows if value)


def _emulated(found: EmulatedRecord) -> str:
    """What came of an emulated processor, with the emulator and the packages."""
    errors = _pairs({name: number(value) for name, value in found.errors.items()})
    verdict = f"passed: {errors}" if found.passed else f"FAILED: {'; '.join(found.failures)}"
    return f"{verdict} ({found.emulator}; {_pairs(found.versions)})"


def _output(output: OutputRecord) -> str:
    form = ", an image in the engine's own terms" if output.form == "image" else ""
    return f"{output.name}: {output.dtype} {output.layout}, channels: {output.channels}{form}"


def _build_rows(build: BuildRecord) -> Iterator[tuple[str, str]]:
    """How a TensorRT engine was built, and where it runs."""
    # Here, because it loads the runtimes, which no other artefact needs to be shown.
    from p3m_edge.runtimes.engines.tensorrt.library import NAMES

    yield "engine", f"{NAMES[build.flavour]} {build.version}, {build.system}"
    where = f"compute capability {', '.join(build.compute_capabilities)}"
    more = "" if build.hardware_compatibility == "none" else f", hardware compatibility {build.hardware_compatibility}"
    yield "made for", where + more + (", newer versions too" if build.version_compatible else "")
    built_on = f"{build.gpu}, driver {build.driver or NONE}, CUDA {build.cuda or NONE}" if build.gpu else "no GPU"
    yield "built on", f"{built_on}, in {build.seconds:.1f} s"
    chosen = {"level": build.level, "workspace": build.workspace_mb and f"{build.workspace_mb} MB"}
    yield "builder", _pairs({name: value for name, value in chosen.items() if value is not None})
    if build.profile is not None:
        sizes = (build.profile.minimum, build.profile.optimum, build.profile.maximum)
        yield "sizes", "{0} to {2}, tuned for {1}".format(*(f"{w}x{h}" for w, h in sizes))
    yield "layers by type", _pairs(build.types)
    yield "built of", f"SHA-256 {build.onnx_sha256}"


def _pairs(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
