"""The deployable network as PyTorch's own operators, with an image as Core ML gives it: what coremltools converts."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from p3m_edge.export.graph.half import STEMS
from p3m_edge.model.deploy import Deploy, DeployOutput

STATE = "previous"
"""The name of the state, which is that of the buffer that it is made of."""
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


class SmoothedForm(ImageForm):
    """The same with a state: alpha is mixed with that of the frame before.

    ``alpha[t] = (1 - weight) alpha + weight alpha[t - 1]``, and the first frame's as it is. Core ML's states begin as
    zeros, in half precision. So that zeros mean "no frame yet", this one holds alpha + 1; that is exact to 2**-11. It
    is as wide as the frame, a multiple of 32: the Neural Engine fails on other states (coremltools, issue 2631).
    :func:`p3m_edge.runtimes.golden.smoothed` is the same in NumPy.
    """

    previous: Tensor

    def __init__(self, deploy: Deploy, height: int, width: int, weight: float) -> None:
        super().__init__(deploy)
        self.weight = weight
        self.register_buffer(STATE, torch.zeros(1, 1, height, width))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Outputs as of :class:`ImageForm`."""
        alpha, *others = super().forward(image)
        seen = self.previous.clamp(max=1)
        # In half precision the first difference is exact, which keeps the matte within 0..1.
        smooth = alpha + self.weight * ((self.previous - seen) - seen * alpha)
        self.previous[:] = smooth + 1
        return smooth, *others


def trace(deploy: Deploy, height: int, width: int, smoothing: float | None = None) -> torch.export.ExportedProgram:
    """The network as a graph of PyTorch's operators, without those that coremltools cannot convert.

    ``smoothing``: the weight of :class:`SmoothedForm`; None: :class:`ImageForm`.
    """
    form = ImageForm(deploy) if smoothing is None else SmoothedForm(deploy, height, width, smoothing)
    with torch.no_grad(), warnings.catch_warnings():
        # PyTorch copies its own specifications of trees, of a kind that it has deprecated itself.
        warnings.filterwarnings("ignore", category=FutureWarning, message=r".*LeafSpec")
        whole = torch.export.export(form.eval(), (torch.zeros(1, 3, height, width),))
        program: torch.export.ExportedProgram = whole.run_decompositions(_DECOMPOSED)
    _name_relu6(program)
    return program


def in_single(program: torch.export.ExportedProgram) -> tuple[str, ...]:
    """What stays in float32 where the rest is in half precision, by the nodes' names: the two that follow."""
    return tuple(dict.fromkeys((*deciding(program), *exponential(program))))


def deciding(program: torch.export.ExportedProgram) -> tuple[str, ...]:
    """What sees the picture, and what magnifies its rounding most, by the nodes' names, in their order.

    The rule is that of :mod:`p3m_edge.export.graph.half`.
    """
    found: set[torch.fx.Node] = set()
    reached: set[torch.fx.Node] = set()
    nodes = [node for node in program.graph.nodes if node.op == "call_function"]
    for node in nodes:  # in topological order
        place = place_of(node) + "."
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

    They divide sums of exponentials by one another. In half precision these may be nothing, and so is the epsilon; or
    they overflow, since they are over all tokens.
    """
    nodes = [node for node in program.graph.nodes if node.op == "call_function"]
    places = {place_of(node) for node in nodes if node.target == torch.ops.aten.exp.default}
    return tuple(node.name for node in nodes if place_of(node) in places)


def place_of(node: torch.fx.Node) -> str:
    """The module that a node comes from, as the deployable network names it; "" outside of it."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]).removeprefix("deploy").removeprefix(".") if stack else ""


def save(program: torch.export.ExportedProgram, path: Path) -> None:
    """Write a traced program, in memory first: PyTorch's own writer ends the process where the disc is full."""
    written = io.BytesIO()
    torch.export.save(program, written)
    path.write_bytes(written.getbuffer())


_DECIDING = frozenset({
    torch.ops.aten.pad.default, torch.ops.aten.slice.Tensor, torch.ops.aten.maximum.default, torch.ops.aten.gt.Tensor,
})  # fmt: skip
"""Of the pooling behind the stem, if its winners are used."""


def _name_relu6(program: torch.export.ExportedProgram) -> None:
    """Let the activation be what it was: PyTorch makes it a clipping, which nothing fuses with a convolution."""
    for node in program.graph.nodes:
        if node.target == torch.ops.aten.hardtanh.default and tuple(node.args[1:]) == (0.0, 6.0):
            node.target, node.args = torch.ops.aten.relu6.default, node.args[:1]


def _crop_then_pad(x: Tensor, pad: list[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """Core ML pads by nothing below zero: what PyTorch cuts off so is sliced off before."""
    if min(pad) >= 0 and (value is None or value >= LOWEST):
        return NotImplemented  # type: ignore[no-any-return]  # PyTorch then leaves it as it is
    value = None if value is None else max(value, LOWEST)
    for pair in range(len(pad) // 2):
        before, after = pad[2 * pair : 2 * pair + 2]
        axis = x.ndim - 1 - pair
        x = x.narrow(axis, max(-before, 0), x.shape[axis] + min(before, 0) + min(after, 0))
    return F.pad(x, [max(side, 0) for side in pad], mode, value)


_DECOMPOSED: dict[torch._ops.OpOverload, Callable[..., Tensor]] = {torch.ops.aten.pad.default: _crop_then_pad}
