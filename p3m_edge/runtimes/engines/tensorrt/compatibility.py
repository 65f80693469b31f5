"""Whether a TensorRT engine fits this machine, by its manifest and its first bytes, before anything loads it.

TensorRT itself reports only a failed assertion, and a lean runtime without a driver ends the process. Each check raises
``ArtefactError``, mostly with the command that builds the engine again.
"""

from __future__ import annotations

import os
import platform
import shlex
import struct
from pathlib import Path

from p3m_edge.errors import ArtefactError
from p3m_edge.manifest import TYPED, Manifest
from p3m_edge.manifest_schema import BuildRecord, Flavour
from p3m_edge.runtimes.contract import mismatch, release
from p3m_edge.runtimes.cuda import Gpu
from p3m_edge.runtimes.engines.tensorrt.library import NAMES

_MAGIC: dict[bytes, Flavour] = {b"ftrt": "tensorrt", b"vtrt": "tensorrt-rtx"}
_HEADER = 32  # bytes
TRUST = "P3M_EDGE_TRUST_ENGINES"
"""The variable that lets engines for several versions run the code that they bring, if it is 1."""


def system() -> str:
    """The operating system and processor here, as build records have them: ``linux-x86_64``, ``windows-amd64``, ..."""
    return f"{platform.system()}-{platform.machine()}".lower()


def check_file(manifest: Manifest, model: Path) -> BuildRecord:
    """Compare the engine's file with its build record, and that with this system; returns the record.

    Refused: a file that is truncated, no engine, or not built of the artefact's typed ONNX; one for another system; one
    that contains code, unless the user trusts it.
    """
    build = manifest.engine.build
    if build is None:
        raise mismatch(model, "the manifest does not say how it was built")
    recorded = manifest.files.get(TYPED)
    if recorded is not None and recorded.sha256 != build.onnx_sha256:
        raise unfit(f"{model} was not built of the {TYPED} beside it", model)
    try:
        with model.open("rb") as stream:
            start = stream.read(_HEADER)
        size = model.stat().st_size
    except OSError as error:
        raise ArtefactError(f"{model} cannot be read: {error.strerror}") from error
    flavour = _MAGIC.get(start[:4])
    if flavour is None or len(start) < _HEADER:
        what = "no TensorRT engine" if flavour is None else "truncated"
        raise unfit(f"TensorRT cannot load {model}: it is {what}", model)
    if flavour != build.flavour:
        raise mismatch(model, f"it is an engine of {NAMES[flavour]}, not of {NAMES[build.flavour]}")
    if flavour == "tensorrt-rtx":  # what stands where in the other one's header is not published
        (length,) = struct.unpack_from("<Q", start, 16)
        if length != size:
            raise unfit(f"TensorRT cannot load {model}: it has {size} bytes, and its header says {length}", model)
        version = ".".join(str(part) for part in start[24:28])
        if version != build.version:
            raise mismatch(model, f"it was built by {NAMES[flavour]} {version}, not {build.version}")
    if build.system != system():
        raise unfit(f"{model} was built for {build.system}; this is {system()}", model)
    check_trust(build, model)
    return build


def check_trust(build: BuildRecord, model: Path) -> None:
    """Whether the code in an engine for several versions may run: the user decides, not the artefact."""
    if build.version_compatible and os.environ.get(TRUST) != "1":
        raise ArtefactError(
            f"{model} was built for newer versions too, and so brings code that would run on this machine",
            hint=f"if you trust whoever built it, set {TRUST}=1; or {rebuild(model)}",
        )


def check_version(build: BuildRecord, version: str, model: Path) -> None:
    """Whether an installed TensorRT of that version may load it: the same one, or a newer one where it was built so."""
    if version == build.version or (build.version_compatible and release(version) >= release(build.version)):
        return
    newer = " or newer" if build.version_compatible else ""
    built = f"{NAMES[build.flavour]} {build.version}"
    raise unfit(f"{model} was built with {built} and needs that version{newer}; {version} is installed", model)


def check_gpu(build: BuildRecord, gpu: Gpu, model: Path) -> None:
    """Whether it is for that GPU: its compute capability and, of TensorRT, its very model, if not built for more."""
    fits = gpu.compute_capability in build.compute_capabilities
    wanted = f"compute capability {', '.join(build.compute_capabilities)}"
    if build.hardware_compatibility == "ampere+":
        fits, wanted = release(gpu.compute_capability) >= (8,), "compute capability 8.0 or newer"
    elif build.flavour == "tensorrt" and build.hardware_compatibility == "none" and build.gpu is not None:
        fits &= gpu.name == build.gpu
        wanted = f"{build.gpu} ({wanted})"
    if not fits:
        raise unfit(f"{model} was built for {wanted}; this GPU is {gpu.name} ({gpu.compute_capability})", model)


def rebuild(model: Path) -> str:
    """What to do about an engine that does not fit."""
    return f"build it again on this machine: p3m-edge build {shlex.quote(str(model.parent))} --force"


def unfit(message: str, model: Path) -> ArtefactError:
    """The error for an engine that does not fit, with what to do about it."""
    return ArtefactError(message, hint=rebuild(model))
