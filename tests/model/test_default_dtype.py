"""``torch.set_default_dtype(torch.float64)``, as research scripts have it: the networks stay what they are."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from p3m_edge.model import build, standin
from p3m_edge.model.deploy import Deploy
from tests.networks import shared_standin


@pytest.fixture
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def dtypes(network: torch.nn.Module) -> set[torch.dtype]:
    return {value.dtype for value in network.state_dict().values() if value.is_floating_point()}


@pytest.mark.parametrize("arch", ["r34", "swin-t", "vitae-s", "mobile"])
def test_networks_are_made_in_float32(double: None, arch: str) -> None:
    for network in (build(arch), standin(arch)):
        assert dtypes(network) == {torch.float32}


@pytest.mark.parametrize("arch", ["r34", "mobile"])
def test_the_deployed_network_gives_the_same(arch: str) -> None:
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), np.uint8))
    usual = Deploy(shared_standin(arch), outputs="alpha")(image)
    torch.set_default_dtype(torch.float64)
    try:
        deployed = Deploy(standin(arch), outputs="alpha")
        there = deployed(image)
    finally:
        torch.set_default_dtype(torch.float32)
    assert dtypes(deployed) == {torch.float32}
    torch.testing.assert_close(there, usual, atol=1e-4, rtol=0)
