"""What is behind the person: studio paper, rooms, streets, foliage, sky and lights, near or out of focus."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge.data.synth.raster import Array, blur, f32, noise

KINDS = ("studio", "room", "street", "foliage", "bokeh", "sky", "wall", "clutter", "blotches")
_WEIGHTS = np.array([16, 15, 13, 18, 9, 9, 11, 6, 3]) / 100


def draw_background(rng: np.random.Generator, height: int, width: int, hints: Array) -> Array:
    """Draw a background.

    Parameters
    ----------
    rng
        Its random numbers.
    height, width
        In pixels.
    hints
        Display colours ``[N, 3]`` of the person: some backgrounds use them, so that colour alone tells nothing.

    Returns
    -------
    picture
        ``[H, W, 3]``, display values 0..1.
    """
    kind = KINDS[int(rng.choice(len(KINDS), p=_WEIGHTS))]
    palette = _palette(rng, hints)
    canvas = gradient(rng, height, width, palette)
    size = max(height, width)
    if kind == "studio":
        picture = canvas + 0.03 * noise(rng, height, width, size / 3, 2)[..., None]
        focus = 0.0
    else:
        draw = {
            "room": _room, "street": _street, "foliage": _foliage, "bokeh": _bokeh, "sky": _sky, "wall": _wall,
            "clutter": _clutter, "blotches": _blotches,
        }[kind]  # fmt: skip
        picture = draw(rng, canvas, palette)
        if kind in ("room", "street", "wall"):
            picture = _tilted(rng, picture)
        picture = picture * (1 + 0.06 * noise(rng, height, width, size / 20, 5, 0.75))[..., None]
        sharp = 0.0 if kind in ("wall", "sky", "blotches", "clutter") else rng.uniform(0.0015, 0.004)
        focus = (
            float(rng.choice([sharp, rng.uniform(0.003, 0.012), rng.uniform(0.012, 0.045)], p=[0.2, 0.35, 0.45])) * size
        )
    picture = picture * (1 + 0.18 * noise(rng, height, width, size / 1.5, 2))[..., None]
    return np.clip(_defocus(picture.astype(np.float32), focus, rng), 0, 1)


def _palette(rng: np.random.Generator, hints: Array) -> Array:
    """Six display colours that go together."""
    base = rng.uniform(0.1, 0.9)
    tint = rng.normal(0, 0.1, 3)
    colours = np.clip(base + 0.6 * tint + rng.normal(0, 0.2, (6, 1)) + rng.normal(0, 0.05, (6, 3)), 0.02, 1)
    if rng.random() < 0.35:
        colours[rng.integers(0, 6, 2)] = np.clip(
            hints[rng.integers(0, len(hints), 2)] + rng.normal(0, 0.03, (2, 3)), 0, 1
        )
    return colours.astype(np.float32)


def gradient(rng: np.random.Generator, height: int, width: int, palette: Array) -> Array:
    """Two colours from end to end, or lit round a centre."""
    y, x = np.linspace(0, 1, 64, dtype=np.float32)[:, None], np.linspace(0, 1, 64, dtype=np.float32)[None]
    if rng.random() < 0.5:
        angle = rng.uniform(0, 2 * np.pi)
        t = 0.5 + np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5)
    else:
        t = np.hypot((x - rng.uniform(0.2, 0.8)) * 1.1, y - rng.uniform(0.2, 0.8))
    t = np.clip(t, 0, 1)[..., None]
    coarse = palette[0] * (1 - t) + (0.5 * palette[0] + 0.5 * palette[1]) * t
    return f32(cv2.resize(coarse.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC))


def _tilted(rng: np.random.Generator, picture: Array) -> Array:
    """Seen at an angle: the camera is seldom straight before a wall."""
    height, width = picture.shape[:2]
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    inside = 0.5 + (corners - 0.5) * rng.uniform(0.55, 0.9) + rng.uniform(-0.1, 0.1, (4, 2)).astype(np.float32)
    size = np.array([width, height], np.float32)
    matrix = cv2.getPerspectiveTransform((inside * size).astype(np.float32), (corners * size).astype(np.float32))
    return f32(cv2.warpPerspective(picture.astype(np.float32), matrix, (width, height), borderMode=cv2.BORDER_REFLECT))


def _bytes(colour: Array) -> tuple[float, float, float]:
    red, green, blue = (float(255 * np.clip(c, 0, 1)) for c in colour)
    return red, green, blue


def _to_bytes(picture: Array) -> NDArray[np.uint8]:
    return (np.clip(picture, 0, 1) * 255).astype(np.uint8)


def _to_float(picture: NDArray[np.uint8]) -> Array:
    return picture.astype(np.float32) * np.float32(1 / 255)


def _room(rng: np.random.Generator, canvas: Array, palette: Array) -> Array:
    """A wall and a floor, a window, frames, shelves, a lamp."""
    height, width = canvas.shape[:2]
    picture = _to_bytes(canvas)
    if rng.random() < 0.5:
        floor = int(height * rng.uniform(0.6, 0.95))
        picture[floor:] = np.asarray(_bytes(palette[2] * 0.7), np.uint8)
    for _ in range(int(rng.integers(2, 9))):
        w, h = (rng.uniform(0.08, 0.45, 2) * (width, height)).astype(int)
        x, y = (rng.uniform(-0.1, 1, 2) * (width, 0.8 * height)).astype(int)
        bright = rng.random() < 0.3
        colour = np.array([0.97, 0.98, 1.0]) * rng.uniform(0.8, 1.05) if bright else palette[rng.integers(1, 6)]
        cv2.rectangle(picture, (x, y), (x + w, y + h), _bytes(colour.astype(np.float32)), -1)
        edge = _bytes(palette[rng.integers(0, 6)] * rng.uniform(0.3, 1.2))
        cv2.rectangle(picture, (x, y), (x + w, y + h), edge, int(rng.integers(1, 8)), cv2.LINE_AA)
        for k in range(int(rng.integers(0, 5))):
            at = x + w * (k + 1) // 5
            cv2.line(picture, (at, y), (at, y + h), edge, int(rng.integers(1, 6)), cv2.LINE_AA)
    for _ in range(int(rng.integers(0, 4))):
        x, y = (rng.random(2) * (width, height)).astype(int)
        axes = (int(rng.uniform(0.02, 0.1) * width), int(rng.uniform(0.02, 0.12) * height))
        cv2.ellipse(
            picture, (x, y), axes, rng.uniform(0, 180), 0, 360, _bytes(palette[rng.integers(0, 6)]), -1, cv2.LINE_AA
        )
    return _to_float(picture)


def _street(rng: np.random.Generator, canvas: Array, palette: Array) -> Array:
    """House fronts with windows, a pavement, posts, passers-by."""
    height, width = canvas.shape[:2]
    picture = _to_bytes(np.clip(canvas * 0.5 + 0.45, 0, 1))
    x = -int(rng.integers(0, width // 4))
    while x < width:
        w = int(rng.uniform(0.12, 0.4) * width)
        top = int(rng.uniform(-0.3, 0.45) * height)
        colour = palette[rng.integers(1, 6)] * rng.uniform(0.6, 1.1)
        cv2.rectangle(picture, (x, top), (x + w, height), _bytes(colour), -1)
        cell = max(6, int(w / rng.integers(2, 7)))
        pane = np.clip(colour * rng.choice([0.35, 0.6, 1.6]), 0, 1)
        for wy in range(top + cell // 3, height, int(cell * rng.uniform(1.0, 1.5)) + 1):
            for wx in range(x + cell // 4, x + w - cell // 2, cell):
                cv2.rectangle(
                    picture, (wx, wy), (wx + cell // 2, wy + int(cell * 0.6)), _bytes(pane * rng.uniform(0.6, 1.3)), -1
                )
        x += w
    ground = int(rng.uniform(0.65, 1.0) * height)
    cv2.rectangle(picture, (0, ground), (width, height), _bytes(palette[1] * 0.5), -1)
    for _ in range(int(rng.integers(0, 7))):
        at, thick = int(rng.uniform(0, width)), int(rng.uniform(1, 0.04 * width))
        cv2.line(
            picture,
            (at, int(rng.uniform(0, 0.6) * height)),
            (at + int(rng.normal(0, 8)), height),
            _bytes(palette[rng.integers(0, 6)] * 0.6),
            thick,
            cv2.LINE_AA,
        )
    for _ in range(int(rng.integers(0, 4))):
        _passer(rng, picture, palette)
    return _to_float(picture)


def _passer(rng: np.random.Generator, picture: NDArray[np.uint8], palette: Array) -> None:
    """Somebody far behind: a head, a trunk and legs, not part of the matte."""
    height, width = picture.shape[:2]
    tall = rng.uniform(0.15, 0.45) * height
    x, y = rng.uniform(0, width), rng.uniform(0.45, 0.8) * height
    skin = _bytes(np.array([0.8, 0.6, 0.5], np.float32) * rng.uniform(0.4, 1.1))
    cloth, legs = _bytes(palette[rng.integers(0, 6)]), _bytes(palette[rng.integers(0, 6)] * 0.5)
    cv2.ellipse(
        picture, (int(x), int(y + 0.62 * tall)), (int(0.11 * tall), int(0.35 * tall)), 0, 0, 360, legs, -1, cv2.LINE_AA
    )
    cv2.ellipse(
        picture, (int(x), int(y + 0.26 * tall)), (int(0.14 * tall), int(0.22 * tall)), 0, 0, 360, cloth, -1, cv2.LINE_AA
    )
    cv2.ellipse(picture, (int(x), int(y)), (int(0.06 * tall), int(0.08 * tall)), 0, 0, 360, skin, -1, cv2.LINE_AA)


def _foliage(rng: np.random.Generator, canvas: Array, palette: Array) -> Array:
    """Leaves in several distances, light shining through, trunks and branches."""
    height, width = canvas.shape[:2]
    season = rng.choice(["green", "autumn", "blossom", "any"], p=[0.6, 0.18, 0.1, 0.12])
    tones = {
        "green": [[0.12, 0.2, 0.07], [0.25, 0.36, 0.12], [0.45, 0.55, 0.22], [0.7, 0.76, 0.45]],
        "autumn": [[0.3, 0.14, 0.05], [0.6, 0.3, 0.08], [0.85, 0.5, 0.14], [0.95, 0.75, 0.35]],
        "blossom": [[0.25, 0.22, 0.2], [0.75, 0.6, 0.62], [0.92, 0.82, 0.84], [0.6, 0.68, 0.75]],
        "any": palette[:4],
    }[str(season)]
    tone = np.clip(np.asarray(tones, np.float32) + rng.normal(0, 0.05, (1, 3)).astype(np.float32), 0, 1)
    field = 0.5 + 0.6 * noise(rng, height, width, width / rng.uniform(2, 6), 4, 0.6)
    steps = np.linspace(0, 1, len(tone))
    picture = _to_bytes(np.stack([np.interp(field, steps, tone[:, c]) for c in range(3)], -1).astype(np.float32) * 0.85)
    for _ in range(int(rng.integers(0, 4))):
        x = rng.uniform(0, width)
        cv2.line(
            picture,
            (int(x), 0),
            (int(x + rng.normal(0, 0.1) * width), height),
            _bytes(tone[0] * rng.uniform(0.4, 1.2)),
            int(rng.uniform(0.01, 0.09) * width) + 1,
            cv2.LINE_AA,
        )
    size = rng.uniform(0.004, 0.022) * width
    for _ in range(int(rng.integers(300, 900))):
        x, y = rng.random(2) * (width, height)
        shade = _bytes(tone[rng.integers(0, len(tone))] * rng.uniform(0.6, 1.3))
        axes = (max(1, int(size * rng.uniform(0.5, 1.5))), max(1, int(size * rng.uniform(0.25, 0.8))))
        cv2.ellipse(picture, (int(x), int(y)), axes, rng.uniform(0, 180), 0, 360, shade, -1, cv2.LINE_AA)
    for _ in range(int(rng.integers(0, 25))):
        start = rng.random(2) * (width, height)
        end = start + rng.normal(0, 0.25, 2) * (width, height)
        cv2.line(
            picture,
            tuple(start.astype(int)),
            tuple(end.astype(int)),
            _bytes(tone[0] * 0.6),
            int(rng.integers(1, 4)),
            cv2.LINE_AA,
        )
    result = _to_float(picture)
    if rng.random() < 0.4:
        result = np.maximum(result, _discs(rng, height, width, np.ones((1, 3), np.float32), 40, 0.03) * 0.9)
    return result


def _discs(rng: np.random.Generator, height: int, width: int, colours: Array, count: int, size: float) -> Array:
    """Points of light out of focus: discs with a brighter edge."""
    picture = np.zeros((height, width, 3), np.uint8)
    glow = np.zeros_like(picture)
    for _ in range(int(rng.integers(count // 3, count))):
        x, y = (rng.random(2) * (width, height)).astype(int)
        radius = max(1, int(size * width * rng.uniform(0.5, 1.5)))
        colour = np.clip(colours[rng.integers(0, len(colours))] * rng.uniform(0.25, 1.0), 0, 1)
        glow[:] = 0 if _ == 0 else glow
        cv2.circle(picture, (x, y), radius, _bytes(colour), -1, cv2.LINE_AA)
        cv2.circle(picture, (x, y), radius, _bytes(np.clip(colour * 1.25, 0, 1)), max(1, radius // 10), cv2.LINE_AA)
    return _to_float(picture)


def _bokeh(rng: np.random.Generator, canvas: Array, palette: Array) -> Array:
    """A dark evening full of lights."""
    height, width = canvas.shape[:2]
    lights = np.array([[1, 0.8, 0.5], [1, 0.95, 0.85], [0.6, 0.8, 1], [1, 0.4, 0.3], [0.5, 1, 0.7]], np.float32)
    chosen = np.concatenate([lights[rng.integers(0, 5, 3)], palette[:1]])
    dark = canvas * rng.uniform(0.15, 0.7)
    dark = dark * (1 + 0.5 * noise(rng, height, width, width / 4, 3))[..., None]
    near = _discs(rng, height, width, chosen, 60, rng.uniform(0.01, 0.05))
    far = blur(_discs(rng, height, width, chosen, 80, 0.02), 0.012 * width)
    return 1 - (1 - np.clip(dark, 0, 1)) * (1 - 0.8 * far) * (1 - 0.85 * blur(near, 1.2))


def _sky(rng: np.random.Generator, canvas: Array, palette: Array) -> Array:
    """Sky with clouds over sea, hills or a field."""
    height, width = canvas.shape[:2]
    hours = [
        ([0.35, 0.55, 0.85], [0.75, 0.85, 0.95]),
        ([0.85, 0.87, 0.9], [0.97, 0.97, 0.97]),
        ([0.35, 0.35, 0.55], [0.98, 0.7, 0.4]),
    ]
    top, low = (np.array(c, np.float32) for c in hours[int(rng.integers(0, 3))])
    t = np.linspace(0, 1, height, dtype=np.float32)[:, None, None] ** rng.uniform(0.6, 1.5)
    picture = np.broadcast_to(top * (1 - t) + low * t, canvas.shape).copy()
    cloud = np.clip(noise(rng, height, width, width / 2.5, 5, 0.55) + rng.uniform(-0.5, 0.2), 0, 1)[..., None]
    picture += cloud * (np.array([1, 0.98, 0.97], np.float32) * rng.uniform(0.75, 1.0) - picture)
    horizon = int(rng.uniform(0.4, 1.05) * height)
    if horizon < height - 2:
        ridge = noise(rng, 2, width, width / 3, 4)[0] * rng.choice([0.0, 0.08, 0.16]) * height
        rows = np.arange(height)[:, None]
        below = (rows > horizon + ridge[None])[..., None]
        ground = palette[1] * rng.uniform(0.3, 0.9)
        stretched = cv2.resize(noise(rng, height, max(width // 6, 8), 9, 4, 0.7), (width, height))
        picture = np.where(below, ground * (1 + 0.45 * stretched[..., None]), picture)
    return picture.astype(np.float32)


def _wall(rng: np.random.Generator, canvas: Array, palette: Array) -> Array:
    """Bricks, planks, tiles or plaster."""
    height, width = canvas.shape[:2]
    picture = _to_bytes(np.broadcast_to(palette[0] * 0.8, canvas.shape))
    kind = rng.choice(["bricks", "planks", "tiles", "plaster"])
    if kind != "plaster":
        rows = int(rng.integers(6, 26))
        h = height / rows
        w = {"bricks": 2.6 * h, "tiles": h, "planks": float(width)}[str(kind)]
        joint = max(1, int(h * rng.uniform(0.04, 0.15)))
        for row in range(rows + 1):
            x = -w * (0.5 * (row % 2) if kind == "bricks" else 0)
            while x < width:
                tone = palette[1] * (1 + rng.normal(0, 0.1))
                cv2.rectangle(
                    picture, (int(x), int(row * h)), (int(x + w) - joint, int((row + 1) * h) - joint), _bytes(tone), -1
                )
                x += w
        if rng.random() < 0.4:
            picture = np.ascontiguousarray(cv2.resize(cv2.rotate(picture, cv2.ROTATE_90_CLOCKWISE), (width, height)))
    rough = 0.14 * noise(rng, height, width, width / 6, 6, 0.7)
    return _to_float(picture) * (1 + rough)[..., None]


def _clutter(rng: np.random.Generator, canvas: Array, palette: Array) -> Array:
    """Many shapes of any kind: what a matte must not follow."""
    height, width = canvas.shape[:2]
    picture = _to_bytes(canvas)
    for _ in range(int(rng.integers(20, 90))):
        colour = _bytes(palette[rng.integers(0, 6)] * rng.uniform(0.5, 1.4))
        x, y = (rng.random(2) * (width, height)).astype(int)
        size = int(abs(rng.normal(0, 0.12)) * width) + 3
        if rng.random() < 0.4:
            corners = np.array([x, y]) + rng.normal(0, size, (int(rng.integers(3, 7)), 2))
            cv2.fillPoly(picture, [corners.astype(np.int32)], colour, cv2.LINE_AA)
        elif rng.random() < 0.6:
            cv2.ellipse(
                picture,
                (int(x), int(y)),
                (size, max(1, int(size * rng.uniform(0.2, 1)))),
                rng.uniform(0, 180),
                0,
                360,
                colour,
                -1,
                cv2.LINE_AA,
            )
        else:
            path = np.cumsum(np.concatenate([[[x, y]], rng.normal(0, size / 3, (12, 2))]), 0)
            cv2.polylines(picture, [path.astype(np.int32)], False, colour, int(rng.integers(1, 7)), cv2.LINE_AA)
    return _to_float(picture) * (1 + 0.1 * noise(rng, height, width, width / 5, 6, 0.75))[..., None]


def _blotches(rng: np.random.Generator, canvas: Array, palette: Array) -> Array:
    """Colours at all scales, as in nothing and everything."""
    height, width = canvas.shape[:2]
    fields = np.stack(
        [noise(rng, height, width, width / rng.uniform(1.5, 8), 6, rng.uniform(0.5, 0.8)) for _ in range(2)], -1
    )
    first, second = palette[1] - palette[0], palette[2] - palette[0]
    return f32(np.clip(canvas + 0.6 * fields[..., :1] * first + 0.6 * fields[..., 1:] * second, 0.02, 0.98))


def _defocus(picture: Array, radius: float, rng: np.random.Generator) -> Array:
    """Blur as a lens does: with a disc, in linear light, so that lights stay lights."""
    if radius < 0.6:
        return blur(picture, float(rng.uniform(0, 0.6)))
    factor = max(1, int(radius / 2))
    height, width = picture.shape[:2]
    small = cv2.resize(
        np.square(np.clip(picture, 0, 1)), (-(-width // factor), -(-height // factor)), interpolation=cv2.INTER_AREA
    )
    small = small * (1 + 2 * np.clip(small.min(-1, keepdims=True) - 0.75, 0, 1))
    side = max(1, int(radius / factor))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * side + 1, 2 * side + 1)).astype(np.float32)
    small = cv2.filter2D(small, -1, disc / disc.sum(), borderType=cv2.BORDER_REFLECT_101)
    large = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    return f32(np.sqrt(np.clip(large, 0, 1)))
