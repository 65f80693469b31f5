"""The deployable network as PyTorch's own operators, with an image as Core ML gives it: what coremltools converts."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from p3m_edge.export.precision import STEMS
from p3m_edge.model.deploy import Deploy, DeployOutput

LOWEST = -16376.0
"""What stands for minus infinity: a quarter of half precision's range, which nothing takes for something else."""


class ImageForm(nn.Module):
    """The deployable network with the input that Core ML makes of an image: float32 ``[1, 3, H, W]``, RGB, 0..255."""

    def __init__(self, deploy: Deploy) -> None:
        super().__init__()
        self.deploy = deploy

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Outputs as ``OUTPUTS`` of the deploy module names them."""
        found: DeployOutput | Tensor = self.deploy(image.permute(0, 2, 3, 1))
        return (found,) if isinstance(found, Tensor) else tuple(found)


def trace(deploy: Deploy, height: int, width: int) -> torch.export.ExportedProgram:
    """The network as a graph of PyTorch's operators, without those that coremltools cannot convert."""
    with torch.no_grad(), warnings.catch_warnings():
        # PyTorch copies its own specifications of trees, of a kind that it has deprecated itself.
        warnings.filterwarnings("ignore", category=FutureWarning, message=r".*LeafSpec")
        whole = torch.export.export(ImageForm(deploy).eval(), (torch.zeros(1, 3, height, width),))
        program: torch.export.ExportedProgram = whole.run_decompositions(_DECOMPOSED)
    return program


def deciding(program: torch.export.ExportedProgram) -> tuple[str, ...]:
    """What stays in float32 where the rest is in half precision, by the nodes' names, in their order.

    What sees the picture, and what magnifies its rounding most: the rule is that of :mod:`p3m_edge.export.precision`.
    """
    found: set[torch.fx.Node] = set()
    reached: set[torch.fx.Node] = set()
    nodes = [node for node in program.graph.nodes if node.op == "call_function"]
    for node in nodes:  # in topological order
        place = _place(node).removeprefix("deploy.") + "."
        follows = reached.intersection(node.all_input_nodes) and node.target in _DECIDING
        if place.startswith(tuple(stem.replace("/", ".") for stem in STEMS)) or follows:
            found.add(node)
            reached.add(node)
    wanted = {source for node in found for source in node.all_input_nodes}
    for node in reversed(nodes):
        if node in wanted:
            found.add(node)
            wanted.update(node.all_input_nodes)
    return tuple(node.name for node in nodes if node in found)


def exponential(program: torch.export.ExportedProgram) -> tuple[str, ...]:
    """The nodes of modules that take exponentials themselves, by name: ViTAE's Performers.

    They divide sums of exponentials by one another, and in half precision both may be nothing.
    """
    nodes = [node for node in program.graph.nodes if node.op == "call_function"]
    places = {_place(node) for node in nodes if node.target == torch.ops.aten.exp.default}
    return tuple(node.name for node in nodes if _place(node) in places)


def _place(node: torch.fx.Node) -> str:
    """The path of the module that a node comes from."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]) if stack else ""


_DECIDING = frozenset({
    torch.ops.aten.pad.default, torch.ops.aten.slice.Tensor, torch.ops.aten.maximum.default, torch.ops.aten.gt.Tensor,
})  # fmt: skip
"""Of the pooling behind the stem, if its winners are used."""


def _crop_then_pad(x: Tensor, pad: list[int], mode: str = "constant", value: float | None = None) -> Any:
    """Core ML pads by nothing below zero: what PyTorch cuts off so is sliced off before."""
    if min(pad) >= 0 and (value is None or value >= LOWEST):
        return NotImplemented  # PyTorch then leaves it as it is
    value = None if value is None else max(value, LOWEST)
    for pair in range(len(pad) // 2):
        before, after = pad[2 * pair : 2 * pair + 2]
        axis = x.ndim - 1 - pair
        x = x.narrow(axis, max(-before, 0), x.shape[axis] + min(before, 0) + min(after, 0))
    return F.pad(x, [max(side, 0) for side in pad], mode, value)


_DECOMPOSED: dict[Any, Callable[..., Any]] = {torch.ops.aten.pad.default: _crop_then_pad}
