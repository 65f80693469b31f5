"""A traced network becomes a LiteRT model: litert-torch, in a process of its own.

``python -m p3m_edge.export.formats.litert.convert`` takes a :class:`LiteRtOrder`. litert-torch brings JAX along,
prints, patches PyTorch, and the compiler below it may end the process.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from p3m_edge.atomic import atomic_write
from p3m_edge.errors import P3MEdgeError
from p3m_edge.export.quiet import quiet
from p3m_edge.runtimes.engines.litert import SIGNATURE
from p3m_edge.workers.child import serve


@dataclass(frozen=True)
class LiteRtOrder:
    """A file with a network of :mod:`p3m_edge.export.graph.program`, and the ``.tflite`` to write.

    ``image`` and ``outputs`` are the names of its input and outputs, alpha first.
    """

    source: str
    out: str
    image: str
    outputs: tuple[str, ...]


class FrameForm(nn.Module):
    """A traced network that takes a frame and gives its outputs by name: of anything else, the names are lost."""

    def __init__(self, program: torch.export.ExportedProgram, outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.network, self.outputs = program.module(), outputs

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Matte a frame: uint8 ``[1, H, W, 3]``, RGB -> the outputs of the network, float32."""
        # In the order of memory that the network was traced with: its views allow no other.
        planes = image.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
        found = self.network(planes)
        return dict(zip(self.outputs, found, strict=True))


def convert(order: LiteRtOrder) -> None:
    """Write the model; raises whatever litert-torch and PyTorch raise.

    An operator that LiteRT has nothing for is a :class:`P3MEdgeError` that names it, in place of a page of traces.
    """
    os.environ["LITERT_TORCH_SHOW_PROGRESS"] = "n"
    with quiet():
        import litert_torch

        program = torch.export.load(order.source)
        (image,) = program.graph_signature.user_inputs
        (placeholder,) = [node for node in program.graph.nodes if node.name == image]
        _, _, height, width = placeholder.meta["val"].shape
        frame = torch.zeros(1, height, width, 3, dtype=torch.uint8)
        form = FrameForm(program, order.outputs)
        form.training = False  # an exported program has no other mode, and refuses to be told so
        try:
            with torch.no_grad():
                model = litert_torch.signature(SIGNATURE, form, sample_kwargs={order.image: frame}).convert()
        except RuntimeError as error:
            operator = re.search(r"Lowering not found: (\S+)", str(error))
            if operator is None:
                raise
            raise P3MEdgeError(f"it has nothing for the operator {operator[1]}") from error
        atomic_write(order.out, model.model_content())


if __name__ == "__main__":
    sys.exit(serve({"convert": convert}))
