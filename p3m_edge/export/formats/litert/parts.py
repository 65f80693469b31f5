"""Which operators of a LiteRT model belong to which part of the network, and which to the fusion.

litert-torch keeps no name of a module where the network was traced before. It keeps the weights, though: an operator
belongs to the part whose weights it has, and one without weights to that of its input.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from p3m_edge.export.formats.litert.schema import names, parse
from p3m_edge.export.graph.program import place_of
from p3m_edge.export.graph.qdq import part_name
from p3m_edge.export.quantize import UnfitError


def scopes_of(model: Path, program: torch.export.ExportedProgram, parts: Sequence[str]) -> tuple[str, ...]:
    """The operators of some parts of a network, each by its scope: the names of its results, each with a semicolon.

    Parameters
    ----------
    model, program
        A ``.tflite`` in float32, and the network that it was converted from.
    parts
        The parts' names, those of :func:`p3m_edge.export.graph.qdq.parts_of`.

    Raises
    ------
    UnfitError
        No operator has the weights of a part: it would be in 8 bits after all.
    """
    owners, graph = _owners(program), parse(model)
    (body,) = graph.subgraphs
    part_of: dict[int, str] = {}  # of a result, by its place; operators come in the order of their data
    found: dict[str, str] = {}
    for each in body.operators:
        inputs = [place for place in each.inputs if place >= 0]
        constants = (graph.buffers[body.tensors[place].buffer].data for place in inputs)
        own = [owners[key] for data in constants if data is not None and (key := _key(np.asarray(data))) in owners]
        part = next(iter(own), None) or next((part_of[place] for place in reversed(inputs) if place in part_of), "")
        part_of.update(dict.fromkeys(each.outputs, part))
        found[_scope(body, each)] = part
    for part in parts:
        if part not in found.values():
            raise UnfitError(f"no operator of the LiteRT model has the weights of {part}, which cannot stay in float32")
    return tuple(scope for scope, part in found.items() if part in parts)


def fusion_of(model: Path) -> tuple[str, ...]:
    """The scopes of the operators that make alpha of the logits (:func:`p3m_edge.model.p3mnet.fuse_by_arithmetic`).

    In 8 bits, differences of logits would be rounded to steps of which some are wider than their distance. ``FLOOR`` is
    nowhere else in a network, so that they are what leads to it and what follows.
    """
    graph, kinds = parse(model), names("BuiltinOperator")
    (body,) = graph.subgraphs
    codes = [graph.operatorCodes[each.opcodeIndex] for each in body.operators]
    named = [kinds[max(code.builtinCode, code.deprecatedBuiltinCode)] for code in codes]
    wanted: set[int] = set()  # results, by their places
    found: set[int] = set()
    for number, each in reversed([*enumerate(body.operators)]):
        if named[number] == "FLOOR" or (named[number] in _BEFORE and wanted.intersection(each.outputs)):
            found.add(number)
            wanted.update(each.inputs)
    made = {place for number in found for place in body.operators[number].outputs if named[number] == "FLOOR"}
    for number, each in enumerate(body.operators):
        if named[number] in _BEHIND and made.intersection(each.inputs):
            found.add(number)
            made.update(each.outputs)
    return tuple(_scope(body, body.operators[number]) for number in sorted(found))


_BEFORE, _BEHIND = frozenset({"MINIMUM", "MAXIMUM", "SUB"}), frozenset({"SUB", "MUL"})


def _scope(body: Any, operator: Any) -> str:
    """The scope of an operator, as the quantizer names it."""
    return "".join(f"{body.tensors[place].name.decode()};" for place in operator.outputs)


def _owners(program: torch.export.ExportedProgram) -> dict[bytes, str]:
    """The part that has some weights, by their key; biases are too alike."""
    signature, found = program.graph_signature, dict[bytes, str]()
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    values = {**program.constants, **program.state_dict}  # the former has the buffers that a checkpoint leaves out
    for node in program.graph.nodes:
        for source in node.all_input_nodes:
            name = names.get(source.name)
            if name is not None and (weight := values[name]).ndim > 1 and place_of(node):
                data = weight.detach().numpy().astype(np.float32).ravel().view(np.uint8)
                found.setdefault(_key(data), part_name(place_of(node)))
    return found


def _key(data: NDArray[np.uint8]) -> bytes:
    """What float32 values are, in whatever order: converters turn the axes."""
    values = data.view(np.uint32) if data.size % 4 == 0 else data
    return hashlib.sha256(np.sort(values).tobytes()).digest()
