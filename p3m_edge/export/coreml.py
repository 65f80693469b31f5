"""The Core ML targets: an ML Program in a package, converted by coremltools in a process of its own.

The program takes an image (RGB, 0..255) and gives alpha as an image (``GRAYSCALE_FLOAT16``, 0..1), so that an app
passes a ``CVPixelBuffer`` and gets one; local alpha and logits are multi-arrays, for verification, and so is alpha in
float32. It runs on no Linux: there it is verified operator by operator (:mod:`p3m_edge.export.mil`).
"""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import torch

from p3m_edge.errors import P3MEdgeError
from p3m_edge.export.accuracy import UnfitError
from p3m_edge.export.graph import INPUT
from p3m_edge.export.mil.convert import UNFIT, Order
from p3m_edge.export.mil.package import require
from p3m_edge.export.program import deciding
from p3m_edge.export.swift import FILE, source
from p3m_edge.export.workbench import Built, Workbench
from p3m_edge.model.deploy import OUTPUTS
from p3m_edge.runtimes.coreml import here
from p3m_edge.targets import Target

MINIMUM_IOS, ACTIVATIONS_IOS = "16", "17"
"""The oldest iOS that runs an ML Program with images of half precision, and one with activations in 8 bits."""
CONVERTER = [sys.executable, "-m", "p3m_edge.export.mil.convert"]
QUANTISER = [sys.executable, "-m", "p3m_edge.export.mil.activations"]


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
    kept = convert(bench, target, folder)
    write_swift(bench, target, folder)
    return built(target, kept)


def built(target: Target, kept: tuple[str, ...]) -> Built:
    """What is said of a package with these nodes in float32."""
    return Built(_minimum(target), kept, "device" if here() else "program")


def _minimum(target: Target) -> str:
    return ACTIVATIONS_IOS if target.precision == "w8a8" else MINIMUM_IOS


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
        traced = Path(temporary) / "program.pt2"
        written = io.BytesIO()  # PyTorch's own writer ends the process where the disc is full
        torch.export.save(bench.program, written)
        traced.write_bytes(written.getbuffer())
        kept = () if target.precision == "fp32" else deciding(bench.program)
        # In the private folder: what a killed export has left running must not write into that of the next one.
        package = Path(temporary) / target.model_file
        order = Order(
            str(traced), str(package), request.height, request.width,
            tuple(OUTPUTS[request.outputs]), target.precision, _minimum(target), kept,
        )  # fmt: skip
        run(CONVERTER, order)
        package.rename(folder / target.model_file)
    return kept


def write_swift(bench: Workbench, target: Target, folder: Path) -> None:
    """Write the Swift for an artefact."""
    request = bench.request
    swift = source(
        target.name, bench.network.arch, target.model_file, request.width, request.height, INPUT,
        image=target.precision != "fp32",
    )  # fmt: skip
    (folder / FILE).write_text(swift, encoding="utf-8")


def run(line: Sequence[str], order: object) -> None:
    """Run what coremltools is needed for, and wait for it.

    Raises
    ------
    UnfitError
        Numbers do not fit the precision.
    P3MEdgeError
        It failed, or was killed.
    """
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            _, told = process.communicate(msgspec.json.encode(order))
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        lines = told.decode(errors="replace").strip().splitlines()
        reason = lines[-1] if lines and process.returncode > 0 else _ending(process.returncode)
        kind = UnfitError if process.returncode == UNFIT else P3MEdgeError
        raise kind(f"coremltools cannot convert the network: {reason}")


def _ending(code: int) -> str:
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    return f"its process {how}"
