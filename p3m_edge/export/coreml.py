"""The Core ML targets: an ML Program in a package, converted by coremltools in a process of its own.

The program takes an image (RGB, 0..255) and gives alpha as an image (``GRAYSCALE_FLOAT16``, 0..1), so that an app
passes a ``CVPixelBuffer`` and gets one; local alpha and logits are multi-arrays, for verification, and so is alpha in
float32. It runs on no Linux: there it is verified operator by operator (:mod:`p3m_edge.export.mil`).
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

import torch

from p3m_edge.export import apart
from p3m_edge.export.graph import INPUT
from p3m_edge.export.mil.convert import Order
from p3m_edge.export.mil.package import require
from p3m_edge.export.program import deciding
from p3m_edge.export.swift import FILE, source
from p3m_edge.export.workbench import Built, Workbench
from p3m_edge.model.deploy import OUTPUTS
from p3m_edge.runtimes.coreml import here
from p3m_edge.targets import Target

MINIMUM_IOS = "16"
CONVERTER = [sys.executable, "-m", "p3m_edge.export.mil.convert"]


def build(bench: Workbench, target: Target, folder: Path) -> Built:
    """Write ``model.mlpackage``, and Swift for it, into ``folder``.

    Raises
    ------
    MissingError
        coremltools cannot be imported.
    OSError
        The disc is full.
    P3MEdgeError
        The conversion failed, or its process was killed.
    """
    require()
    request = bench.request
    with tempfile.TemporaryDirectory(dir=folder, prefix=".convert-") as temporary:
        traced = Path(temporary) / "program.pt2"
        written = io.BytesIO()  # PyTorch's own writer ends the process where the disc is full
        torch.export.save(bench.program, written)
        traced.write_bytes(written.getbuffer())
        kept = () if target.precision == "fp32" else deciding(bench.program)
        # In the private folder: what a killed export has left running must not write into that of the next one.
        package = Path(temporary) / target.model_file
        order = Order(
            str(traced), str(package), request.height, request.width,
            tuple(OUTPUTS[request.outputs]), target.precision, MINIMUM_IOS, kept,
        )  # fmt: skip
        apart.convert(CONVERTER, order, "coremltools", "the network")
        package.rename(folder / target.model_file)
    swift = source(
        target.name, bench.network.arch, target.model_file, request.width, request.height, INPUT,
        image=target.precision != "fp32",
    )  # fmt: skip
    (folder / FILE).write_text(swift, encoding="utf-8")
    return Built(MINIMUM_IOS, kept, "device" if here() else "program")
