"""The deployable module against the network that it is made from, in eager mode."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from p3m_edge.errors import UsageError
from p3m_edge.model.deploy import Deploy, DeployOutput, PhaseForm, unpooling
from p3m_edge.model.p3mnet import IMAGENET_MEAN, IMAGENET_STD, P3MNet, fuse
from p3m_edge.model.unpool import from_phases, lowering, to_phases
from p3m_edge.targets import ARCHS
from tests.model.reference import PUBLISHED as REFERENCE
from tests.networks import shared_standin

PUBLISHED = tuple(REFERENCE.values())
MEAN = torch.tensor(IMAGENET_MEAN).reshape(1, 3, 1, 1)
STD = torch.tensor(IMAGENET_STD).reshape(1, 3, 1, 1)


@pytest.fixture(scope="module", params=ARCHS)
def pair(request) -> tuple[P3MNet, Deploy]:
    network = shared_standin(request.param)
    return network, Deploy(network)


def frames(height: int = 32, width: int = 64, batch: int = 2) -> torch.Tensor:
    """Smooth frames with some noise: not everything is at a class boundary."""
    generator = np.random.default_rng(3)
    coarse = torch.from_numpy(generator.random((batch, 3, 4, 6)).astype(np.float32))
    smooth = functional.interpolate(coarse, (height, width), mode="bilinear") * 235
    noisy = smooth.permute(0, 2, 3, 1).numpy() + generator.random((batch, height, width, 3)) * 20
    return torch.from_numpy(noisy.astype(np.uint8))


def normalised(image: torch.Tensor) -> torch.Tensor:
    return (image.permute(0, 3, 1, 2).float() / 255 - MEAN) / STD


def assert_close(found: torch.Tensor, wanted: torch.Tensor, share: float = 1e-4) -> None:
    """Within a share of the wanted tensor's range, everywhere."""
    assert found.shape == wanted.shape
    torch.testing.assert_close(found, wanted, rtol=0, atol=share * float(wanted.max() - wanted.min()))


def test_equals_the_network(pair):
    network, deploy = pair
    image = frames()
    with torch.inference_mode():
        wanted, found = network(normalised(image)), deploy(image)
    assert isinstance(found, DeployOutput)
    assert_close(found.global_logits, wanted.global_logits)
    # A near-tied winner may move with rounding, and moves single pixels.
    off = (found.local_alpha - wanted.local_alpha).abs()
    assert off.mean() <= 1e-5
    assert (off > 1e-4).float().mean() <= 1e-3
    flipped = found.global_logits.argmax(1) != wanted.global_logits.argmax(1)
    assert flipped.float().mean() <= 1e-4
    torch.testing.assert_close(found.alpha, fuse(found.global_logits, found.local_alpha), rtol=0, atol=0)
    assert ((found.alpha >= 0) & (found.alpha <= 1)).all()


def test_a_batch_equals_its_frames_one_by_one(pair):
    _, deploy = pair
    image = frames()
    with torch.inference_mode():
        together = deploy(image)
        for index in range(len(image)):
            alone = deploy(image[index : index + 1])
            assert_close(together.global_logits[index : index + 1], alone.global_logits, 1e-5)
            assert (together.local_alpha[index] - alone.local_alpha[0]).abs().mean() <= 1e-5


def test_norms_are_folded_and_training_parts_are_gone(pair):
    network, deploy = pair
    assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in deploy.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in network.modules())  # the original keeps its own
    assert not deploy.training
    assert not any(parameter.requires_grad for parameter in deploy.parameters())


def test_side_outputs_are_not_computed(pair):
    network, deploy = pair

    def called(module: nn.Module) -> list[str]:
        sides = [(name, part) for name, part in module.named_modules() if name.rpartition(".")[2].startswith("side")]
        assert sides
        names: list[str] = []
        hooks = [part.register_forward_hook(lambda *_, name=name: names.append(name)) for name, part in sides]
        image = frames(32, 32, 1)
        with torch.inference_mode():
            module(image if module is deploy else normalised(image))
        for hook in hooks:
            hook.remove()
        return names

    assert called(network)
    assert called(deploy) == []
    assert DeployOutput._fields == ("alpha", "local_alpha", "global_logits")


def test_the_networks_own_weights_stay_as_they_were():
    network = shared_standin("r34")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    Deploy(network)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_the_border_sees_zero_padding_of_the_normalised_picture(pair):
    """Folding the mean into the bias of the padded stem would show at the border, and there alone."""
    network, deploy = pair
    image = frames(64, 64, 1)
    raw = image.permute(0, 3, 1, 2).float()
    shifted = raw - deploy.mean
    form = deploy.network
    folded = [lambda x: from_phases(form.stem(x))] if isinstance(form, PhaseForm) else form.encoder.stems()
    for unit, found in zip(network.encoder.stems(), folded, strict=True):
        plain = form.stem if isinstance(form, PhaseForm) else found
        weight, stride, pad = plain.conv.weight, unit.conv.stride, unit.conv.padding[0]
        with torch.inference_mode():
            wanted = unit(normalised(image))
            assert_close(found(shifted), wanted, 1e-5)
            bias = plain.conv.bias - (weight * deploy.mean).sum((1, 2, 3))
            biased = unit.act(functional.conv2d(raw, weight, bias, stride, pad))
        inner = (..., slice(pad, -pad), slice(pad, -pad))
        assert_close(biased[inner], wanted[inner], 1e-4)
        assert (biased - wanted).abs().max() > 0.05 * wanted.max()


@pytest.mark.parametrize("arch", PUBLISHED)
def test_the_head_on_phases_equals_the_convolution(arch):
    network = shared_standin(arch)
    form = Deploy(network).network
    assert isinstance(form, PhaseForm)
    head = network.local_decoder.head
    x = torch.from_numpy(np.random.default_rng(5).standard_normal((2, head.in_channels, 12, 8)).astype(np.float32))
    with torch.inference_mode():
        assert_close(form.head(to_phases(x)), head(x), 1e-5)


@pytest.mark.parametrize("form", ["native", "nearest"])
def test_what_unpools_nothing_has_no_other_form(form):
    assert unpooling("mobile", "select") == "none"
    assert unpooling("r34", form) == form
    with pytest.raises(UsageError, match=f"mobile unpools nothing, so it has no form '{form}'"):
        Deploy(shared_standin("mobile"), unpool=form)


def test_alpha_alone_is_the_same_alpha():
    network = shared_standin("r34")
    image = frames()
    with torch.inference_mode():
        alone = Deploy(network, outputs="alpha")(image)
        torch.testing.assert_close(alone, Deploy(network)(image).alpha, rtol=0, atol=0)


def test_a_fusion_without_booleans_is_the_same_alpha(pair):
    network, deploy = pair
    image = frames()
    with torch.inference_mode():
        torch.testing.assert_close(Deploy(network, booleans=False)(image), deploy(image), rtol=0, atol=0)


def test_nearest_is_another_network():
    network = shared_standin("r34")
    image = frames()
    with torch.inference_mode():
        found = Deploy(network, unpool="nearest")(image)
        with lowering("nearest"):
            wanted = network(normalised(image))
        exact = network(normalised(image))
    assert (found.local_alpha - wanted.local_alpha).abs().mean() <= 1e-5
    assert (found.local_alpha - exact.local_alpha).abs().mean() > 1e-3
