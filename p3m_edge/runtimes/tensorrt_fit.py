"""Whether a TensorRT engine fits this machine, by its manifest and its first bytes, before anything loads it.

TensorRT itself says no more than that some assertion failed, and a lean runtime without a driver ends the process.
"""

from __future__ import annotations

import os
import platform
import shlex
import struct
from pathlib import Path

from p3m_edge.errors import ArtefactError
from p3m_edge.manifest import TYPED, Manifest
from p3m_edge.records import BuildRecord, Flavour
from p3m_edge.runtimes.contract import mismatch, release
from p3m_edge.runtimes.cuda import Gpu

NAMES: dict[Flavour, str] = {"tensorrt": "TensorRT", "tensorrt-rtx": "TensorRT for RTX"}
"""The flavours, as people write them."""
MODULES: dict[Flavour, tuple[str, ...]] = {
    "tensorrt": ("tensorrt",),
    "tensorrt-rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings"),
}
"""Import names of each flavour's package: the metapackage of the second one only passes on what is in the other."""
_MAGIC: dict[Flavour, bytes] = {"tensorrt": b"ftrt", "tensorrt-rtx": b"vtrt"}
_HEADER = 32  # bytes
TRUST = "P3M_EDGE_TRUST_ENGINES"
"""The variable that lets engines for several versions run the code that they bring, if it is 1."""


def system() -> str:
    """The operating system and processor here, as build records have them: ``linux-x86_64``, ``windows-amd64``, ..."""
    return f"{platform.system()}-{platform.machine()}".lower()


def rebuild(folder: Path) -> str:
    """What to do about an engine that does not fit."""
    return f"build it again on this machine: p3m-edge build {shlex.quote(str(folder))} --force"


def check_plan(manifest: Manifest, model: Path) -> BuildRecord:
    """Hold the engine's file against the record of its build, which is returned.

    Raises
    ------
    ArtefactError
        There is no such record; the file is truncated, of something else, or of another build; the typed ONNX beside it
        is not that of which it was built.
    """
    build = manifest.engine.build
    if build is None:
        raise mismatch(model, "the manifest does not say how it was built")
    recorded = manifest.files.get(TYPED)
    if recorded is not None and recorded.sha256 != build.onnx_sha256:
        raise ArtefactError(f"{model} was not built of the {TYPED} beside it", hint=rebuild(model.parent))
    try:
        with model.open("rb") as stream:
            start = stream.read(_HEADER)
        size = model.stat().st_size
    except OSError as error:
        raise ArtefactError(f"{model} cannot be read: {error.strerror}") from error
    flavour = next((name for name, magic in _MAGIC.items() if start.startswith(magic)), None)
    if flavour is None or len(start) < _HEADER:
        raise _unloadable(model, "it is no TensorRT engine" if flavour is None else "it is truncated")
    if flavour != build.flavour:
        raise mismatch(model, f"it is an engine of {NAMES[flavour]}, not of {NAMES[build.flavour]}")
    if flavour == "tensorrt-rtx":  # what stands where in the other one's header is not published
        (length,) = struct.unpack_from("<Q", start, 16)
        if length != size:
            raise _unloadable(model, f"it has {size} bytes, and its header says {length}")
        version = ".".join(str(part) for part in start[24:28])
        if version != build.version:
            raise mismatch(model, f"it was built by {NAMES[flavour]} {version}, not {build.version}")
    return build


def check_system(build: BuildRecord, model: Path) -> None:
    """Whether the engine is for this operating system and processor.

    Raises
    ------
    ArtefactError
        It is not.
    """
    if build.system != system():
        raise ArtefactError(f"{model} was built for {build.system}; this is {system()}", hint=rebuild(model.parent))


def check_version(build: BuildRecord, version: str, model: Path) -> None:
    """Whether an installed TensorRT of that version may load it: the same one, or a newer one where it was built so.

    Raises
    ------
    ArtefactError
        It may not.
    """
    if version == build.version or (build.version_compatible and release(version) >= release(build.version)):
        return
    newer = " or newer" if build.version_compatible else ""
    raise ArtefactError(
        f"{model} was built with {NAMES[build.flavour]} {build.version} and needs that version{newer}; "
        f"{version} is installed",
        hint=rebuild(model.parent),
    )


def check_trust(build: BuildRecord, model: Path) -> None:
    """Whether the code inside of an engine for several versions may run: what made the artefact cannot say so itself.

    Raises
    ------
    ArtefactError
        Nobody has said so.
    """
    if build.version_compatible and os.environ.get(TRUST) != "1":
        raise ArtefactError(
            f"{model} was built for newer versions too, and so brings code that would run on this machine",
            hint=f"if you trust whoever built it, set {TRUST}=1; or {rebuild(model.parent)}",
        )


def check_gpu(build: BuildRecord, gpu: Gpu, model: Path) -> None:
    """Whether it is for that GPU: its compute capability and, of TensorRT, its very model, if not built for more.

    Raises
    ------
    ArtefactError
        It is not.
    """
    known = build.compute_capabilities
    fits = gpu.compute_capability in known
    wanted = f"compute capability {', '.join(known)}"
    if build.hardware_compatibility == "ampere+":
        fits, wanted = release(gpu.compute_capability) >= (8,), "compute capability 8.0 or newer"
    elif build.flavour == "tensorrt" and build.hardware_compatibility == "none" and build.gpu is not None:
        fits &= gpu.name == build.gpu
        wanted = f"{build.gpu} ({wanted})"
    if not fits:
        raise ArtefactError(
            f"{model} was built for {wanted}; this GPU is {gpu.name} ({gpu.compute_capability})",
            hint=rebuild(model.parent),
        )


def _unloadable(model: Path, why: str) -> ArtefactError:
    return ArtefactError(f"TensorRT cannot load {model}: {why}", hint=rebuild(model.parent))
