"""Import one package and say what it offers, as JSON on stdout: what `p3m-edge doctor` starts for each package.

A process of its own, because a broken package may end the process that imports it.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from importlib import metadata
from types import ModuleType
from typing import Any

from p3m_edge.telemetry import silence_engines


def main(name: str) -> None:
    """Import the package ``name`` and print its version and details."""
    sys.stdout.flush()
    silence_engines()
    result: dict[str, Any]
    try:
        module = importlib.import_module(name)
        details = _DETAILS[name](module) if name in _DETAILS else {}
        version = str(getattr(module, "__version__", "")) or _distribution(name)
        result = {"version": version, "details": details, "cause": None}
    except Exception as error:  # noqa: BLE001 - any failure of a foreign package is the answer
        cause = " ".join(f"{type(error).__name__}: {error}".split())
        result = {"version": None, "details": {}, "cause": cause}
    # The package may have printed something of its own: the answer is the last line.
    sys.stdout.write("\n" + json.dumps(result) + "\n")


def _distribution(name: str) -> str | None:
    """The version that pip knows, of a package that does not tell its own."""
    found = metadata.packages_distributions().get(name)
    return metadata.version(found[0]) if found else None


def _onnxruntime(module: ModuleType) -> dict[str, Any]:
    return {"providers": list(module.get_available_providers())}


def _openvino(module: ModuleType) -> dict[str, Any]:
    core = module.Core()
    return {"devices": [f"{name} ({core.get_property(name, 'FULL_DEVICE_NAME')})" for name in core.available_devices]}


def _coreai(module: ModuleType) -> dict[str, Any]:
    runtime = importlib.import_module(f"{module.__name__}.runtime")  # the libraries are behind it
    return {"runtime": "that of macOS" if runtime._use_os_coreai else "that of the package"}


def _cuda(module: ModuleType) -> dict[str, Any]:
    importlib.import_module(f"{module.__name__}.bindings.runtime")  # a namespace that says nothing by itself
    return {}


def _torch(module: ModuleType) -> dict[str, Any]:
    cuda = module.cuda
    names = [cuda.get_device_name(index) for index in range(cuda.device_count())] if cuda.is_available() else []
    built_for = f"CUDA {module.version.cuda}" if module.version.cuda else "CPU only"
    return {"build": built_for, "cuda_devices": names}


_DETAILS: dict[str, Callable[[ModuleType], dict[str, Any]]] = {
    "coreai": _coreai,
    "cuda": _cuda,
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "torch": _torch,
}

if __name__ == "__main__":
    main(sys.argv[1])
