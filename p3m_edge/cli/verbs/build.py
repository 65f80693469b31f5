"""``p3m-edge build``: the TensorRT engine of an artefact, for the GPU of this machine or for others."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from p3m_edge import folder as folders
from p3m_edge import manifest as manifests
from p3m_edge.atomic import swap
from p3m_edge.cli.options import argument, group, option
from p3m_edge.cli.options.export import Engine
from p3m_edge.cli.ui import Console, megabytes
from p3m_edge.errors import OutputError, P3MEdgeError, UsageError
from p3m_edge.manifest import Manifest
from p3m_edge.manifest_schema import BuildRecord
from p3m_edge.runtimes.engines.tensorrt.builder import Tell, build_into
from p3m_edge.runtimes.engines.tensorrt.options import BuildOptions
from p3m_edge.table import table

EXAMPLES = """
p3m-edge build out/trt-fp16
p3m-edge build out/trt-fp16 --sm 86,89,120    # ahead of time, without a GPU
p3m-edge build out/trt-fp16 out/trt-int8 --force --opt-level 5
p3m-edge build out/trt-fp16 --min 256x256 --opt 512x512 --max 1024x1024    # exported with --dynamic
p3m-edge build out/trt-fp16 --hw-compat ampere+ --version-compat --json
"""
_COLUMNS = "artefact|builder|for GPUs|layers by type|size|seconds"
_CAPTION = "built, and not run on a device yet: there, p3m-edge verify DIR runs it"


@dataclass(frozen=True)
class Arguments:
    """Build the TensorRT engine of an artefact of its typed ONNX, on this machine: on the device that runs it, or
    ahead of time for other GPUs, with TensorRT for RTX. PyTorch is not needed. The artefact gets the engine when it is
    complete; until then, and if it fails, it stays as it is.
    An engine fits one version of TensorRT, one system and one kind of GPU.
    """

    folders: tuple[Path, ...] = argument("an artefact of `p3m-edge export --target trt-...`", "DIR", nargs="+")
    force: bool = option("build again where there is an engine", default=False)
    engine: Engine = group(Engine, "engine")


@dataclass(frozen=True)
class Result:
    """An engine that was built."""

    folder: Path
    engine: Path
    bytes: int
    build: BuildRecord


def run(args: Arguments, console: Console) -> None:
    """Build, one after the other, and print what came of it; the first that fails ends it."""
    wanted = args.engine.options()
    results: list[Result] = []
    error = None
    try:
        for folder in args.folders:
            with console.status(str(folder)) as tell:
                results.append(build(folder, wanted, tell, force=args.force))
    except P3MEdgeError as failure:
        if not results:
            raise
        error = failure
    console.emit({"results": results}, [table("engines", _COLUMNS, _rows(results), _CAPTION)], error)


def build(folder: Path, wanted: BuildOptions, tell: Tell, *, force: bool = False) -> Result:
    """Build the engine in a copy of the artefact, and put that in its place.

    :class:`ArtefactError`: the folder is no artefact, or not as it was exported; :class:`UsageError`: it is not for
    TensorRT, or the options do not fit it; :class:`OutputError`: it has an engine (without ``force``), another process
    is writing it, or the disc is full; else those of :func:`p3m_edge.runtimes.engines.tensorrt.builder.build_into`.
    """
    place = folder.resolve()  # a link stays one
    _check(manifests.read(place), folder, force=force)
    with folders.workspace(place.parent, place.name, force=True) as partial:
        manifest = manifests.read(place)
        _check(manifest, folder, force=force)
        manifests.check_files(manifest, place)
        for name in manifest.files:
            if name != manifest.model_file:
                (partial / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(place / name, partial / name)
        built = build_into(manifest, partial, wanted, tell)
        if built.verified.level == "device":  # shown by an engine before this one; the typed ONNX is the same
            built = replace(built, verified=replace(built.verified, level="typed"))
        manifests.write(built, partial)
        swap(partial, place)
    record = built.engine.build
    assert record is not None
    return Result(folder, folder / built.model_file, built.files[built.model_file].bytes, record)


def _check(manifest: Manifest, folder: Path, *, force: bool) -> None:
    if manifest.engine.name != "tensorrt":
        raise UsageError(
            f"{folder} is for {manifest.engine.name}, which needs no engine that is built",
            hint="artefacts of `p3m-edge export --target trt-fp16` do",
        )
    if manifest.engine.status == "built" and not force:
        raise OutputError(f"{folder} has an engine", hint="--force builds it again")


def _rows(results: list[Result]) -> Iterator[tuple[str, ...]]:
    for result in results:
        build = result.build
        types = ", ".join(f"{count} {name}" for name, count in build.types.items())
        builder, gpus = f"{build.flavour} {build.version}", ", ".join(build.compute_capabilities)
        yield str(result.folder), builder, gpus, types, megabytes(result.bytes), f"{build.seconds:.1f}"
