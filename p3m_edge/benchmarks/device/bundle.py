"""A folder that measures artefacts on another machine (:mod:`p3m_edge.benchmarks.device.results`: the way back)."""

from __future__ import annotations

import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path

import p3m_edge
from p3m_edge import manifest
from p3m_edge.benchmarks.device import android
from p3m_edge.benchmarks.device.run import PLAN, SCHEMA_VERSION, BundledArtefact, BundlePlan
from p3m_edge.benchmarks.report import files
from p3m_edge.benchmarks.report.schema import MeasureOptions, identity
from p3m_edge.benchmarks.rows import ArtefactRow
from p3m_edge.errors import MissingError, OutputError, UsageError

SCRIPT = "run_bench.py"
PACKAGE = "p3m_edge.zip"
README = "README.txt"
# Module to distribution: what measuring imports; and for each engine that a bundle can carry, module to requirement,
# where {} is the oldest version that may load the artefact.
_RUNTIME = {
    "numpy": "numpy", "cv2": "opencv-python-headless", "PIL": "pillow", "filelock": "filelock", "msgspec": "msgspec",
    "psutil": "psutil",
}  # fmt: skip
_ENGINES = {
    "onnxruntime": {"onnxruntime": "onnxruntime>={}"},
    "openvino": {"openvino": "openvino>={}"},
    "litert": {"ai_edge_litert": "ai-edge-litert>={}"},
    "coreml": {"coremltools": "coremltools>=9.0", "numpy": "numpy<2.4"},  # as the extra of that name
}
_README = """\
This folder measures portrait-matting artefacts on the machine that it is copied to.

    python {script}

It needs Python 3.11 or newer and these packages; PyTorch is not needed:

    python -m pip install {packages}

Nothing outside this folder is written and nothing is downloaded. When it is done, {result} holds
latency, memory and parity with a description of the machine (no host name, no user name, no path).
Bring that file back and add it to a report:

    p3m-edge bench --import {result} ARTEFACT...
{notes}
Artefacts in this bundle:
{artefacts}
"""
_CORE_ML = """
Core ML runs on Apple's systems alone: copy this folder to a Mac. A Core ML artefact is measured on the processor
(CPU), with the graphics processor (GPU), with the Neural Engine (NE) and with all of them (ALL), and Core ML is asked
where it runs each operator. This takes minutes: Core ML compiles the network for each. --device NE measures one alone.
Core ML keeps what it compiles in caches of its own, outside this folder.
Import the result beside the artefact, and its manifest says `verified: device` if all that was measured passed.
"""
_ANDROID = f"""
LiteRT artefacts are measured on an Android device too, from a machine with adb: sh {android.SCRIPT} BENCHMARK_MODEL
That is LiteRT's own tool (android_aarch64_benchmark_model). The result is {android.RESULT}, for --import as well.
"""


def make_bundle(folder: Path, rows: Sequence[ArtefactRow], options: MeasureOptions) -> Path:
    """Write a bundle; it appears whole or not at all.

    Parameters
    ----------
    folder
        The bundle to make; must not exist, or be empty.
    rows, options
        The artefacts, with unique labels, and how the device shall measure (``threads`` None: the device decides).

    Raises
    ------
    UsageError, ArtefactError
        There is no artefact, or one is damaged or rejected.
    MissingError
        The package does not lie in plain files here, or an engine cannot be bundled.
    OutputError
        The folder is in use or cannot be written.
    """
    if not rows:
        raise UsageError("a bundle needs at least one artefact", hint="p3m-edge bench --bundle DIR ARTEFACT...")
    manifests = [manifest.read(row.folder) for row in rows]
    for found, row in zip(manifests, rows, strict=True):
        manifest.check_files(found, row.folder)
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise OutputError(f"{folder} exists and is not an empty folder", hint="name a new folder")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as name:
            home = Path(name, folder.name)
            home.mkdir()
            _fill(home, rows, manifests, options)
            if folder.exists():
                folder.rmdir()
            home.rename(folder)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror or error}") from error
    return folder


def _fill(
    home: Path, rows: Sequence[ArtefactRow], manifests: Sequence[manifest.Manifest], options: MeasureOptions
) -> None:
    items = []
    for row, found in zip(rows, manifests, strict=True):
        name = re.sub(r"[^\w.+-]+", "_", row.label).strip(".") or "artefact"
        inside = f"artefacts/{name}"
        for name in (*found.files, manifest.MANIFEST):
            target = home / inside / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(row.folder / name, target)
        items.append(BundledArtefact(inside, row.label, identity(found)))
    if len({item.folder for item in items}) != len(items):
        raise UsageError("two artefacts would share a folder in the bundle", hint="rename one of the artefacts")
    needed = _needed(manifests)
    _pack(home / PACKAGE)
    (home / PLAN).write_bytes(files.encode(BundlePlan(SCHEMA_VERSION, needed, options, tuple(items))))
    shutil.copyfile(Path(__file__).with_name(SCRIPT), home / SCRIPT)
    notes = _CORE_ML if any(found.engine.name == "coreml" for found in manifests) else ""
    notes += _ANDROID if android.write(home, rows, options) else ""
    text = _README.format(
        script=SCRIPT,
        packages=" ".join(f'"{package}"' for package in needed.values()),
        result=files.RESULT,
        notes=notes,
        artefacts="\n".join(f"    {item.label}: {item.identity}" for item in items),
    )
    (home / README).write_text(text, encoding="utf-8", newline="\n")


def _pack(path: Path) -> None:
    """The package that is running, as an archive that Python imports from: no build tool, no network."""
    root = Path(p3m_edge.__file__).parent
    if not root.is_dir():
        raise MissingError("p3m-edge runs from an archive, so it cannot be packed into a bundle")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
        for file in sorted(root.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                archive.write(file, file.relative_to(root.parent))


def _needed(manifests: Iterable[manifest.Manifest]) -> dict[str, str]:
    """Module to requirement; the base versions come from this package's own metadata, where it is installed."""
    try:
        requires = [text.replace(" ", "") for text in metadata.requires("p3m-edge") or () if ";" not in text]
    except metadata.PackageNotFoundError:
        requires = []
    bounds = {re.split(r"[^\w.-]", text)[0]: text for text in requires}
    needed = {module: bounds.get(name, name) for module, name in _RUNTIME.items()}
    for one in manifests:
        engine = one.engine.name
        if engine not in _ENGINES:
            raise MissingError(f"artefacts of the engine {engine!r} cannot be bundled yet")
        for module, requirement in _ENGINES[engine].items():
            needed[module] = requirement.format(one.engine.minimum_version)
    return needed
