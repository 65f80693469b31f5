"""The Core ML targets: an ML Program in a package, converted by coremltools in a process of its own.

The program takes an image (RGB, 0..255) and gives alpha as an image (``GRAYSCALE_FLOAT16``, 0..1), so that an app
passes a ``CVPixelBuffer`` and gets one; local alpha and logits are multi-arrays, for verification, and so is alpha in
float32 and where it is wanted (:mod:`p3m_edge.export.forms`). It runs on no Linux: there it is verified operator by
operator (:mod:`p3m_edge.export.mil`).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from p3m_edge.export import apart, forms, package_size
from p3m_edge.export.mil.convert import Order, Part
from p3m_edge.export.mil.package import require
from p3m_edge.export.program import STATE, in_single, save
from p3m_edge.export.swift import FILE, source
from p3m_edge.export.workbench import Built, Workbench
from p3m_edge.model.deploy import OUTPUTS
from p3m_edge.runtimes.engines.coreml import here
from p3m_edge.targets import Target

CONVERTER = "p3m_edge.export.mil.convert"
QUANTISER = "p3m_edge.export.mil.activations"


def build(bench: Workbench, target: Target, folder: Path) -> Built:
    """Write ``model.mlpackage``, and Swift for it, into ``folder``.

    Raises
    ------
    MissingError
        coremltools cannot be imported.
    OSError
        The disc is full.
    P3MEdgeError
        The conversion failed, its process was killed, or the package is larger than the network's weights account for.
    """
    kept = convert(bench, target, folder)
    write_swift(bench, target, folder)
    return built(bench, target, kept)


def built(bench: Workbench, target: Target, kept: tuple[str, ...]) -> Built:
    """What is said of a package with these nodes in float32."""
    return Built(str(forms.minimum(target, bench.request)), kept, "device" if here() else "program")


def convert(bench: Workbench, target: Target, folder: Path) -> tuple[str, ...]:
    """Write the package alone, activations in floating point; the names of the nodes that stay in float32.

    Raises
    ------
    MissingError, OSError, P3MEdgeError
        As :func:`build`.
    """
    require()
    request = bench.request
    with tempfile.TemporaryDirectory(dir=folder, prefix=".convert-") as temporary:
        parts = []
        for (width, height), program in zip(request.sizes, bench.programs, strict=True):
            traced = Path(temporary) / f"{width}x{height}.pt2"
            save(program, traced)
            parts.append(Part(str(traced), height, width, () if target.precision == "fp32" else in_single(program)))
        # In the private folder: what a killed export has left running must not write into that of the next one.
        package = Path(temporary) / target.model_file
        order = Order(
            tuple(parts), tuple(each.name for each in forms.functions(request)), str(package),
            tuple(OUTPUTS[request.outputs]), target.precision,
            forms.minimum(target, request), forms.alpha(target, request.alpha),
            None if request.smoothing is None else STATE,
        )  # fmt: skip
        apart.convert(CONVERTER, order, "coremltools", "the network")
        functions = [(program, part.fp32) for program, part in zip(bench.programs, parts, strict=True)]
        package_size.check(package, functions, "fp16" if target.climbs else target.precision)
        package.rename(folder / target.model_file)
    return tuple(dict.fromkeys(name for part in parts for name in part.fp32))


def write_swift(bench: Workbench, target: Target, folder: Path) -> None:
    """Write the Swift for an artefact."""
    (folder / FILE).write_text(source(bench.network.arch, target, bench.request), encoding="utf-8")
