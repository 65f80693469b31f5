"""A traced network becomes a Core AI model in half precision: coreai-torch, in a process of its own.

``python -m p3m_edge.export.formats.coreai.aimodel`` takes an :class:`CoreAiOrder`. The compiler below coreai-torch ends
the process over operators that it does not like.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from p3m_edge import __version__
from p3m_edge.workers.child import serve

_Tree = TypeVar("_Tree")


@dataclass(frozen=True)
class CoreAiOrder:
    """A file with a network of :mod:`p3m_edge.export.graph.program`, and the ``.aimodel`` to write.

    ``image`` and ``outputs`` are the names of its input and outputs, alpha first; the nodes that ``fp32`` names stay in
    float32, and all else becomes half precision.
    """

    source: str
    out: str
    image: str
    outputs: tuple[str, ...]
    fp32: tuple[str, ...]


class HalfForm(nn.Module):
    """A traced network in half precision, but for the nodes that are named. Weights are rounded once, here."""

    def __init__(self, program: torch.export.ExportedProgram, fp32: Collection[str]) -> None:
        super().__init__()
        self.casting = _Casting(program.graph_module, fp32)
        self.constants: list[str] = []
        nodes = [node for node in program.graph.nodes if node.op == "placeholder"]
        for node, record in zip(nodes, program.graph_signature.input_specs, strict=True):
            if record.target is None:  # the image, which is the last
                continue
            known = program.state_dict if record.target in program.state_dict else program.constants
            single = any(user.name in fp32 for user in node.users)
            value = _cast(known[record.target].detach(), torch.float32 if single else torch.float16)
            self.register_buffer(node.name, value)
            self.constants.append(node.name)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Matte a frame: uint8 ``[1, H, W, 3]``, RGB -> the outputs of the network, float32."""
        constants = (self.get_buffer(name) for name in self.constants)
        found = self.casting.run(*constants, image.permute(0, 3, 1, 2).to(torch.float32))
        return tuple(output.to(torch.float32) for output in found)


class _Casting(fx.Interpreter):
    """Runs a graph with what each node takes and gives in that node's precision."""

    def __init__(self, graph: fx.GraphModule, fp32: Collection[str]) -> None:
        super().__init__(graph)
        self._fp32 = frozenset(fp32)

    def run_node(self, n: fx.Node) -> object:
        """The result of a node."""
        if n.op != "call_function":
            return super().run_node(n)
        if n.target is torch.ops.aten._assert_tensor_metadata.default:  # that it is what it no longer is
            return None
        wanted = torch.float32 if n.name in self._fp32 else torch.float16
        args, kwargs = _cast(self.fetch_args_kwargs_from_env(n), wanted)
        # A view depends on how the result before it lies in memory, which is another matter in half precision.
        function = torch.reshape if n.target is torch.ops.aten.view.default else n.target
        assert callable(function)
        return _cast(function(*args, **kwargs), wanted)


def _cast(tree: _Tree, precision: torch.dtype) -> _Tree:
    """All tensors of a tree that are floating-point numbers, in that precision."""

    def cast(leaf: object) -> object:
        return leaf.to(precision) if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf

    converted: _Tree = pytree.tree_map(cast, tree)
    return converted


def convert(order: CoreAiOrder) -> None:
    """Write the model; raises whatever coreai-torch and PyTorch raise."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import coreai_torch
        from coreai.runtime import AIModelAssetMetadata

        program = torch.export.load(order.source)
        (image,) = program.graph_signature.user_inputs
        (placeholder,) = [node for node in program.graph.nodes if node.name == image]
        _, _, height, width = placeholder.meta["val"].shape
        with torch.no_grad():
            frame = torch.zeros(1, height, width, 3, dtype=torch.uint8)
            traced = torch.export.export(HalfForm(program, order.fp32), (frame,))
            traced = traced.run_decompositions(coreai_torch.get_decomp_table())
        # By its documentation, the other mode writes down where in the sources each operation comes from.
        converter = coreai_torch.TorchConverter(mode=coreai_torch.TorchConverter.Mode.RELEASE)
        converter.add_exported_program(traced, input_names=[order.image], output_names=list(order.outputs))
        about = AIModelAssetMetadata()
        about.model_description = f"P3M-Net, p3m-edge {__version__}"
        converter.to_coreai().save_asset(Path(order.out), about)


if __name__ == "__main__":
    sys.exit(serve({"convert": convert}))
