"""A portrait from a seed: the scene is drawn, rendered in layers and composed."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge.data.sample import Sample
from p3m_edge.data.synth import accessories, body, cloth, dressed, face, hair, head, strands
from p3m_edge.data.synth.background import draw_background
from p3m_edge.data.synth.camera import Look, develop, draw_grade, expose
from p3m_edge.data.synth.light import Light, diffuse, display, draw_light, gloss
from p3m_edge.data.synth.person import Person, draw_person
from p3m_edge.data.synth.posed import pose_body
from p3m_edge.data.synth.raster import Array, blur, layer, over, unmultiply
from p3m_edge.data.synth.scene import Scene, draw_scene
from p3m_edge.data.trimap import make_trimap
from p3m_edge.errors import InputError, UsageError

TRIMAP_KERNEL = 15
"""Of the trimaps that go with the portraits, in pixels: the least of the published 15 to 30."""
UNKNOWN = (0.02, 0.15)
"""Least and largest share of the picture that is unknown in its trimap."""
MIN_SIDE, MAX_SIDE = 32, 4096
_ATTEMPTS = 5
_DEFAULT = Look()


def portrait(
    seed: int, width: int = 512, height: int = 512, look: Look = _DEFAULT, *, frontal: bool = False, posed: bool = False
) -> Sample:
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
        Turn the face to the camera (within 10 degrees), and leave it uncovered.
    posed
        Give the person a body in three dimensions, in any pose; else an upright one, drawn flat.

    Returns
    -------
    sample
        With all its parts: ``image`` is ``alpha * foreground + (1 - alpha) * background`` within 1/255 before noise
        and compression; the face mask is the face with eyes, mouth and beard, without hair, hat and ears.

    Raises
    ------
    InputError
        The size is out of range, or the seed is negative.
    UsageError
        ``frontal`` and ``posed`` exclude each other.
    MissingError
        ``posed`` needs Anny.
    """
    if frontal and posed:
        raise UsageError("a posed body turns its head where it likes", hint="frontal or posed")
    if seed < 0 or not (MIN_SIDE <= width <= MAX_SIDE and MIN_SIDE <= height <= MAX_SIDE):
        raise InputError(
            f"a portrait has a seed >= 0 and sides of {MIN_SIDE} to {MAX_SIDE}, not {seed}, {width}x{height}"
        )
    kernel = max(3, round(TRIMAP_KERNEL * max(height, width) / 512))
    for attempt in range(_ATTEMPTS):
        rngs = [np.random.default_rng([seed, attempt, part]) for part in range(4)]
        scene = draw_scene(rngs[0], width, height, frontal=frontal)
        layered, face_mask, background = _draw(scene, rngs[1], height, width, posed=posed)
        layered = expose(layered, look, rngs[2])
        alpha = np.rint(np.clip(layered[..., 3], 0, 1) * 255).astype(np.uint8)
        trimap = make_trimap(alpha, kernel)
        if UNKNOWN[0] <= np.mean(trimap == 128) <= UNKNOWN[1]:
            break
    grade = draw_grade(look, rngs[3])
    foreground, back = _bytes(grade(unmultiply(layered))), _bytes(grade(background))
    image = develop(compose(alpha, foreground, back), look, rngs[3])
    face = np.where(face_mask > 0.5, 255, 0).astype(np.uint8)
    return Sample(f"{seed:06d}", image, alpha, trimap, foreground, back, face)


