"""Small ML Programs, written to disc and read back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from p3m_edge.export.formats.coreml.mil.package import Package, read, require
from p3m_edge.export.quiet import quiet


def converted(
    module: nn.Module, inputs: Mapping[str, np.ndarray], folder: Path, *,
    traced: bool = False, half: bool = False, states: Sequence[Any] = (),
) -> Package:  # fmt: skip
    """A module as a package, by ``torch.export`` or, for states, by a trace."""
    ct = require()
    examples = tuple(map(torch.from_numpy, inputs.values()))
    with quiet(stderr=True):
        if traced:
            program = torch.jit.trace(module.eval(), examples)
        else:
            program = torch.export.export(module.eval(), examples).run_decompositions({})
        made = ct.convert(
            program,
            inputs=[
                ct.TensorType(name=name, shape=value.shape, dtype=value.dtype.type) for name, value in inputs.items()
            ],
            compute_precision=ct.precision.FLOAT16 if half or states else ct.precision.FLOAT32,
            minimum_deployment_target=ct.target.iOS18, convert_to="mlprogram", skip_model_load=True,
            **({"states": list(states)} if states else {}),
        )  # fmt: skip
    return saved(made, folder)


def built(body: Callable[[Any, Any], Any], shape: tuple[int, ...], folder: Path) -> Package:
    """A function of coremltools' own operators as a package."""
    ct = require()
    from coremltools.converters.mil.mil import Builder

    with quiet(stderr=True):
        program = Builder.program(
            input_specs=[Builder.TensorSpec(shape=shape)], opset_version=ct.target.iOS18
        )(lambda in0: body(Builder, in0))  # fmt: skip
        made = ct.convert(
            program, compute_precision=ct.precision.FLOAT32, minimum_deployment_target=ct.target.iOS18,
            convert_to="mlprogram", skip_model_load=True, pass_pipeline=ct.PassPipeline.EMPTY,
        )  # fmt: skip
    return saved(made, folder)


def saved(model: Any, folder: Path) -> Package:
    """Written, and read."""
    folder.mkdir(exist_ok=True)
    path = folder / "made.mlpackage"
    with quiet(stderr=True):
        model.save(str(path))
    return read(path)
