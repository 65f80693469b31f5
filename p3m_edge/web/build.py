"""The folder of a site: page, module, artefact and ONNX Runtime Web, complete or not there."""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path

from p3m_edge import folder as folders
from p3m_edge import manifest as manifests
from p3m_edge.errors import UsageError
from p3m_edge.manifest import MANIFEST, SIGNATURE, Manifest
from p3m_edge.web import runtime

MODULE = "p3m-edge.js"
"""By which a site is known as one."""
ARTEFACT, RUNTIME = "artefact", "ort"
"""The folders of a site."""


def build(artefact: Path, out: Path, package: Path, *, force: bool = False) -> Manifest:
    """Write the site, and return the manifest of its artefact.

    Parameters
    ----------
    artefact
        Of ONNX Runtime; it is copied as it is.
    out
        The new folder.
    package
        The npm package ``onnxruntime-web``, unpacked.
    force
        Replace a site that is there.

    Raises
    ------
    ArtefactError
        No artefact; one that is rejected or damaged.
    UsageError
        An artefact of another engine, or for several frames at a time; ``out`` is inside of it.
    MissingError
        The package is not there, or is not the version that is pinned.
    OutputError
        ``out`` exists (without ``force``) or is no site, or cannot be written.
    """
    manifest = manifests.read(artefact)
    _check(manifest, artefact)
    place = out.resolve()
    if artefact.resolve() in (place, *place.parents):
        raise UsageError(f"{out} is inside of the artefact", hint="choose another --out")
    runtime.check(package)
    with folders.workspace(place.parent, place.name, force=force, marker=MODULE) as partial:
        for path in Path(str(resources.files(__package__) / "site")).iterdir():
            shutil.copyfile(path, partial / path.name)
        copied = partial / ARTEFACT
        for name in (MANIFEST, *manifest.files, *([SIGNATURE] if (artefact / SIGNATURE).is_file() else [])):
            (copied / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(artefact / name, copied / name)
        manifests.check_files(manifest, copied)
        (partial / RUNTIME).mkdir()
        for name in runtime.FILES:
            shutil.copyfile(package / "dist" / name, partial / RUNTIME / runtime.served_as(name))
        (partial / RUNTIME / "LICENSE.txt").write_text(runtime.LICENCE, encoding="utf-8")
        folders.settle(partial, place, passed=True)
    return manifest


def _check(manifest: Manifest, artefact: Path) -> None:
    if manifest.engine.name != "onnxruntime":
        text = f"{artefact} is for {manifest.engine.name}; browsers run artefacts of ONNX Runtime"
        raise UsageError(text, hint="p3m-edge export --target onnx-fp32")
    if manifest.input.batch != 1:
        raise UsageError(f"{artefact} takes {manifest.input.batch} frames at a time, and a browser has one")
    if manifest.parity is None:
        raise UsageError(f"{artefact} has not been through its parity gate", hint="export it again")
