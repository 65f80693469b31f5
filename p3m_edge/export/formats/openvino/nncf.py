"""NNCF's post-training quantisation with bias correction.

Comparisons are left alone: NNCF gives their two inputs different ranges, and then no pooling winner is found again.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from p3m_edge.errors import OutputError, P3MEdgeError, missing_package
from p3m_edge.export.quantize import UnfitError
from p3m_edge.export.quantize.calibration import Calibration
from p3m_edge.export.quiet import quiet
from p3m_edge.runtimes.engines import openvino as ov

TRANSFORMERS = ("swin-t", "vitae-s")
"""Architectures with attention, for which NNCF has a mode of its own (SmoothQuant, other patterns)."""
COMPARING = ("Equal", "Greater", "GreaterEqual", "Select", "Maximum", "Pad", "LogicalAnd", "Multiply", "Subtract")
"""What decides about pooling winners and puts their values back."""
DEPTHWISE = ("GroupConvolution",)
"""On x86 OpenVINO computes depthwise convolutions in float32: integers around them would cost accuracy and time."""
RESIZING = ("Interpolate",)
"""What is in float32 as soon as a part is: left in integers, it would change the logits, and it belongs to no part."""


class Preset(NamedTuple):
    """A way to quantise: its name, what it is, NNCF's preset, and whether in the mode for transformers."""

    name: str
    what: str
    preset: str
    transformer: bool = False


PRESETS = (
    Preset("transformer", "NNCF, mixed preset, transformer mode with SmoothQuant, bias correction", "MIXED", True),
    Preset("default", "NNCF, mixed preset, bias correction", "MIXED"),
    Preset("symmetric", "NNCF, symmetric activations, bias correction", "PERFORMANCE"),
)


def presets(arch: str) -> tuple[Preset, ...]:
    """The ways to quantise an architecture, the preferred one first."""
    return tuple(preset for preset in PRESETS if arch in TRANSFORMERS or not preset.transformer)


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


def quantise(source: Path, calibration: Calibration, kept: Sequence[str], preset: Preset, out: Path) -> tuple[str, ...]:
    """Write an IR in 8 bits of one in float32.

    ``kept`` are parts of the network that stay in float32; the types of operations that do so too are returned.

    Raises
    ------
    UnfitError
        NNCF cannot quantise the network in this way.
    MissingError, InputError, OutputError
        NNCF is absent, a picture cannot be read, the file cannot be written.
    """
    nncf, openvino = require(), ov.require()
    model = openvino.Core().read_model(source)
    types = (*DEPTHWISE, *(RESIZING if kept else ()))
    there = {operation.get_type_name() for operation in model.get_ops()}
    entry, images = model.input(0).get_any_name(), _Passes(calibration)
    # A pattern matches from the beginning; `neck` is no part of `neck_context`.
    patterns = [rf"{re.escape(name)}(?:[./]|$)" for name in kept]
    with quiet(stdout=True):
        try:
            quantised = nncf.quantize(
                model,
                nncf.Dataset(images, lambda image: {entry: image}),
                preset=getattr(nncf.QuantizationPreset, preset.preset),
                subset_size=len(images),
                ignored_scope=nncf.IgnoredScope(types=[*COMPARING, *types], patterns=patterns, validate=False),
                fast_bias_correction=True,
                model_type=nncf.ModelType.TRANSFORMER if preset.transformer else None,
            )
        except (P3MEdgeError, OSError, MemoryError):
            raise
        except Exception as error:  # NNCF's own, NumPy's and OpenVINO's; another way to quantise may do without
            raise UnfitError(f"NNCF cannot quantise the network: {' '.join(str(error).split())}") from error
    try:
        openvino.save_model(quantised, out, compress_to_fp16=False)
    except RuntimeError as error:  # "iostream error", whatever the reason
        raise OutputError(f"{out.name} cannot be written", hint="check permissions and free space") from error
    return tuple(kind for kind in types if kind in there)


class _Passes:
    """Calibration pictures that can be gone through again and again, each decoded when it is asked for."""

    def __init__(self, calibration: Calibration) -> None:
        self._calibration, self._passes = calibration, 0

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        self._passes += 1
        return self._calibration.images(f"calibrating, pass {self._passes}")

    def __len__(self) -> int:
        return len(self._calibration.pictures)
