"""Import one package and say what it offers: what ``p3m-edge doctor`` starts for each package.

A process of its own, because a broken package may end the process that imports it.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from types import ModuleType
from typing import Literal

from p3m_edge.telemetry import silence_engines
from p3m_edge.workers.child import described, serve

Details = dict[str, str | list[str]]


@dataclass(frozen=True)
class Package:
    """One package: ``cause`` says why it is broken; ``details`` are the devices or providers that it really offers."""

    name: str
    extra: str | None
    status: Literal["ok", "absent", "broken"]
    version: str | None = None
    details: Details = field(default_factory=dict)
    cause: str | None = None


def probe(name: str, extra: str | None = None) -> Package:
    """Import the package ``name``, which an ``extra`` of this one brings."""
    silence_engines()
    try:
        module = importlib.import_module(name)
        details = _DETAILS[name](module) if name in _DETAILS else {}
        return Package(name, extra, "ok", str(getattr(module, "__version__", "")) or _distribution(name), details)
    except Exception as error:  # noqa: BLE001 - any failure of a foreign package is the answer
        return Package(name, extra, "broken", cause=described(error))


def _distribution(name: str) -> str | None:
    """The version that pip knows, of a package that does not tell its own."""
    found = metadata.packages_distributions().get(name)
    return metadata.version(found[0]) if found else None


def _openvino(module: ModuleType) -> Details:
    core = module.Core()
    return {"devices": [f"{name} ({core.get_property(name, 'FULL_DEVICE_NAME')})" for name in core.available_devices]}


def _coreai(module: ModuleType) -> Details:
    runtime = importlib.import_module(f"{module.__name__}.runtime")  # the libraries are behind it
    return {"runtime": "that of macOS" if runtime._use_os_coreai else "that of the package"}


def _cuda(module: ModuleType) -> Details:
    importlib.import_module(f"{module.__name__}.bindings.runtime")  # a namespace that says nothing by itself
    return {}


def _torch(module: ModuleType) -> Details:
    cuda = module.cuda
    names = [cuda.get_device_name(index) for index in range(cuda.device_count())] if cuda.is_available() else []
    built_for = f"CUDA {module.version.cuda}" if module.version.cuda else "CPU only"
    return {"build": built_for, "cuda_devices": names}


def _pillow(module: ModuleType) -> Details:
    features = importlib.import_module(f"{module.__name__}.features")
    formats = {"JPEG": "jpg", "PNG": "zlib", "TIFF": "libtiff", "WebP": "webp", "AVIF": "avif", "JPEG 2000": "jpg_2000"}
    return {"reads": [name for name, feature in formats.items() if features.check(feature)]}


_DETAILS: dict[str, Callable[[ModuleType], Details]] = {
    "onnxruntime": lambda module: {"providers": list(module.get_available_providers())},
    "openvino": _openvino, "coreai": _coreai, "cuda": _cuda, "torch": _torch, "PIL": _pillow,
    "pillow_heif": lambda module: {"reads": ["HEIC"]},
}  # fmt: skip

if __name__ == "__main__":
    try:
        serve({"probe": probe})
    finally:
        os._exit(0)  # how a package takes the end of Python is no part of the answer
