"""The worker that brings LiteRT models to fewer bits: litert-quantizer, in a process of its own.

``python -m p3m_edge.export.formats.litert.quantise`` takes a :class:`HalfOrder` or an :class:`IntegerOrder`. The
quantizer logs, and takes a model for what it is not where its names mislead it; it needs no PyTorch.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from p3m_edge.arrays import Array
from p3m_edge.atomic import atomic_write
from p3m_edge.export.graph.half import FAINT
from p3m_edge.export.quiet import quiet
from p3m_edge.workers.child import serve

_EVERYTHING = ".*"


@dataclass(frozen=True)
class HalfOrder:
    """A model in float32, and the one to write, whose weights are in half precision."""

    source: str
    out: str


@dataclass(frozen=True)
class IntegerOrder:
    """A model in float32, and the one to write in 8 bits: ``ranges`` has those of all activations, by name.

    ``kept`` are the scopes of operators that stay in float32 (:func:`~p3m_edge.export.formats.litert.parts.scopes_of`).
    """

    source: str
    out: str
    ranges: dict[str, tuple[float, float]]
    kept: tuple[str, ...]


def halve(order: HalfOrder) -> None:
    """Write the model; raises whatever the quantizer raises. LiteRT computes in float32 with it."""
    with quiet(stdout=True):
        quantizer, names = _quantizer(order.source)
        quantizer.add_weight_only_config(
            _EVERYTHING, names.TFLOperationName.ALL_SUPPORTED, num_bits=16, algorithm_key="float_casting"
        )
        atomic_write(order.out, bytes(quantizer.quantize(enable_progress_report=False).quantized_model))


def quantise(order: IntegerOrder) -> None:
    """Write the model, whose input stays uint8 and whose outputs stay float32; raises whatever the quantizer raises."""
    with quiet(stdout=True), faint_channels():
        quantizer, names = _quantizer(order.source)
        operation = names.TFLOperationName
        quantizer.add_static_config(_EVERYTHING, operation.ALL_SUPPORTED, activation_num_bits=8, weight_num_bits=8)
        for kind in (operation.INPUT, operation.OUTPUT):
            quantizer.update_quantization_recipe(_EVERYTHING, kind, algorithm_key="no_quantize")
        if order.kept:  # of several settings that fit an operator, the last one counts
            pattern = f"^(?:{'|'.join(map(re.escape, order.kept))})$"
            quantizer.update_quantization_recipe(pattern, operation.ALL_SUPPORTED, algorithm_key="no_quantize")
        statistics = {
            name: {"min": np.array([low], np.float32), "max": np.array([high], np.float32)}
            for name, (low, high) in order.ranges.items()
        }
        found = quantizer.quantize(statistics, enable_progress_report=False)
        atomic_write(order.out, bytes(found.quantized_model))


@contextmanager
def faint_channels() -> Iterator[None]:
    """Let the quantizer give channels whose weights are (nearly) zeros a scale of 1/127, and zeros for weights.

    Its own is 1e-9/127 at least, and times that of the input it is the scale of the bias, which is all that such a
    channel gives: in 32 bits it overflows.
    """
    from litert_quantizer.algorithms.uniform_quantize import uniform_quantize_tensor

    own = uniform_quantize_tensor.tensor_zp_scale_from_min_max

    def scaled(low: Array, high: Array, bits: int, symmetric: bool, *args: Any, **options: Any) -> tuple[Array, Array]:
        if symmetric:  # as weights are
            high = np.where(np.maximum(np.abs(low), np.abs(high)) < FAINT, np.float32(1), high)
        found: tuple[Array, Array] = own(low, high, bits, symmetric, *args, **options)
        return found

    uniform_quantize_tensor.tensor_zp_scale_from_min_max = scaled
    try:
        yield
    finally:
        uniform_quantize_tensor.tensor_zp_scale_from_min_max = own


def _quantizer(source: str) -> tuple[Any, Any]:
    """The quantizer of a model, and the module with the names of operators."""
    from litert_quantizer import Quantizer, qtyping

    return Quantizer(source), qtyping


if __name__ == "__main__":
    sys.exit(serve({"halve": halve, "quantise": quantise}))
