"""The ranges of a LiteRT model's activations: it runs on the calibration pictures, and all results are looked at.

The quantizer's own calibration keeps a moving average alone; here, each picture counts the same, and the widest ranges
are there as well (:class:`p3m_edge.export.graph.ranges.Range`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p3m_edge.export.formats.litert.schema import parse
from p3m_edge.export.graph.ranges import Range, check_finite, combined
from p3m_edge.runtimes.engines import litert


def activation_ranges(model: Path, images: Iterable[NDArray[np.uint8]]) -> dict[str, Range]:
    """Run a model in float32 on pictures, and keep the ranges of all that is in float32, by name.

    Parameters
    ----------
    model
        A ``.tflite`` in float32.
    images
        Inputs, uint8 ``[1, H, W, 3]``.

    Raises
    ------
    InputError
        There are no pictures, or a value is not finite.
    """
    package = litert.require()
    interpreter = package.Interpreter(
        str(model),
        # XNNPACK keeps what is between its operators to itself.
        experimental_op_resolver_type=package.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    (entry,) = interpreter.get_input_details()
    computed = results(model)
    details = interpreter.get_tensor_details()
    floats = [each for each in details if each["dtype"] == np.float32 and each["name"] in computed]

    def measured() -> Iterator[Mapping[str, Sequence[float]]]:
        for image in images:
            interpreter.set_tensor(entry["index"], image)
            interpreter.invoke()
            values = ((each["name"], interpreter.get_tensor(each["index"])) for each in floats)
            yield {name: (float(value.min()), float(value.max())) for name, value in values if value.size}

    ranges = combined(measured())
    check_finite(ranges)
    return ranges


def results(model: Path) -> frozenset[str]:
    """The names of what a model's operators compute."""
    return frozenset(
        part.tensors[place].name.decode()
        for part in parse(model).subgraphs
        for each in part.operators
        for place in each.outputs
    )
