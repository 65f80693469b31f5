"""The guided filter that brings an alpha to the frame's size."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from p3m_edge.data.synth import portrait
from p3m_edge.errors import InputError
from p3m_edge.metrics import evaluate
from p3m_edge.preprocess import Colour, Frame, Geometry, Resize, from_network, to_network
from p3m_edge.refine import guide, refine

SIDE = 128


def network(
    frame: NDArray[np.uint8], alpha: NDArray[np.float32], resize: Resize = "stretch", colour: Colour = "RGB"
) -> tuple[NDArray[np.float32], NDArray[np.uint8], Geometry]:
    """The best alpha that a network could give for a frame, what it saw, and where the frame lies in that."""
    image, geometry = to_network(frame, SIDE, SIDE, resize, colour)
    small = cv2.resize(alpha, (geometry.content_width, geometry.content_height), interpolation=cv2.INTER_AREA)
    whole = np.zeros((SIDE, SIDE), np.float32)
    rows, columns = slice(geometry.top, None), slice(geometry.left, None)
    whole[rows, columns][: small.shape[0], : small.shape[1]] = small
    return whole, image, geometry


@pytest.fixture(scope="module")
def drawn() -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A picture of 640x512 with its exact alpha: a plain shape before a plain wall, whose edge is one pixel wide."""
    frame, alpha = np.full((512, 640, 3), (200, 180, 150), np.uint8), np.zeros((512, 640), np.float32)
    cv2.ellipse(alpha, (300, 300), (130, 180), 20, 0, 360, 1, -1, cv2.LINE_8)
    frame[alpha > 0] = (40, 60, 90)
    return frame, alpha


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
def test_edges_are_those_of_the_frame(drawn, resize: Resize) -> None:
    frame, alpha = drawn
    small, image, geometry = network(frame, alpha, resize)
    truth = (alpha * 255).astype(np.uint8)
    plain = evaluate(from_network(small, geometry), truth)
    refined = evaluate(refine(small, geometry, guide(frame, image, geometry, "RGB")), truth)
    assert refined["MAD"] < 0.6 * plain["MAD"]
    assert refined["GRAD"] < 0.6 * plain["GRAD"]


def test_what_is_sure_stays_as_it_is(drawn) -> None:
    frame, alpha = drawn
    noisy = np.random.default_rng(0).integers(0, 256, frame.shape).astype(np.uint8)
    small, image, geometry = network(noisy, alpha)
    refined = refine(small, geometry, guide(noisy, image, geometry, "RGB"))
    edge = cv2.morphologyEx(alpha, cv2.MORPH_GRADIENT, np.ones((3, 3)))
    far = cv2.dilate(edge, np.ones((81, 81))) == 0
    assert far.mean() > 0.3
    np.testing.assert_array_equal(refined[far], alpha[far])


def test_a_picture_smaller_than_the_network(drawn) -> None:
    frame, alpha = (cv2.resize(each, (90, 72), interpolation=cv2.INTER_AREA) for each in drawn)
    small, image, geometry = network(frame, alpha)
    refined = refine(small, geometry, guide(frame, image, geometry, "RGB"))
    assert refined.shape == (72, 90)
    assert np.abs(refined - alpha).mean() < 0.02


def test_forms_of_a_frame_give_the_same_alpha() -> None:
    sample = portrait(1, 200, 160)
    frame, alpha = sample.image, sample.alpha.astype(np.float32) / np.float32(255)
    small, image, geometry = network(frame, alpha)
    expected = refine(small, geometry, guide(frame, image, geometry, "RGB"))
    assert expected.dtype == np.float32
    assert expected.min() >= 0
    assert expected.max() <= 1
    forms: dict[str, tuple[Frame, Colour]] = {
        "BGR": (np.ascontiguousarray(frame[..., ::-1]), "BGR"),
        "a view in the other order": (frame[..., ::-1], "BGR"),
        "float": (frame.astype(np.float32) / 255, "RGB"),
        "mirrored twice": (np.ascontiguousarray(frame[:, ::-1])[:, ::-1], "RGB"),
    }
    for name, (form, colour) in forms.items():
        found = refine(small, geometry, guide(form, image, geometry, colour))
        np.testing.assert_array_equal(found, expected, err_msg=name)
    in_bytes = refine(small, geometry, guide(frame, image, geometry, "RGB"), np.uint8)
    assert in_bytes.dtype == np.uint8
    assert np.abs(in_bytes - 255 * expected).max() <= 0.501


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_alpha_that_is_not_finite(drawn, value: float) -> None:
    frame, alpha = drawn
    small, image, geometry = network(frame, alpha)
    small[5, 5] = value
    with pytest.raises(InputError, match="NaN or infinity"):
        refine(small, geometry, guide(frame, image, geometry, "RGB"))


def test_edges_that_the_frame_does_not_show_become_no_softer(drawn) -> None:
    """The means of the filter alone would blur them."""
    frame, alpha = drawn
    plain = np.full_like(frame, 128)
    small, image, geometry = network(plain, alpha)
    small = np.asarray(cv2.GaussianBlur(small, (0, 0), 4), np.float32)
    before = from_network(small, geometry)
    after = refine(small, geometry, guide(plain, image, geometry, "RGB"))
    softness = [float((each * (1 - each)).sum()) for each in (before, after)]
    assert softness[1] < softness[0]
