"""Half precision as a device computes it: ONNX Runtime's CPU provider, which the parity gate runs, hardly rounds."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from p3m_edge import shipped
from p3m_edge.export.graph import half as precision
from p3m_edge.export.session import ExportSession
from p3m_edge.model.cells import assembled, spread
from p3m_edge.model.deploy import Deploy
from p3m_edge.model.p3mnet import fuse
from p3m_edge.runtimes import golden
from p3m_edge.targets import FP16
from tests.export.conftest import request_for


class Rounding(TorchDispatchMode):
    """Rounds what every operation gives to half precision, but inside of the modules that are kept."""

    def __init__(self, kept: list[nn.Module]) -> None:
        super().__init__()
        self.inside = 0
        for module in kept:
            module.register_forward_pre_hook(lambda *_: self._enter(1))
            module.register_forward_hook(lambda *_: self._enter(-1))

    def _enter(self, by: int) -> None:
        self.inside += by

    def __torch_dispatch__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        return out if self.inside else tree_map(rounded, out)


def rounded(value: Any) -> Any:
    return value.half().float() if isinstance(value, Tensor) and value.dtype == torch.float32 else value


def off(session: ExportSession, names: tuple[str, ...]) -> golden.Difference:
    """How far the network is from itself on the portrait, all but the input and the named nodes in half precision."""
    deploy = Deploy(session.network)
    kept = [deploy.get_submodule(name.rpartition("/")[0]) for name in names if "/" in name]
    exact = {id(parameter) for module in kept for parameter in module.parameters()}
    for parameter in deploy.parameters():
        if id(parameter) not in exact:
            parameter.data = rounded(parameter.data)
    image = torch.from_numpy(session.network_images()[0])
    with torch.inference_mode():
        x = image.permute(0, 3, 1, 2).float() - deploy.mean
        with Rounding(kept):
            coarse, local = deploy.network.predict(x)
        outputs = {
            "alpha": assembled(fuse(coarse.logits, local), deploy.cell),
            "local_alpha": assembled(local, deploy.cell),
            "global_logits": spread(coarse.logits, deploy.cell),
        }
    found = {name: value.numpy() for name, value in outputs.items()}
    return golden.compare("portrait", session.references[0], found, FP16.pixel_tolerance)


def test_the_shipped_weights_keep_the_limits_and_the_islands_pay(tmp_path):
    request = request_for(tmp_path, "onnx-fp16", arch=None, checkpoint=shipped.weights_path(), width=512, height=512)
    session = ExportSession(request)
    _, kept = precision.to_half(session.graph, session.network_images())
    with_islands, without = off(session, kept), off(session, ())
    assert golden.judge((with_islands,), FP16).failures == ()
    assert with_islands.local_share is not None
    assert without.local_share is not None
    assert with_islands.local_share < without.local_share / 2
