"""INT8 in OpenVINO, by NNCF's post-training quantisation with bias correction.

Comparisons are left alone: NNCF gives their two inputs different ranges, and then no pooling winner is found again.
"""

from __future__ import annotations

import importlib
import io
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p3m_edge.data.parallel import Progress
from p3m_edge.errors import OutputError, P3MEdgeError, missing_package
from p3m_edge.export.accuracy import UnfitError
from p3m_edge.export.calibration import PictureSet
from p3m_edge.export.ladder import Rung
from p3m_edge.export.openvino import MINIMUM_OPENVINO
from p3m_edge.export.workbench import Built
from p3m_edge.runtimes.engines import openvino as ov
from p3m_edge.targets import Target

TRANSFORMERS = ("swin-t", "vitae-s")
"""Architectures with attention, for which NNCF has a mode of its own (SmoothQuant, other patterns)."""
COMPARING = ("Equal", "Greater", "GreaterEqual", "Select", "Maximum", "Pad", "LogicalAnd", "Multiply", "Subtract")
"""What decides about pooling winners and puts their values back."""

DEPTHWISE = ("GroupConvolution",)
"""On x86 OpenVINO computes depthwise convolutions in float32: integers around them would cost accuracy and time."""

RESIZING = ("Interpolate",)
"""What is in float32 as soon as a part is."""


def require() -> ModuleType:
    """The package ``nncf``, after OpenVINO's telemetry is off.

    Raises
    ------
    MissingError
        It cannot be imported.
    """
    ov.require()
    try:
        return importlib.import_module("nncf")
    except ImportError as error:
        raise missing_package("nncf", "quantize", error) from error


def rungs(
    source: Path, pictures: PictureSet, size: tuple[int, int], batch: int, arch: str, target: Target,
    progress: Callable[[str], Progress] = lambda _what: lambda _done, _total: None,
) -> tuple[Rung, ...]:  # fmt: skip
    """The ways to quantise a float32 IR, the preferred one first.

    Parameters
    ----------
    source
        ``model.xml`` in float32.
    pictures, size, batch
        To calibrate with, and the network's input.
    arch
        Decides about the transformer mode.
    target
        Names the file.
    progress
        Makes, for a pass over the pictures, what is called with the number of those that are done and of all.
    """
    nncf = require()
    mixed, performance = nncf.QuantizationPreset.MIXED, nncf.QuantizationPreset.PERFORMANCE

    def rung(name: str, what: str, **settings: Any) -> Rung:
        def build(folder: Path, kept: Sequence[str]) -> Built:
            model = ov.require().Core().read_model(source)
            # Resizes belong to no part: left in integers, they would change the logits with any parts in float32.
            types = (*DEPTHWISE, *(RESIZING if kept else ()))
            there = {operation.get_type_name() for operation in model.get_ops()}
            images = _Images(pictures, size, progress)
            _quantise(nncf, model, images, batch, kept, types, settings, folder / target.model_file)
            return Built(MINIMUM_OPENVINO, fp32_nodes=(*kept, *(kind for kind in types if kind in there)))

        return Rung(name, what, build)

    found = [
        rung("default", "NNCF, mixed preset, bias correction", preset=mixed),
        rung("symmetric", "NNCF, symmetric activations, bias correction", preset=performance),
    ]
    if arch in TRANSFORMERS:
        what = "NNCF, mixed preset, transformer mode with SmoothQuant, bias correction"
        found.insert(0, rung("transformer", what, preset=mixed, model_type=nncf.ModelType.TRANSFORMER))
    return tuple(found)


def _quantise(
    nncf: ModuleType, model: Any, images: _Images, batch: int, kept: Sequence[str], types: Sequence[str],
    settings: dict[str, Any], out: Path,
) -> None:  # fmt: skip
    entry = model.input(0).get_any_name()

    def feed(image: NDArray[np.uint8]) -> dict[str, NDArray[np.uint8]]:
        return {entry: np.repeat(image, batch, axis=0)}

    # A pattern matches from the beginning; `neck` is no part of `neck_context`.
    patterns = [rf"{re.escape(name)}(?:[./]|$)" for name in kept]
    scope = nncf.IgnoredScope(types=[*COMPARING, *types], patterns=patterns, validate=False)
    with calm(nncf):
        dataset = nncf.Dataset(images, feed)
        try:
            quantised = nncf.quantize(
                model, dataset, subset_size=len(images), ignored_scope=scope, fast_bias_correction=True, **settings
            )
        except (P3MEdgeError, OSError, MemoryError):
            raise
        except Exception as error:  # NNCF's own, NumPy's and OpenVINO's; another way to quantise may do without
            raise UnfitError(f"NNCF cannot quantise the network: {' '.join(str(error).split())}") from error
    try:
        ov.require().save_model(quantised, out, compress_to_fp16=False)
    except RuntimeError as error:  # "iostream error", whatever the reason
        raise OutputError(f"{out.name} cannot be written", hint="check permissions and free space") from error


class _Images:
    """Calibration pictures that can be gone through again and again, each decoded when it is asked for."""

    def __init__(
        self, pictures: PictureSet, size: tuple[int, int], progress: Callable[[str], Progress]
    ) -> None:  # fmt: skip
        self._pictures, self._size, self._progress = pictures, size, progress
        self._passes = 0

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        self._passes += 1
        progress = self._progress(f"calibrating, pass {self._passes}")
        for number, image in enumerate(self._pictures.images(*self._size)):
            yield image
            progress(number + 1, len(self))

    def __len__(self) -> int:
        return len(self._pictures)


@contextmanager
def calm(nncf: ModuleType) -> Iterator[None]:
    """Errors alone: what NNCF tells of its steps, partly on stdout, is for its developers."""
    level = nncf.nncf_logger.level
    nncf.set_log_level(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        nncf.set_log_level(level)
