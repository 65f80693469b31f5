"""A portrait from a seed: person, pose and background are drawn, rendered in layers and composed."""

from __future__ import annotations

import cv2
import numpy as np

from p3m_edge.arrays import Array
from p3m_edge.data.pixels import blend
from p3m_edge.data.sample import Sample
from p3m_edge.data.synth import body, face, hair, head
from p3m_edge.data.synth.background import draw_background
from p3m_edge.data.synth.camera import Look, develop, draw_grade, expose
from p3m_edge.data.synth.person import Person
from p3m_edge.data.synth.raster import blur, coverage, f32, layer, over, to_bytes, unmultiply
from p3m_edge.data.synth.scene import SKIN, Light, Scene, diffuse, display, draw_pose, gloss
from p3m_edge.data.trimap import make_trimap
from p3m_edge.errors import InputError

TRIMAP_KERNEL = 15
"""Of the trimaps that go with the portraits, in pixels: the least of the published 15 to 30."""
UNKNOWN = (0.02, 0.15)
"""Least and largest share of the picture that is unknown in its trimap."""
MIN_SIDE, MAX_SIDE = 32, 4096
_ATTEMPTS = 5
_DEFAULT = Look()


def portrait(seed: int, width: int = 512, height: int = 512, look: Look = _DEFAULT, *, frontal: bool = False) -> Sample:
    """Draw one portrait; the same arguments give the same picture in every process.

    Parameters
    ----------
    seed
        Of everything in it, >= 0.
    width, height
        In pixels, 32 to 4096.
    look
        What the camera may do to it.
    frontal
        Turn the face to the camera (within 10 degrees).

    Returns
    -------
    sample
        With all its parts: ``image`` is ``alpha * foreground + (1 - alpha) * background`` within 1/255 before noise
        and compression; the face mask is the face with eyes, mouth and beard, without hair and ears.

    Raises
    ------
    InputError
        The size is out of range, or the seed is negative.
    """
    if seed < 0 or not (MIN_SIDE <= width <= MAX_SIDE and MIN_SIDE <= height <= MAX_SIDE):
        raise InputError(
            f"a portrait has a seed >= 0 and sides of {MIN_SIDE} to {MAX_SIDE}, not {seed}, {width}x{height}"
        )
    kernel = max(3, round(TRIMAP_KERNEL * max(height, width) / 512))
    for attempt in range(_ATTEMPTS):
        rngs = [np.random.default_rng([seed, attempt, part]) for part in range(4)]
        pose, person = draw_pose(rngs[0], width, height, frontal=frontal), Person(rngs[1])
        hints = np.sqrt(np.stack([person.skin, person.hair, person.garment]))
        background = draw_background(rngs[1], height, width, hints)
        scene = Scene(person, pose, Light(rngs[1], background), height, width)
        layered, face_mask = _render(scene, rngs[1])
        layered = expose(layered, look, rngs[2])
        alpha = to_bytes(layered[..., 3])
        trimap = make_trimap(alpha, kernel)
        if UNKNOWN[0] <= np.mean(trimap == 128) <= UNKNOWN[1]:
            break
    grade = draw_grade(look, rngs[3])
    foreground, back = to_bytes(grade(unmultiply(layered))), to_bytes(grade(background))
    image = develop(blend(foreground, back, alpha), look, rngs[3])
    mask = np.where(face_mask > 0.5, np.uint8(255), np.uint8(0))
    return Sample(f"{seed:06d}", image, alpha, trimap, foreground, back, mask)


def _render(scene: Scene, rng: np.random.Generator) -> tuple[Array, Array]:
    """The person as a premultiplied layer ``[H, W, 4]``, and the face's mask ``[H, W]``, 0..1."""
    person, pose, light = scene.person, scene.pose, scene.light
    shape = head.make_shape(person)
    cut = hair.draw_cut(person.style, rng, person.age)
    result, before = hair.draw_hair(shape, cut, person.hair, scene, rng)
    covering = before[..., 3].copy()  # what hides the face; a beard belongs to it
    if person.beard > 0.45:
        under, front = hair.draw_hair(shape, hair.draw_cut("beard", rng, person.age), 0.8 * person.hair, scene, rng)
        over(result, under)
        over(front, before)
        before = front
    outline = head.silhouette(shape, pose) + pose.scale * f32([-0.55 * light.key[0], 0.3 + 0.25 * light.key[1]])
    chin_shadow = 0.75 * blur(coverage([outline], scene.height, scene.width), 0.16 * pose.scale)
    over(result, body.draw_body(scene, 1 - chin_shadow, rng))
    for part, y, x in body.draw_ears(scene, nearer=False):
        over(result, part, y, x)
    view = head.see(shape, scene)
    over(result, _draw_face(view, scene, cut, covering, rng), view.y, view.x)
    mask = np.zeros(covering.shape, np.float32)
    h, w = view.cover.shape
    skin = (hair.scalp(view.direction, cut.recede) < 0) & (np.hypot(*head.flat(view.direction)) < face.REACH)
    mask[view.y : view.y + h, view.x : view.x + w] = view.cover * skin
    for part, y, x in body.draw_ears(scene, nearer=True):
        over(result, part, y, x)
        mask[y : y + part.shape[0], x : x + part.shape[1]] *= 1 - part[..., 3]
    over(result, before)
    return result, mask * (1 - covering)


def _draw_face(view: head.View, scene: Scene, cut: hair.Cut, covering: Array, rng: np.random.Generator) -> Array:
    """The head without its hair, lit, as a premultiplied layer of the view's size."""
    person, light, scale = scene.person, scene.light, scene.pose.scale
    matrix = np.array([[1, 0, -0.12 * scale * light.key[0]], [0, 1, 0.12 * scale * light.key[1]]])
    hair_shadow = 0.55 * blur(cv2.warpAffine(covering, matrix, covering.shape[::-1]), 0.05 * scale)
    h, w = view.cover.shape
    lit = head.cast_shadow(view, scene) * (1 - hair_shadow[view.y : view.y + h, view.x : view.x + w])
    paint = face.paint(person, rng, 512 if scale > 90 else 256)
    colour = head.look_up(paint, *head.flat(view.direction), face.REACH)
    cap = np.clip(hair.scalp(view.direction, cut.recede) / 0.12, 0, 1) * (0.25 if cut.length < 0.06 else 0.9)
    colour = colour + cap[..., None] * (0.6 * person.hair - colour)
    shine = (0.07 * gloss(light, view.normal, 14) + 0.09 * gloss(light, view.normal, 45)) * lit * (1 - cap)
    linear = colour * diffuse(light, view.normal, SKIN, lit) + shine[..., None] * light.key_colour
    return layer(display(linear), view.cover)
