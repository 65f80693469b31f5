"""Weights and activations in 8 bits in Core ML (iOS 17): from one table of ranges, measured by the interpreter.

coremltools calibrates on a Mac alone, so the program in half precision is interpreted on the calibration pictures,
once; every attempt takes its scales from there. What does not get 8 bits stays in half precision, or in float32 as in
``coreml-fp16``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from p3m_edge.export import apart, coreml, package_size
from p3m_edge.export.ladder import Rung
from p3m_edge.export.mil.activations import Order
from p3m_edge.export.mil.engine import as_image
from p3m_edge.export.mil.interpreter import Interpreter
from p3m_edge.export.mil.package import read
from p3m_edge.export.program import place_of
from p3m_edge.export.quantize_onnx import part_name
from p3m_edge.export.ranges import Range, check_finite, combined
from p3m_edge.export.workbench import Built, Workbench
from p3m_edge.targets import Target

_WEIGHTED = (torch.ops.aten.conv2d.default, torch.ops.aten.linear.default)


def rungs(
    bench: Workbench, target: Target, source: Path, half: Callable[[], tuple[str, ...]],
    ranges: Callable[[], Mapping[str, Range]],
) -> tuple[Rung, ...]:  # fmt: skip
    """The ways to quantise a program in half precision, the preferred one first.

    Parameters
    ----------
    bench, target
        The network, and what to make.
    source, half
        Its package in half precision, and what writes it before it is first needed, and gives the names of the nodes
        that are in float32 there (:func:`p3m_edge.export.coreml.convert`): they stay so.
    ranges
        Gives those of all activations (:func:`activation_ranges`).
    """
    parts = parts_of(bench.program)

    def rung(name: str, what: str, *, zero_point: bool = False, widest: bool = False) -> Rung:
        def build(folder: Path, kept: Sequence[str]) -> Built:
            single = half()
            # Joins, pooling and resizes between the parts belong to none: they are left alone as soon as a part is.
            nodes = [node for part in ("", *kept) for node in parts[part]] if kept else []
            table = {name: found[:2] if widest else found[2:] for name, found in ranges().items()}
            out = folder / target.model_file
            order = Order(str(source), str(out), table, (*single, *nodes), zero_point)
            apart.convert(coreml.QUANTISER, order, "coremltools", "the network")
            package_size.check(out, [(bench.program, single)], target.precision, nodes)
            coreml.write_swift(bench, target, folder)
            return coreml.built(bench, target, single)

        return Rung(name, what, build)

    return (
        rung("symmetric", "signed activations, symmetric, ranges averaged over the pictures"),
        rung("zero point", "unsigned activations with a zero point, averaged ranges", zero_point=True),
        rung(
            "widest ranges",
            "unsigned activations with a zero point, the widest ranges of all pictures",
            zero_point=True,
            widest=True,
        ),
    )


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

            def note(name: str, _: str, values: NDArray[Any], found: dict[str, tuple[float, float]] = found) -> None:
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
