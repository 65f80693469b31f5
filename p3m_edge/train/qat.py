"""Quantisation-aware training (QAT): a trained network goes on learning while its numbers are rounded as INT8 does it.

NNCF knows where engines round: it puts quantisers into the network, in the form of the export's default
(:mod:`p3m_edge.export.formats.openvino.nncf`), and takes the ranges of activations from pictures. What rounds in their
places are the modules below, with PyTorch's kernels: gradients go straight through where a value is in its range (Jacob
et al., arXiv 1712.05877, section 3). NNCF's own kernels would have to be compiled on the user's machine first.

An activation's range follows the activation while the network learns, because an export measures it again: in a fixed
one, values beyond it are cut off, have no gradient, and grow until the range that is measured at the end is a wide one
that the network has never seen. A weight's range follows the weight, as every export takes it: the largest magnitude of
an output channel is 127. So the rounded weights are a checkpoint like any other, in which an export finds the same
integers.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from p3m_edge.errors import InputError, UsageError
from p3m_edge.export.formats.openvino import nncf as post_training
from p3m_edge.export.quiet import quiet
from p3m_edge.model.checkpoint import inspect_checkpoint
from p3m_edge.model.p3mnet import P3MNet
from p3m_edge.train import launch
from p3m_edge.train.config import Config
from p3m_edge.train.dataset import Batches, Sampler, normalise
from p3m_edge.train.inputs import Inputs
from p3m_edge.train.request import TrainRequest

PRESETS = {"mobile": "mobile", "r34": "p3m-r34", "tiny": "smoke"}
"""Architectures that can learn so, and their presets. The others have attention, which is quantised in another form."""
# What must be so: statistics and weights that do not change behind the quantisers, and numbers that can be rounded.
_NEEDED: dict[str, object] = {
    "run.freeze_batchnorm": True, "run.precision": "32-true", "run.sync_batchnorm": False, "optim.ema": 0.0,
    "model.drop_path": 0.0,
}  # fmt: skip
# NNCF's names for what decides about pooling winners (post_training.COMPARING has OpenVINO's), and for what the
# network and the local decoder do outside their modules: the fusion, the side outputs and the unpooling.
_LEFT_ALONE = ("__eq__", "eq", "__gt__", "gt", "__ge__", "ge", "where", "maximum", "pad", "logical_and", "mul", "sub")
_OWN = r"(local_decoder)?/[^/]+/\d+$"  # NNCF matches from the beginning
_HOOKS = "__nncf_hooks"
_HIGHEST = 127
_SMALLEST = torch.finfo(torch.float32).tiny
_FOLLOWS = 0.1
"""The share that a batch has in the range of an activation."""


class RoundedWeight(nn.Module):
    """A weight, the parameter of that name, in 8 bits, symmetric, with a scale for each output channel."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, weight: Tensor) -> Tensor:
        """``[O, ...]`` -> the same, with at most 255 values in a channel."""
        largest = weight.detach().abs().flatten(1).amax(dim=1)
        scale = (largest / _HIGHEST).clamp_min(_SMALLEST)
        zero = torch.zeros_like(scale, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -_HIGHEST, _HIGHEST)


