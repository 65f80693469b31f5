"""The stand-in weights: the same everywhere, and a network that does something on a photograph."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import p3m_edge
from p3m_edge.errors import UsageError
from p3m_edge.model import ARCHS, standin
from p3m_edge.model.p3mnet import IMAGENET_MEAN, IMAGENET_STD
from tests.networks import shared_standin

PORTRAIT = Path(p3m_edge.__file__).parent / "assets" / "astronaut.jpg"


def portrait() -> torch.Tensor:
    rgb = np.asarray(Image.open(PORTRAIT).convert("RGB").resize((256, 256)))
    x = ((rgb / 255.0 - IMAGENET_MEAN) / IMAGENET_STD).astype(np.float32)
    return torch.from_numpy(x).permute(2, 0, 1)[None]


@pytest.mark.parametrize("arch", ARCHS)
def test_all_classes_appear_on_a_photograph(arch):
    with torch.inference_mode():
        output = shared_standin(arch)(portrait())
    shares = torch.bincount(output.global_logits.argmax(1).flatten(), minlength=3) / 256**2
    assert shares.min() > 0.02
    assert 0.1 < output.global_logits.abs().max() < 100
    assert output.local_alpha.std() > 0.02
    assert ((output.local_alpha > 0.01) & (output.local_alpha < 0.99)).double().mean() > 0.5


def test_relu6_meets_both_of_its_ends_and_is_mostly_between_them():
    below, above = [], []

    def look(_module: nn.Module, inputs: tuple[torch.Tensor, ...], _output: torch.Tensor) -> None:
        below.append(float((inputs[0] <= 0).double().mean()))
        above.append(float((inputs[0] >= 6).double().mean()))

    network = standin("mobile")
    for module in network.modules():
        if isinstance(module, nn.ReLU6):
            module.register_forward_hook(look)
    with torch.inference_mode():
        network(portrait())
    assert len(below) == 33
    assert max(below) < 0.75
    assert max(above) < 0.05
    assert sum(share > 0 for share in above) > 10


def test_equal_seeds_give_equal_bits_and_leave_other_generators_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, second, other = standin("mobile"), standin("mobile"), standin("mobile", seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    theirs, another = second.state_dict(), other.state_dict()
    for key, value in first.state_dict().items():
        assert torch.equal(value, theirs[key]), key
        if key.endswith("conv.weight"):
            assert not torch.equal(value, another[key]), key


def test_every_tensor_has_a_draw_of_its_own():
    weights = [value for key, value in shared_standin("r34").state_dict().items() if key.endswith("conv.weight")]
    starts = {tuple((weight.flatten()[:8] / weight.std()).round(decimals=2).tolist()) for weight in weights}
    assert len(starts) == len(weights)


def test_impossible_requests():
    with pytest.raises(UsageError, match="unknown architecture"):
        standin("resnet")
    with pytest.raises(UsageError, match="seed"):
        standin("r34", seed=-1)