def compose(
    alpha: NDArray[np.uint8], foreground: NDArray[np.uint8], background: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """``alpha * foreground + (1 - alpha) * background``, rounded; all uint8."""
    share = alpha[..., None].astype(np.float32) / 255
    return np.rint(share * foreground + (1 - share) * background).astype(np.uint8)


def _draw(
    scene: Scene, rng: np.random.Generator, height: int, width: int, *, posed: bool
) -> tuple[Array, Array, Array]:
    """The person as a premultiplied layer, the face's mask, and the background."""
    person = draw_person(rng)
    framed = dressed.frame(pose_body(person, rng), rng, height, width) if posed else None
    if framed is not None:
        scene = replace(scene, pose=framed.head, from_behind=framed.head.turn[2, 2] < 0)
    outfit = cloth.draw_outfit(person, rng, from_behind=scene.from_behind)
    hints = np.sqrt(np.stack([person.skin, person.hair, outfit.colour, outfit.second]))
    background = draw_background(rng, height, width, hints)
    halves = background[: height // 2], background[height // 2 :]
    light = draw_light(rng, *(np.square(half.mean((0, 1))) for half in halves))
    return *_render(scene, framed, person, outfit, light, rng, height, width), background


def _render(
    scene: Scene,
    framed: dressed.Framed | None,
    person: Person,
    outfit: cloth.Outfit,
    light: Light,
    rng: np.random.Generator,
    height: int,
    width: int,
) -> tuple[Array, Array]:
    """The person as a premultiplied layer ``[H, W, 4]``, and the face's mask ``[H, W]``, 0..1."""
    pose = scene.pose
    shape = head.make_shape(person)
    cut = hair.draw_cut(person.style, rng, person.age)
    hat = accessories.Hat(shape, rng, outfit.second, outfit.inner) if scene.hat else None
    result, before, hiding = _hair(shape, cut, person, pose, light, rng, hat, height, width)
    if framed is not None:
        trunk, nearer = dressed.render(framed, person, outfit, light, rng, height, width)
    else:
        figure = body.draw_figure(person, rng, pose.x, pose.y, pose.scale, scene.body_turn)
        shade = body.chin_shadow(height, width, head.silhouette(shape, pose), light, pose.scale, 0.75)
        trunk, nearer = body.render(figure, person, outfit, light, shade, rng, uncovered=scene.uncovered)
    over(result, trunk)
    for part in accessories.ears(pose, person, light, height, width, nearer=False):
        over(result, *part)
    view = head.see(shape, pose, height, width)
    worn = hat.draw(pose, light, height, width) if hat else []
    shadow = _hair_shadow(before[..., 3], worn, light, pose.scale)
    canvas = face.paint(person, rng, 512 if pose.scale > 90 else 256)
    over(result, _face_layer(view, pose, person, canvas, cut, light, shadow), view.y, view.x)
    mask = np.zeros((height, width), np.float32)
    h, w = view.cover.shape
    skin = (hair.scalp(_direction(view), cut.recede) < 0) & (np.hypot(view.u, view.v) < 1.45)
    mask[view.y : view.y + h, view.x : view.x + w] = view.cover * skin
    for part in accessories.ears(pose, person, light, height, width, nearer=True):
        over(result, *part)
        _hide(mask, *part)
    if scene.earrings:
        for part in accessories.earring(pose, person, light, height, width, rng):
            over(result, *part)
    if scene.glasses:
        for part in accessories.glasses(pose, light, height, width, rng):
            over(result, *part)
    over(result, before)
    _hide(mask, hiding, 0, 0)  # a beard belongs to the face
    for part in [*worn, *nearer]:
        over(result, *part)
        _hide(mask, *part)
    return result, mask


def _hair(
    shape: head.Shape,
    cut: hair.Cut,
    person: Person,
    pose: head.Pose,
    light: Light,
    rng: np.random.Generator,
    hat: accessories.Hat | None,
    height: int,
    width: int,
) -> tuple[Array, Array, Array]:
    """Hair and beard behind and before the head, as premultiplied layers; the hair before it without the beard."""
    count = int(np.clip(30 * pose.scale * (1.3 if cut.length < 0.6 else 1.0), 600, 6000))
    grown = hair.grow(shape, cut, count, rng)
    if hat:
        grown = replace(grown, points=hat.press(grown.points))
    tones = strands.lit(grown, pose, person.hair, light, rng)
    behind, before = strands.draw(grown, tones, pose, height, width)
    if person.beard > 0.45:
        beard = hair.draw_beard(person.beard, rng)
        grown = hair.grow(shape, beard, int(np.clip(22 * pose.scale, 300, 3000)), rng, hair.jaw)
        tones = strands.lit(grown, pose, 0.8 * person.hair, light, rng)
        under, front = strands.draw(grown, tones, pose, height, width, border=-0.15)
        over(behind, under)
        over(front, before)
        return behind, front, before
    return behind, before, before


def _hide(mask: Array, part: Array, y: int, x: int) -> None:
    """Take what a layer covers out of a mask."""
    h, w = part.shape[:2]
    mask[y : y + h, x : x + w] *= 1 - part[..., 3]


def _hair_shadow(alpha: Array, worn: list[accessories.Placed], light: Light, scale: float) -> Array:
    """The share of key light that hair and hat leave to the face."""
    cover = alpha.copy()
    for part, y, x in worn:
        h, w = part.shape[:2]
        cover[y : y + h, x : x + w] = np.maximum(cover[y : y + h, x : x + w], part[..., 3])
    matrix = np.array([[1, 0, -0.12 * scale * light.key[0]], [0, 1, 0.12 * scale * light.key[1]]])
    return 1 - 0.55 * blur(cv2.warpAffine(cover, matrix, alpha.shape[::-1]), 0.05 * scale)


def _direction(view: head.View) -> Array:
    square = np.minimum(view.u**2 + view.v**2, 3.999)
    shrink = np.sqrt(1 - square / 4)
    return np.stack([view.u * shrink, view.v * shrink, 1 - square / 2], -1)


def _face_layer(
    view: head.View, pose: head.Pose, person: Person, canvas: face.Paint, cut: hair.Cut, light: Light, shadow: Array
) -> Array:
    """The head without its hair, lit, as a premultiplied layer of the view's size."""
    h, w = view.cover.shape
    lit = head.cast_shadow(view, pose, light.key) * shadow[view.y : view.y + h, view.x : view.x + w]
    colour, shine = canvas.at(view.u, view.v)
    cap = np.clip(hair.scalp(_direction(view), cut.recede) / 0.12, 0, 1) * (0.25 if cut.length < 0.06 else 0.9)
    colour = colour + cap[..., None] * (0.6 * person.hair - colour)
    linear = colour * diffuse(light, view.normal, (0.38, 0.2, 0.14), lit)
    spec = (
        (0.1 * gloss(light, view.normal, 14) + 0.12 * gloss(light, view.normal, 45))
        * np.minimum(shine, 1.8)
        * lit
        * (1 - cap)
    )
    return layer(display(linear + spec[..., None] * light.key_colour), view.cover)


def _bytes(picture: Array) -> NDArray[np.uint8]:
    return np.asarray(np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8), np.uint8)
