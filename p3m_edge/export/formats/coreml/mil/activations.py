"""Activations of a package in 8 bits, and weights: coremltools' passes, with ranges that were measured here.

``python -m p3m_edge.export.formats.coreml.mil.activations`` takes an :class:`ActivationOrder`.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p3m_edge.export.formats.coreml.mil.convert import quantise_weights, save
from p3m_edge.export.formats.coreml.mil.package import require
from p3m_edge.export.quiet import quiet
from p3m_edge.workers.child import serve

_LEAST = 1e-3
"""Ranges are at least this wide: the scale is a number in half precision, and one of zero divides by zero."""


@dataclass(frozen=True)
class ActivationOrder:
    """What to quantise.

    Attributes
    ----------
    source, out
        A package in half precision of iOS 17 or later, and the package to write.
    ranges
        The smallest and the largest value of every activation, by name.
    kept
        Nodes of the traced network whose operations stay as they are, with their weights.
    zero_point
        Unsigned activations with a zero point; else signed ones, symmetric around zero.
    """

    source: str
    out: str
    ranges: dict[str, tuple[float, float]]
    kept: tuple[str, ...]
    zero_point: bool


def quantise(order: ActivationOrder) -> None:
    """Write the package; raises whatever coremltools raises."""
    ct = require()
    with quiet(stderr=True), warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # a scale that overflows, or is no number
        coreml = ct.optimize.coreml
        mode, kind = ("linear", "uint8") if order.zero_point else ("linear_symmetric", "int8")
        config = coreml.OpLinearQuantizerConfig(mode=mode, dtype=kind)
        model = ct.models.MLModel(order.source, skip_model_load=True)
        kept = _kept(model.get_spec(), frozenset(order.kept))
        with _ranges(order.ranges):
            model = coreml.linear_quantize_activations(
                model, coreml.OptimizationConfig(config, op_name_configs=dict.fromkeys(kept)), [{}]
            )
        save(ct, quantise_weights(ct, model, kept), Path(order.out))


def _kept(specification: Any, nodes: frozenset[str]) -> list[str]:
    """The operations that stay as they are, by name.

    Those that were made of nodes: coremltools adds the precision, and a zero to some names. And those that give a
    result of the program: its passes cannot replace them, and logits would be rounded for nothing.
    """
    (function,) = specification.mlProgram.functions.values()
    (block,) = function.block_specializations.values()
    found = []
    for each in block.operations:
        name = each.attributes["name"].immediateValue.tensor.strings.values[0]
        bare = name.partition("_cast_fp")[0]
        if nodes & {bare, bare.removesuffix("_0")} or {output.name for output in each.outputs} & set(block.outputs):
            found.append(name)
    return found


@contextmanager
def _ranges(found: Mapping[str, tuple[float, float]]) -> Iterator[None]:
    """Let coremltools take these ranges for those of its calibration.

    Its own runs the model for each picture, which needs a Mac, and keeps the range of the last one alone (#2704). What
    it makes of the ranges stays its own: what comes together in a ``concat`` gets one range.
    """
    from coremltools.optimize.coreml.experimental._model_debugger import ModelDebugger

    def step(_: Any, inputs: Any, activation_stats_dict: dict[str, dict[str, float]], **__: Any) -> None:
        for name, (low, high) in found.items():
            activation_stats_dict[name] = {"rmin": low, "rmax": max(high, low + _LEAST)}

    own = ModelDebugger.step
    ModelDebugger.step = step
    try:
        yield
    finally:
        ModelDebugger.step = own


if __name__ == "__main__":
    sys.exit(serve({"convert": quantise}))
