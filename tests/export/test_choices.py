"""The variants of the mobile network that the chart of choices is made of."""

import pytest
import torch

from p3m_edge.export.choices import CHOICES, LARGE, SHIPPED, measure, variant
from p3m_edge.model import build
from p3m_edge.model.deploy import Deploy


@pytest.mark.parametrize("name", CHOICES)
def test_every_variant_mattes_and_has_its_own_shape(name):
    network = variant(CHOICES[name]).eval()
    matte = Deploy(network, "alpha")(torch.zeros(1, 96, 64, 3, dtype=torch.uint8))
    assert matte.shape == (1, 1, 96, 64)
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    shipped = {key: value.shape for key, value in build(SHIPPED).state_dict().items()}
    assert (shapes == shipped) == (name == SHIPPED)


@pytest.mark.full
def test_all_are_measured_beside_the_large_network():
    seen = []
    found = measure(64, 64, threads=1, rounds=2, iterations=1, progress=lambda done, total: seen.append((done, total)))
    assert [one.name for one in found] == [LARGE, *CHOICES]
    assert seen[-1] == (2, 2)
    for one in found:
        assert one.latency.count == 2
        assert one.latency.minimum > 0
    assert found[0].parameters > 9 * found[1].parameters
