"""Bodies in three dimensions: what of a mesh is seen, where clothes lie, and that portraits of them are exact."""

import dataclasses

import numpy as np
import pytest

from p3m_edge.data.synth import CLEAN, portrait
from p3m_edge.data.synth.cloth import draw_outfit
from p3m_edge.data.synth.dressed import Cover, covers, draw_wear, frame
from p3m_edge.data.synth.folder import Recipe, drawn
from p3m_edge.data.synth.measure import composition_error
from p3m_edge.data.synth.mesh import look, vertex_normals
from p3m_edge.data.synth.person import draw_person
from p3m_edge.data.synth.posed import Body, pose_body
from p3m_edge.errors import UsageError

SIDE = 192


@pytest.fixture(scope="module")
def bodies() -> list[Body]:
    result = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        result.append(pose_body(draw_person(rng), rng))
    return result


def test_of_two_triangles_the_nearer_is_seen_and_none_from_behind():
    points = np.array([[0, 0], [0, 20], [20, 0], [2, 2], [2, 12], [12, 2], [39, 39], [39, 20], [20, 39]], np.float32)
    depth = np.array([0, 0, 0, 1, 1, 1, 5, 5, 5], np.float32)
    faces = np.array([[3, 4, 5], [0, 1, 2], [6, 8, 7]])
    seen = look(points, depth, faces, 40, 40)
    nearness = seen.spread(seen.at(depth), -1)
    assert nearness[4, 4] == 1
    assert nearness[1, 1] == 0
    assert nearness[30, 30] == -1  # it goes round clockwise
    assert not seen.mask[25:, 25:].any()
    # What is linear over the picture comes back as it is.
    across = seen.spread(seen.at(points[:, 0]))
    inside = seen.mask.copy()
    inside[:, :3] = inside[:3] = False
    rows, columns = np.nonzero(inside & (np.add.outer(np.arange(40), np.arange(40)) < 12))
    np.testing.assert_allclose(across[rows, columns], columns + 0.5, atol=0.6)


def test_normals_of_a_cube_point_outwards():
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32)
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = np.array([triangle for a, b, c, d in quads for triangle in ((a, b, c), (a, c, d))])
    normals = vertex_normals(corners, faces)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, rtol=1e-5)
    assert ((normals * corners).sum(1) > 0.9).all()


def test_bodies_have_the_size_of_people_and_differ(bodies):
    for body in bodies:
        assert 0.9 < np.ptp(body.rest[:, 1]) < 2.3
        assert 0.07 < body.head_unit < 0.13
        np.testing.assert_allclose(body.head_turn @ body.head_turn.T, np.eye(3), atol=1e-4)
        # The head's middle is within the head.
        head = body.points[body.limbs["head"] > 0.9]
        assert (head.min(0) < body.head_centre).all()
        assert (body.head_centre < head.max(0)).all()
        # Outside is outside: a body's volume is positive, about that of a person.
        a, b, c = (body.points[body.faces[:, k]].astype(float) for k in range(3))
        assert 0.01 < (a * np.cross(b, c)).sum() / 6 < 0.25
    assert len({body.points.tobytes() for body in bodies}) == len(bodies)


def test_clothes_lie_where_they_belong(bodies):
    for seed, body in enumerate(bodies):
        rng = np.random.default_rng(seed)
        person = draw_person(rng)
        outfit = dataclasses.replace(draw_outfit(person, rng, from_behind=False), cut="tee", sleeve=0.38)
        wear = draw_wear(body, outfit, person, rng)
        kinds = covers(wear, body.rest, body.limbs, body.marks)
        assert (kinds[body.limbs["hand"] > 0.9] == Cover.SKIN).all()
        assert (kinds[body.limbs["head"] > 0.9] == Cover.SKIN).all()
        assert (kinds[body.limbs["foot"] > 0.9] == Cover.SHOES).all()
        chest = (np.abs(body.rest[:, 1] - body.marks["neck"] + 0.25) < 0.05) & (np.abs(body.rest[:, 0]) < 0.1)
        assert chest.any()
        assert (kinds[chest] == Cover.TOP).all()
        forearm = (body.limbs["arm"] > 0.9) & (np.abs(body.rest[:, 0]) > 0.75 * body.marks["wrist"])
        assert (kinds[forearm] == Cover.SKIN).all()


def test_the_head_is_in_the_frame(bodies):
    for seed, body in enumerate(bodies):
        framed = frame(body, np.random.default_rng(seed), 160, 120)
        assert 0 < framed.head.x < 120
        assert 0 < framed.head.y < 160
        near = np.hypot(*(framed.pixels - (framed.head.x, framed.head.y)).T) < 2 * framed.head.scale
        assert near[body.limbs["head"] > 0.9].mean() > 0.9


def test_portraits_are_exact_and_the_same_every_time():
    for seed in range(4):
        sample = portrait(seed, SIDE, SIDE, CLEAN, posed=True)
        assert composition_error(sample) <= 1
        assert 0.01 < np.mean(sample.alpha > 127) < 0.95
        assert sample.face_mask is not None
        assert sample.alpha[sample.face_mask > 0].mean() > 200
        again = portrait(seed, SIDE, SIDE, CLEAN, posed=True)
        np.testing.assert_array_equal(sample.image, again.image)
        assert (sample.image != portrait(seed, SIDE, SIDE, CLEAN).image).any()


def test_the_share_of_posed_people():
    recipe = Recipe(seed=0, width=64, height=64, blurred=False, colours=False, posed=0.5)
    upright = [np.array_equal(drawn(recipe, seed).image, portrait(seed, 64, 64).image) for seed in range(10)]
    assert 1 <= sum(upright) <= 9


def test_frontal_and_posed_exclude_each_other():
    with pytest.raises(UsageError, match="turns its head"):
        portrait(0, 64, 64, frontal=True, posed=True)
