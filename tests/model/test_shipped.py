"""The weights that come with the package: they are whole, and they matte the bundled portrait."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from p3m_edge import shipped
from p3m_edge.errors import UsageError
from p3m_edge.imageio import read_image
from p3m_edge.model import read_checkpoint
from p3m_edge.model.deploy import Deploy
from tests.portraits import ASTRONAUT


@pytest.mark.parametrize("arch", shipped.SHIPPED)
def test_what_the_file_says_is_what_it_holds(arch: str) -> None:
    header = shipped.read_header(arch)
    network, info = read_checkpoint(shipped.weights_path(arch))
    assert network.arch == header.arch == arch
    assert (info.licence, info.provenance) == (header.licence, header.provenance)
    assert info.trained
    assert header.trained


def test_an_architecture_without_weights() -> None:
    with pytest.raises(UsageError, match="no weights of r34: only of mobile") as caught:
        shipped.weights_path("r34")
    assert "--checkpoint" in str(caught.value.hint)
    with pytest.raises(UsageError, match="unknown architecture 'mobil'"):
        shipped.read_header("mobil")


def ellipse(shape: tuple[int, int], centre: tuple[int, int], axes: tuple[int, int]) -> NDArray[np.bool_]:
    """The inside of an upright ellipse, ``(x, y)`` in pixels."""
    return cv2.ellipse(np.zeros(shape, np.uint8), (centre, (2 * axes[0], 2 * axes[1]), 0), 1, -1) > 0


def test_the_matte_of_the_bundled_portrait_is_sane() -> None:
    frame = read_image(ASTRONAUT).rgb
    network, _ = read_checkpoint(shipped.weights_path())
    with torch.inference_mode():
        alpha = Deploy(network)(torch.from_numpy(frame[None])).alpha[0, 0].numpy()
    shape = frame.shape[:2]
    assert shape == alpha.shape == (512, 512)
    assert alpha[ellipse(shape, (226, 105), (52, 68))].mean() > 0.9  # face and hair
    # The suit; its lower edge is beyond these weights, as their card says.
    assert alpha[ellipse(shape, (215, 330), (60, 120))].mean() > 0.9
    assert alpha[:48, :48].mean() < 0.1  # the flag
    assert alpha[:48, -48:].mean() < 0.1  # the wall
