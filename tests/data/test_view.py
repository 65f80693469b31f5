"""What a training shows the network of a picture: whole frames and parts, before their own backgrounds and others."""

from dataclasses import replace

import numpy as np
import pytest

from p3m_edge import preprocess
from p3m_edge.data.foreground import fused
from p3m_edge.data.sample import Sample
from p3m_edge.data.view import View
from p3m_edge.errors import InputError, UsageError

RED, BLUE = (220, 30, 20), (10, 40, 210)


def person(height: int = 120, width: int = 90, *, cut: bool = False) -> Sample:
    """A red rectangle in the middle of blue, cut by the lower border or not; left and right differ."""
    alpha = np.zeros((height, width), np.uint8)
    alpha[height // 4 : height if cut else 3 * height // 4, width // 4 : width // 2] = 255
    image = np.where(alpha[..., None] == 255, RED, BLUE).astype(np.uint8)
    return Sample("someone", image, alpha)


def views(step: View, sample: Sample, count: int = 40) -> list[Sample]:
    return [step(sample, np.random.default_rng(seed)) for seed in range(count)]


def test_a_whole_picture_is_what_an_app_shows_the_network():
    sample = person()
    expected, _ = preprocess.to_network(sample.image, 64, 64)
    found = views(View(64, whole=1, flip=0), sample)
    assert any(np.array_equal(view.image, expected) for view in found)
    # The others have other shapes: parts as high or as wide as the picture.
    assert len({view.image.tobytes() for view in found}) > 5


def test_all_arrays_stay_together_and_have_the_networks_size():
    sample = person()
    sample = replace(sample, trust=sample.alpha, face_mask=sample.alpha)
    for view in views(View(64, whole=0.5), sample):
        red = (view.image == RED).all(axis=2)
        assert view.trimap is not None
        assert view.trust is not None
        assert view.face_mask is not None
        assert view.image.shape == (64, 64, 3)
        assert np.array_equal(view.alpha == 255, red)
        assert (view.trimap[view.alpha == 128] == 128).all()
        for mask in (view.trust, view.face_mask):
            assert set(np.unique(mask)) <= {0, 255}
            if red.any():
                assert (mask[view.alpha == 255] == 255).mean() > 0.9


def test_parts_are_of_every_size():
    """Also in a picture in 3:4, where published crops would all be of one size."""
    columns = np.arange(90, dtype=np.uint8)
    image = np.broadcast_to(columns[:, None], (120, 90, 3)).copy()
    wide = [np.ptp(view.image[..., 0]) + 1 for view in views(View(64, whole=0), replace(person(), image=image), 100)]
    assert min(wide) < 30
    assert max(wide) == 90
    assert np.histogram(wide, 4, (20, 90))[0].min() > 5


def test_another_background_goes_on_beyond_the_picture_where_the_person_does_not():
    green = np.full((50, 80, 3), (0, 200, 0), np.uint8)
    small = []
    for view in views(View(64, whole=1, compose=1, backgrounds=[green]), person(), 60):
        assert view.foreground is not None
        assert view.background is not None
        outside = view.alpha == 0
        assert np.array_equal(view.image[outside], view.background[outside])
        assert not (view.image == BLUE).all(axis=2).any()
        share = view.alpha[..., None] / 255
        mixed = share * view.foreground + (1 - share) * view.background
        assert np.abs(mixed - view.image).max() <= 0.5 + 1e-6
        small.append((view.alpha == 255).mean())
    assert min(small) < 0.4 * (person().alpha == 255).mean()
    for view in views(View(64, whole=1, compose=1, backgrounds=[green]), person(cut=True), 60):
        assert (view.alpha[-1] == 255).any() or (view.alpha == 0).all()  # nobody floats


def test_a_wall_in_a_colour_of_the_person():
    """Half red, half green; the wall is like one of them, and no background is asked for."""
    sample = person()
    sample.image[60:][sample.alpha[60:] == 255] = (30, 160, 30)
    blue = np.full((50, 80, 3), BLUE, np.uint8)
    kinds = []
    for view in views(View(64, whole=1, compose=1, backgrounds=[blue], walls=1), sample):
        assert view.background is not None
        means = view.background.reshape(-1, 3).mean(axis=0)
        near = [bool(np.abs(means - colour).max() < 60) for colour in (RED, (30, 160, 30))]
        kinds += [near.index(True)] if any(near) else []
        assert 1 < view.background.std(axis=(0, 1)).max() < 40
    assert len(kinds) >= 30  # the others are mixed, of a pixel between the two
    assert set(kinds) == {0, 1}


def test_beyond_the_picture_the_matte_is_known():
    sample = person()
    doubtful = replace(sample, trust=np.zeros_like(sample.alpha))
    green = np.full((50, 80, 3), (0, 200, 0), np.uint8)
    trusted = [view.trust for view in views(View(64, whole=1, compose=1, backgrounds=[green]), doubtful)]
    assert any(trust is not None and (trust == 255).any() for trust in trusted)


def test_who_is_always_composed_and_who_never():
    green = np.full((50, 80, 3), (0, 200, 0), np.uint8)
    step = View(64, compose=1e-9, backgrounds=[green], always=("some",))
    assert all(view.background is not None for view in views(step, person()) if view.alpha.any())
    other = replace(person(), name="other")
    assert all(view.background is None for view in views(step, other))
    nobody = replace(person(), alpha=np.zeros((120, 90), np.uint8))
    assert all(view.background is None for view in views(replace(step, compose=1.0), nobody))


def test_equal_numbers_give_equal_views():
    step = View(64, compose=0.5, backgrounds=[np.zeros((40, 40, 3), np.uint8)])
    first, second = (step(person(), np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(first.image, second.image)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2, 3)])
def test_pictures_of_any_shape(shape):
    sample = Sample("odd", np.zeros((*shape, 3), np.uint8), np.full(shape, 255, np.uint8))
    for view in views(View(32, compose=0.5, backgrounds=[np.zeros((1, 1, 3), np.uint8)]), sample):
        assert view.alpha.shape == (32, 32)


@pytest.mark.parametrize("wrong", [{"side": 0}, {"whole": 1.5}, {"flip": -0.1}, {"compose": 2}])
def test_what_is_no_view_is_refused(wrong):
    with pytest.raises(UsageError):
        View(**{"side": 32, **wrong})


def test_composites_need_backgrounds():
    with pytest.raises(InputError, match="no backgrounds"):
        View(32, compose=0.5)


def test_the_quick_foreground_is_the_person_where_it_is_certain_and_goes_on_beyond():
    sample = person()
    soft = np.clip(sample.alpha.astype(int) - 127, 0, 255).astype(np.uint8)
    colours = fused(sample.image, sample.alpha).astype(int)
    assert np.abs(colours[sample.alpha == 255] - RED).max() <= 1
    rim = np.zeros_like(sample.alpha, bool)
    rim[29, 24:44] = True  # just above the person
    assert np.abs(colours[rim] - RED).max() < 40
    assert fused(sample.image, soft).shape == sample.image.shape
