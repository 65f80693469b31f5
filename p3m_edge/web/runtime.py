"""ONNX Runtime Web: the version that sites carry, and the check of an unpacked npm package against it."""

from __future__ import annotations

from pathlib import Path

from p3m_edge.errors import MissingError
from p3m_edge.manifest import sha256

NAME, VERSION = "onnxruntime-web", "1.30.0"
LICENCE = (
    f"{NAME} {VERSION}, Copyright (c) Microsoft Corporation, MIT licence: https://github.com/microsoft/onnxruntime\n"
)
FILES = {
    "ort.wasm.min.mjs": "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b",
    "ort-wasm-simd-threaded.mjs": "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
    "ort.webgpu.min.mjs": "3dffff71811bc13a3a3d9591c57ca5ee5735b8f5f3eaf789510b02bb040ae3a0",
    "ort-wasm-simd-threaded.asyncify.mjs": "3d1c85995364bb643302fc6fd877a0c3ba5ae72401815e0f24828a53d9191e28",
    "ort-wasm-simd-threaded.asyncify.wasm": "39f9f0894d478800487ed9f7dbe92618498db320cf55c8e3d89adff8dce658da",
}
"""Those of its folder ``dist`` that a site needs, with their SHA-256: of the builds for WASM and for WebGPU."""
HINT = (
    f"npm pack {NAME}@{VERSION} && tar -xzf {NAME}-{VERSION}.tgz, then --runtime package; "
    "npm downloads 33 MB, p3m-edge nothing"
)


def check(package: Path) -> None:
    """Compare an unpacked npm package with the version that is pinned here.

    Raises
    ------
    MissingError
        It is not there, or no package, or its files are not those of that version.
    """
    if not (package / "dist").is_dir():
        what = "holds no folder dist" if package.is_dir() else "is no folder"
        raise MissingError(f"{NAME} {VERSION} is needed, and {package} {what}", hint=HINT)
    for name, digest in FILES.items():
        path = package / "dist" / name
        try:
            found = sha256(path)
        except OSError as error:
            raise MissingError(f"{path} cannot be read: {error.strerror}", hint=HINT) from error
        if found != digest:
            text = f"{path} is not that of {NAME} {VERSION}: it has another SHA-256"
            raise MissingError(text, hint=HINT)


def served_as(name: str) -> str:
    """The name of a file in a site: servers send scripts as such by the suffix ``.js``, not all of them by ``.mjs``."""
    return name.replace(".mjs", ".js")
