"""Weights and activations in 8 bits in Core ML (iOS 17): from one table of ranges, measured by the interpreter.

coremltools calibrates on a Mac alone, so the program in half precision is interpreted on the calibration pictures,
once; every attempt takes its scales from there. What does not get 8 bits stays in half precision, or in float32 as in
``coreml-fp16``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from p3m_edge.arrays import Array
from p3m_edge.export.formats.coreml.mil.engine import as_image
from p3m_edge.export.formats.coreml.mil.interpreter import Interpreter
from p3m_edge.export.formats.coreml.mil.package import read
from p3m_edge.export.graph.program import place_of
from p3m_edge.export.graph.qdq import part_name
from p3m_edge.export.graph.ranges import Range, check_finite, combined

_WEIGHTED = (torch.ops.aten.conv2d.default, torch.ops.aten.linear.default)


class Way(NamedTuple):
    """A way to quantise: activations with a zero point or symmetric, in averaged ranges or the widest."""

    name: str
    what: str
    zero_point: bool
    widest: bool = False


WAYS = (
    Way("symmetric", "signed activations, symmetric, ranges averaged over the pictures", False),
    Way("zero point", "unsigned activations with a zero point, averaged ranges", True),
    Way("widest ranges", "unsigned activations with a zero point, the widest ranges of all pictures", True, True),
)
"""The preferred one first."""


def activation_ranges(package: Path, images: Iterable[NDArray[np.uint8]]) -> dict[str, Range]:
    """Interpret a package on pictures, and keep the ranges of all that is computed in floating point.

    Parameters
    ----------
    package
        In half precision; its results are rounded as it types them.
    images
        Inputs, uint8 ``[1, H, W, 3]``.

    Raises
    ------
    InputError
        There are no pictures, or a value is not finite.
    """
    interpreter = Interpreter(read(package))
    (entry,) = interpreter.inputs

    def measured() -> Iterator[Mapping[str, Sequence[float]]]:
        for image in images:
            found: dict[str, tuple[float, float]] = {}

            def note(name: str, _: str, values: Array, found: dict[str, tuple[float, float]] = found) -> None:
                if values.dtype.kind == "f":
                    found[name] = float(values.min()), float(values.max())

            interpreter.run({entry: as_image(image)}, "typed", watch=note)
            yield found

    ranges = combined(measured())
    check_finite(ranges, "it is more than half precision can hold: check the checkpoint, or take coreml-fp32")
    return ranges


def parts_of(program: torch.export.ExportedProgram) -> dict[str, tuple[str, ...]]:
    """The nodes of each part of a network by the part's name, which is that of ONNX; those of none under ""."""
    found: dict[str, list[torch.fx.Node]] = {}
    for node in program.graph.nodes:
        if node.op == "call_function":
            found.setdefault(part_name(place_of(node)), []).append(node)
    parts: dict[str, tuple[str, ...]] = {"": ()}
    for part, nodes in found.items():
        name = part if any(node.target in _WEIGHTED for node in nodes) else ""
        parts[name] = (*parts.get(name, ()), *(node.name for node in nodes))
    return parts