class RoundedActivation(nn.Module):
    """An activation in 8 bits, in a range that is first that of a quantiser of NNCF, and follows the activation.

    Of all channels together, or of each; 0 is always in it. In training, it takes a share of each batch's range, the
    mean of those of its pictures.
    """

    scale: Tensor
    zero_point: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, quantiser: Any) -> None:
        super().__init__()
        self.lowest, self.highest, scale, zero_point = quantiser.get_parameters_for_torch_fq()
        self.per_channel = bool(quantiser.per_channel)
        self.register_buffer("scale", scale.detach().reshape(-1).clone())
        self.register_buffer("zero_point", zero_point.detach().reshape(-1).to(torch.int32).clone())
        self.register_buffer("low", (self.lowest - self.zero_point) * self.scale)
        self.register_buffer("high", (self.highest - self.zero_point) * self.scale)
        self._symmetric = self.lowest < 0 and not bool(self.zero_point.any())

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, h, w]`` -> the same, with at most 256 values, or as many in a channel."""
        if self.training:
            self._follow(x.detach())
        form = self.scale, self.zero_point
        if self.per_channel:
            return torch.fake_quantize_per_channel_affine(x, *form, 1, self.lowest, self.highest)
        return torch.fake_quantize_per_tensor_affine(x, *form, self.lowest, self.highest)

    def _follow(self, x: Tensor) -> None:
        kept = x.flatten(2) if self.per_channel else x.flatten(1)
        for edge, seen in ((self.low, kept.amin(dim=-1)), (self.high, kept.amax(dim=-1))):
            edge.lerp_(seen.mean(dim=0).reshape(-1), _FOLLOWS)
        low, high = self.low.clamp_max(0), self.high.clamp_min(0)
        if self._symmetric:
            self.scale.copy_((torch.maximum(-low, high) / self.highest).clamp_min(_SMALLEST))
            return
        self.scale.copy_(((high - low) / (self.highest - self.lowest)).clamp_min(_SMALLEST))
        self.zero_point.copy_((self.lowest - torch.round(low / self.scale)).clamp(self.lowest, self.highest))


def calibration(inputs: Inputs, config: Config) -> list[Tensor]:
    """The first pictures of a training, as the network sees them: float32 ``[1, 3, H, W]``."""
    sampler = Sampler(len(inputs.train), 1, config.run.seed)
    batches = Batches(inputs, config, sampler)
    return [normalise(batches[step].image) for step in range(min(config.qat.pictures, sampler.steps))]


def preset(weights: Path) -> str:
    """The preset for the architecture of a checkpoint; :class:`UsageError` if it cannot learn so."""
    arch = inspect_checkpoint(weights).arch
    _check_arch(arch)
    return PRESETS[arch]


def check(request: TrainRequest) -> None:
    """:class:`UsageError` for what does not go together with QAT, if it is on; :class:`MissingError` without NNCF."""
    config = request.config
    if not config.qat.enabled:
        return
    _check_arch(config.model.arch)
    fresh, fcp = not request.resume, "fcp" in config.copy_paste.methods
    for wrong, told, hint in (
        (fresh and request.weights is None, "--qat goes on from trained weights, and there are none", "--weights CKPT"),
        (fresh and request.teacher != request.weights, "--qat learns from the weights that it starts from",
         "leave out --teacher"),
        (fcp, "P3M-FCP sends faces through the encoder as well, which --qat cannot follow", "--cp icp, or none"),
        (launch.processes(config.run) != (1, 1), "--qat trains in one process", "run.devices=1, without torchrun"),
    ):  # fmt: skip
        if wrong:
            raise UsageError(told, hint=hint)
    for name, value in _NEEDED.items():
        if (found := attrgetter(name)(config)) != value:
            raise UsageError(f"--qat needs {name}={str(value).lower()}, not {str(found).lower()}")
    post_training.require()


def quantised(network: P3MNet, pictures: Sequence[Tensor]) -> P3MNet:
    """A copy of a network that rounds, with ranges of activations from pictures, float32 ``[1, 3, H, W]``.

    The network is on the CPU, and is put into evaluation mode. :class:`MissingError` without NNCF, :class:`InputError`
    if an activation is not finite.
    """
    nncf = post_training.require()
    kind = importlib.import_module("nncf.torch.quantization.layers").BaseQuantizer
    scope = nncf.IgnoredScope(types=list(_LEFT_ALONE), patterns=[_OWN], validate=False)
    with quiet(stdout=True):
        try:
            copy: P3MNet = nncf.quantize(
                network.eval(),
                nncf.Dataset(pictures),
                preset=nncf.QuantizationPreset.MIXED,
                subset_size=len(pictures),
                ignored_scope=scope,
                # Training does what the correction of biases is there for.
                advanced_parameters=nncf.AdvancedQuantizationParameters(disable_bias_correction=True),
            )
        except (nncf.ValidationError, FloatingPointError) as error:
            raise InputError(f"the network cannot be quantised: {' '.join(str(error).split())}") from error
    weights = {name for name, _ in copy.named_parameters()}
    made: dict[nn.Module, nn.Module] = {}  # one quantiser may stand in several places
    for name, module in list(copy.named_modules(remove_duplicate=False)):
        if isinstance(module, kind):
            weight = _weight(name)
            if module not in made:
                made[module] = RoundedWeight(weight) if weight in weights else RoundedActivation(module)
            copy.set_submodule(name, made[module])
    _follow_maxima(copy)
    return copy


def rounded(network: P3MNet) -> P3MNet:
    """A plain network with the weights that a quantised one computes with."""
    state = {name: value for name, value in network.state_dict().items() if not name.startswith(_HOOKS)}
    for module in network.modules():
        if isinstance(module, RoundedWeight):
            state[module.name] = module(state[module.name])
    with torch.device("meta"):
        plain = P3MNet(network.arch)
    plain.load_state_dict(state, assign=True)
    return plain


def _check_arch(arch: str) -> None:
    if arch not in PRESETS:
        raise UsageError(
            f"--qat cannot train {arch}: its attention is quantised in another form",
            hint=f"it trains {', '.join(PRESETS)}",
        )


def _weight(hook: str) -> str:
    """The parameter that a hook in front of an operation would round.

    ``pre_hooks.encoder/stem/conv/conv2d/0__1.0`` stands at the second input, the weight, of ``encoder.stem.conv``.
    """
    _, _, operation = hook.partition(".pre_hooks.")
    operation, _, port = operation.rpartition("__")
    module, _, _ = operation.rpartition("/")[0].rpartition("/")
    return f"{module.replace('/', '.')}.weight" if port == "1.0" else ""


def _follow_maxima(network: nn.Module) -> None:
    """Round behind poolings in training too: :mod:`p3m_edge.model.unpool` takes maxima by ``where`` with gradients."""
    for kind in ("pre_hooks", "post_hooks"):
        hooks = network.get_submodule(f"{_HOOKS}.{kind}")
        assert isinstance(hooks, nn.ModuleDict)
        for name, modules in list(hooks.items()):
            if "/maximum/" in name:
                hooks[name.replace("/maximum/", "/where/")] = modules
