"""The tiny P3M-Net: the same interface and files as the products, and listed nowhere among them."""

import pytest
import torch

from p3m_edge.model import build, read_checkpoint, save_checkpoint
from p3m_edge.targets import ARCHS


def test_it_trains_like_the_others_and_is_small():
    torch.manual_seed(0)
    network = build("tiny").train()
    assert sum(parameter.numel() for parameter in network.parameters()) < 500_000
    output = network(torch.randn(2, 3, 64, 96))
    assert output.alpha.shape == (2, 1, 64, 96)
    assert {tensor.shape for tensor in (output.global_logits, output.side2, output.side1, output.side0)} == {
        (2, 3, 64, 96)
    }
    logits = (output.global_logits, output.side2, output.side1, output.side0)
    (output.local_alpha.mean() + sum(tensor.square().mean() for tensor in logits)).backward()
    without = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert without == []


def test_it_is_saved_and_read_and_is_no_product(tmp_path):
    torch.manual_seed(1)
    network = build("tiny").eval()
    save_checkpoint(network, tmp_path / "tiny.safetensors", licence="none", provenance="a test", trained=True)
    loaded, info = read_checkpoint(tmp_path / "tiny.safetensors")
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(loaded(x).alpha, network(x).alpha)
    assert (info.arch, info.trained, info.licence) == ("tiny", True, "none")
    assert "tiny" not in ARCHS


@pytest.mark.parametrize("size", [(32, 32), (32, 96)])
def test_the_smallest_sizes(size):
    with torch.inference_mode():
        assert build("tiny").eval()(torch.zeros(1, 3, *size)).alpha.shape == (1, 1, *size)
