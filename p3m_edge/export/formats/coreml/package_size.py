"""How large a Core ML package may be: its weights in the bits that its target states, and little besides.

coremltools says nothing when it writes down a constant that it has broadcast (a zero as large as a map of features), or
leaves weights as they were. Both show in the size.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import torch

from p3m_edge.errors import P3MEdgeError
from p3m_edge.export.formats.coreml.mil.convert import SMALL
from p3m_edge.export.graph.program import STATE
from p3m_edge.folder import size
from p3m_edge.targets import Precision

BITS: dict[Precision, int] = {"fp32": 32, "fp16": 16, "int8": 8, "pal6": 6, "pal4": 4, "w8a8": 8}
"""Of each weight."""
_SLACK = 1.02
_NODE = 400  # bytes: what the program says of an operation, with its constants
_ENTRY = 128  # bytes: what the file of weights says of each tensor, with the gap before the next


Function = tuple[torch.export.ExportedProgram, Collection[str]]
"""What a function of a package was converted from, and the names of its nodes that stay in float32."""


def check(package: Path, functions: Sequence[Function], precision: Precision, plain: Collection[str] = ()) -> None:
    """Raise an error where a package of functions that share their weights is larger than :func:`most`.

    ``plain`` names nodes of uncompressed weights.
    """
    found, allowed = size(package), most(functions, precision, plain)
    if found > allowed:
        raise P3MEdgeError(
            f"coremltools' package has {found} bytes, and the network's weights in {precision} account for {allowed}",
            hint="it has written down constants that are no weights, or left weights as they were: this is a defect",
        )


def most(functions: Sequence[Function], precision: Precision, plain: Collection[str] = ()) -> int:
    """The bytes that a package may have: weights, what comes with them, 2 %, and the program itself.

    Weights that nodes in float32 take, and tensors that are too small to be compressed, have their own size. Compressed
    ones come with a scale for each channel, or with a palette. Tables (of attention windows) need not be compressed.
    """
    whole = {name for program, _ in functions for name in _weights_of(program, plain)}
    single = {name for program, kept in functions for name in _weights_of(program, kept)}
    tables = [table for program, _ in functions for table in program.constants.values()]
    total = float(sum(_ENTRY + 4 * table.numel() for table in tables))
    for name, values in functions[0][0].state_dict.items():
        if name == STATE:  # it has no values in a package
            continue
        width = 4 if precision == "fp32" or name in single else 2
        bits, count = BITS[precision], values.numel()
        if bits >= 16 or count < SMALL or name in whole:
            total += width * count + _ENTRY
        else:
            beside = (width + 1) * values.shape[0] if bits == 8 else width * 2**bits
            total += bits * count / 8 + beside + 3 * _ENTRY
    nodes = sum(len(program.graph.nodes) for program, _ in functions)
    if precision == "w8a8":
        nodes *= 2  # activations are rounded to 8 bits and back in operations of their own
    return int(_SLACK * total + _NODE * nodes)


def _weights_of(program: torch.export.ExportedProgram, nodes: Collection[str]) -> set[str]:
    """Names of the parameters and buffers that one of the nodes takes."""
    signature = program.graph_signature
    placed = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    given = (node for node in program.graph.nodes if node.op == "placeholder")
    return {placed.get(node.name, "") for node in given if any(user.name in nodes for user in node.users)}
