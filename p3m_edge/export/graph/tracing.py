"""The deployable network as an ONNX graph: checked, shape-inferred, readable and the same bytes every time.

Every ONNX artefact, and every engine that converts from ONNX, starts from the graph made here.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import onnx_ir as ir
import torch

from p3m_edge import __version__
from p3m_edge.export.quiet import quiet
from p3m_edge.model.deploy import OUTPUTS, Deploy

if TYPE_CHECKING:
    from onnxscript.rewriter import pattern

OPSET = 18
IR_VERSION = 8  # the oldest that opset 18 allows, so that the oldest runtimes read the file
INPUT = "image"
_FOLD_LIMIT = 2**26  # elements: weights and attention masks
_Graph = Any
"""The values and the builder of a rewrite rule's pattern: onnxscript gives them no common type."""
OpenAxes = Mapping[int, object]
"""The axes of an input whose size is open, with what ``torch.export`` is told of each."""


def trace(deploy: Deploy, height: int, width: int, batch: int = 1, *, dynamic: bool = False) -> onnx.ModelProto:
    """Trace the deployable network into an ONNX model in float32.

    Parameters
    ----------
    deploy
        The network.
    height, width, batch
        Size of the input; multiples of 32. With ``dynamic``, only an example.
    dynamic
        Leave height and width open (any multiples of 32).

    Returns
    -------
    onnx.ModelProto
        Opset 18, input ``image`` uint8 ``[batch, height, width, 3]``, outputs as ``OUTPUTS`` of the deploy module.
    """
    image = torch.zeros(batch, height, width, 3, dtype=torch.uint8)
    return to_onnx(deploy, {INPUT: image}, OUTPUTS[deploy.outputs], {"image": _open_axes()} if dynamic else None)


def to_onnx(
    module: torch.nn.Module,
    inputs: Mapping[str, torch.Tensor],
    outputs: Sequence[str],
    dynamic_shapes: Mapping[str, OpenAxes] | None = None,
) -> onnx.ModelProto:
    """Trace any module into a tidy ONNX model, without gradients; see :func:`trace`.

    Example inputs come by the names that they get, in the order in which the module takes them; ``dynamic_shapes`` are
    those of ``torch.onnx.export``.
    """
    with torch.no_grad(), quiet():  # about packages that play no part here (torchvision)
        program = torch.onnx.export(
            module,
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=list(outputs),
            opset_version=OPSET,
            dynamic_shapes=None if dynamic_shapes is None else dict(dynamic_shapes),
            dynamo=True,
            optimize=False,  # see _tidy
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned nothing")
    return _finish(_tidy(program.model), outputs)


def save(model: onnx.ModelProto, path: Path) -> None:
    """Check a model and write it, byte for byte the same for the same model."""
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model, free to be changed."""
    copy = type(model)()
    copy.CopyFrom(model)
    return copy


def _open_axes() -> OpenAxes:
    units = (torch.export.Dim("height_32", min=1, max=256), torch.export.Dim("width_32", min=1, max=256))
    return {1: 32 * units[0], 2: 32 * units[1]}


def _tidy(program: ir.Model) -> onnx.ModelProto:
    """Fold constants, drop what is unused or computed twice, and interleave in the order that engines like.

    Only these passes are run: one of the exporter's default rewrite rules turned ViTAE-S into another network (torch
    2.13, onnxscript 0.7.2; found by the parity gate).
    """
    from onnx_ir.passes import common
    from onnxscript import optimizer
    from onnxscript.rewriter import rewrite

    optimizer.inline(program)
    optimizer.fold_constants(program, input_size_limit=_FOLD_LIMIT, output_size_limit=_FOLD_LIMIT)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(program)
    common.DeduplicateInitializersPass()(program)  # the rule below knows equal axes by their name
    common.CommonSubexpressionEliminationPass()(program)
    optimizer.remove_unused_nodes(program)
    proto: onnx.ModelProto = ir.to_proto(rewrite(program, [_interleave_by_blocks()]))
    return proto


def _interleave_by_blocks() -> pattern.RewriteRule:
    """The rule that replaces stack + pixel shuffle by concatenation + DepthToSpace in block order.

    It is the same permutation, without the transposition that engines with channels-last layouts pay for the stack.
    """
    from onnxscript.rewriter import pattern

    def stacked(op: _Graph, a: _Graph, b: _Graph, c: _Graph, d: _Graph, axes: _Graph, shape: _Graph) -> _Graph:
        parts = [op.Unsqueeze(x, axes) for x in (a, b, c, d)]
        return op.DepthToSpace(op.Reshape(op.Concat(*parts, axis=2), shape), blocksize=2, mode="CRD")

    def blocks(op: _Graph, a: _Graph, b: _Graph, c: _Graph, d: _Graph, **_: _Graph) -> _Graph:
        return op.DepthToSpace(op.Concat(a, b, c, d, axis=1), blocksize=2, mode="DCR")

    return pattern.RewriteRule(stacked, blocks)


def _finish(model: onnx.ModelProto, outputs: Sequence[str]) -> onnx.ModelProto:
    """Give nodes and values names that follow the modules, drop what names this machine, infer shapes."""
    graph = model.graph
    taken: Counter[str] = Counter()
    renamed: dict[str, str] = {}
    keep = {*outputs} | {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        scope = _scope(node)
        base = f"{scope}/{node.op_type}" if scope else node.op_type
        taken[base] += 1
        node.name = base if taken[base] == 1 else f"{base}_{taken[base]}"
        for index, name in enumerate(node.output):
            if name and name not in keep:
                renamed[name] = f"{node.name}:{index}"
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    for entries in (graph.initializer, graph.input, graph.output):
        for entry in entries:
            entry.ClearField("metadata_props")
            entry.ClearField("doc_string")
    del graph.value_info[:], graph.metadata_props[:], model.metadata_props[:], model.functions[:]
    graph.name, graph.doc_string, model.doc_string = "p3m-net", "", ""
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "p3m-edge", __version__
    return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)


def _scope(node: onnx.NodeProto) -> str:
    """The path of the module that a node comes from."""
    for entry in node.metadata_props:
        if entry.key == "pkg.torch.onnx.name_scopes":
            scopes = [str(scope) for scope in ast.literal_eval(entry.value)]
            scope = scopes[-2] if len(scopes) > 1 else ""
            return "" if scope.startswith("_empty_nn_module_stack") else scope  # the exporter's, for the sizes
    return ""
