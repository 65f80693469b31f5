"""The network as a whole: architectures, sizes, batches, bad input, devices, gradients."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp

from p3m_edge.errors import InputError, UsageError
from p3m_edge.model import ARCHS, build
from p3m_edge.model.layers import ConvUnit
from p3m_edge.model.p3mnet import ENCODERS, fuse, fuse_by_arithmetic
from tests.networks import shared_standin


def test_the_table_of_architectures_is_whole():
    assert tuple(ENCODERS) == (*ARCHS, "tiny")  # which is no product: no table lists it


@pytest.fixture(scope="module", params=ARCHS)
def network(request):
    return shared_standin(request.param)


def picture(batch: int, height: int, width: int) -> torch.Tensor:
    """Coarse structure and noise; without the noise, poolings would meet near-ties that rounding decides."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(batch, 3, height // 16, width // 16, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return smooth + 0.3 * torch.randn(smooth.shape, generator=generator)


def run(network, x):
    with torch.inference_mode():
        return network(x)


def assert_alike(first, second):
    """Equal up to rounding: the logits, and the alphas where the class is the same and no pooling winner moved."""
    for name in ("global_logits", "side2", "side1", "side0"):
        a, b = getattr(first, name).cpu(), getattr(second, name).cpu()
        assert (a - b).abs().max() <= 1e-4 * b.abs().max(), name
    same = first.global_logits.argmax(1, keepdim=True).cpu() == second.global_logits.argmax(1, keepdim=True).cpu()
    assert (~same).sum() <= max(1, same.numel() // 10_000)
    for name in ("local_alpha", "alpha"):
        error = (getattr(first, name).cpu() - getattr(second, name).cpu()).abs()[same]
        assert error.mean() <= 1e-5, name
        assert (error > 1e-4).double().mean() <= 1e-3, name


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 96), (32, 512), (224, 224)])
def test_any_multiple_of_32(network, height, width):
    """Also where a level is smaller than a Swin window, or exactly one."""
    output = run(network, picture(1, height, width))
    for name, value in output._asdict().items():
        channels = 1 if "alpha" in name else 3
        assert value.shape == (1, channels, height, width), name
        assert value.isfinite().all(), name
    assert ((output.alpha >= 0) & (output.alpha <= 1)).all()
    classes = output.global_logits.argmax(1, keepdim=True)
    expected = torch.where(classes == 1, output.local_alpha, (classes == 2).float())
    assert torch.equal(output.alpha, expected)


def test_a_batch_is_its_pictures(network):
    x = picture(2, 96, 64)
    both = run(network, x)
    for i in range(2):
        assert_alike(run(network, x[i : i + 1]), type(both)(*(value[i : i + 1] for value in both)))


def test_does_not_depend_on_the_layout_of_memory(network):
    x = picture(1, 64, 96)
    assert_alike(run(network, x.contiguous(memory_format=torch.channels_last)), run(network, x))


def test_levels_have_their_sizes_and_channels(network):
    features = network.encoder(picture(1, 64, 96))
    sizes = [tuple(level.shape[2:]) for level in features[:6]]
    assert sizes == [(32, 48), (32, 48), (16, 24), (8, 12), (4, 6), (2, 3)]
    if network.arch == "mobile":  # which pools nothing
        assert features.winners == ()
        return
    assert [winners[0].shape[2:] for winners in features.winners] == [(64 // 2**i, 96 // 2**i) for i in range(1, 6)]
    assert all(len(winners) == network.encoder.kernel**2 for winners in features.winners)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_equals_cpu(network):
    tf32 = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        x = picture(1, 256, 320)
        expected = run(network, x)
        assert_alike(run(network.to("cuda"), x.to("cuda")), expected)
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = tf32
        network.to("cpu")


def test_gradients_are_finite_and_repeatable(network):
    x = picture(1, 64, 64)

    def gradients():
        network.zero_grad()
        output = network(x)
        sum(value.square().mean() for value in output).backward()
        return {name: parameter.grad.clone() for name, parameter in network.named_parameters()}

    first, second = gradients(), gradients()
    network.zero_grad()
    for name, gradient in first.items():
        assert gradient.isfinite().all(), name
        assert torch.equal(gradient, second[name]), name
        assert gradient.any(), name


@pytest.mark.parametrize("arch", ARCHS)
def test_fresh_weights_are_usable(arch):
    torch.manual_seed(0)
    network = build(arch)
    assert network.training
    output = network(picture(2, 64, 64))
    assert all(value.isfinite().all() for value in output)
    weights = [unit.conv.weight.detach() for unit in network.modules() if isinstance(unit, ConvUnit)]
    gains = [float(weight.var() * weight[0].numel()) for weight in weights if weight.numel() > 1000]
    assert gains == pytest.approx([2.0] * len(gains), rel=0.2)  # Kaiming's


@pytest.mark.parametrize("name", ["r-34", "resnet34", "", "R34"])
def test_unknown_architectures(name):
    with pytest.raises(UsageError, match="unknown architecture") as caught:
        build(name)
    assert "r34" in str(caught.value.hint)


@pytest.mark.parametrize(
    "x",
    [
        torch.zeros(3, 32, 32),
        torch.zeros(1, 4, 32, 32),
        torch.zeros(1, 32, 32, 3),
        torch.zeros(1, 3, 33, 32),
        torch.zeros(1, 3, 32, 40),
        torch.zeros(1, 3, 0, 32),
        torch.zeros(0, 3, 32, 32),
        torch.zeros(1, 3, 32, 32, dtype=torch.uint8),
        np.zeros((1, 3, 32, 32), np.float32),
        None,
    ],
    ids=lambda x: str(getattr(x, "shape", x)) + str(getattr(x, "dtype", "")),
)
def test_impossible_inputs(network, x):
    with pytest.raises(InputError):
        network(x)


@given(hnp.arrays(np.float32, (2, 3, 4, 5), elements=st.sampled_from([-1.0, 0.0, 1.0])))
@settings(max_examples=50)
def test_fusion_gives_ties_to_the_lowest_class(logits):
    local = torch.rand(2, 1, 4, 5, generator=torch.Generator().manual_seed(0))
    classes = torch.from_numpy(logits.argmax(1, keepdims=True))  # NumPy's argmax is the first
    expected = torch.where(classes == 1, local, (classes == 2).float())
    assert torch.equal(fuse(torch.from_numpy(logits), local), expected)


NEAR = [float(value) for value in np.nextafter(np.float32(1), np.array([0, 2], np.float32))]
TINY = float(np.finfo(np.float32).smallest_subnormal)


@given(
    hnp.arrays(
        np.float32,
        (2, 3, 4, 5),
        elements=st.one_of(
            st.sampled_from([-1.0, 0.0, -0.0, 1.0, *NEAR, TINY, -TINY]), st.floats(-(2.0**127), 2.0**127, width=32)
        ),
    )
)
@settings(max_examples=200)
def test_fusion_by_arithmetic_is_the_same_to_the_bit(logits):
    """With ties, with neighbours among the numbers, and with those that are nearly nothing or as large as can be."""
    local = torch.rand(2, 4, 4, 5, generator=torch.Generator().manual_seed(0))
    given = torch.from_numpy(logits)
    assert torch.equal(fuse_by_arithmetic(given, local), fuse(given, local))
    half = given.clamp(-6e4, 6e4).half()
    assert torch.equal(fuse_by_arithmetic(half, local.half()), fuse(half, local.half()))
