"""Bodies in three dimensions, in any pose: the parametric body model Anny (CC0 shapes of MakeHuman, Apache-2.0 code).

Frame of the body: x to its left, y up, z forward, as that of the head; the unit is a metre. Shape legend: V, vertices;
F, triangles.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p3m_edge.data.synth.mesh import vertex_normals
from p3m_edge.data.synth.person import Person
from p3m_edge.data.synth.raster import Array, f32
from p3m_edge.errors import OutputError, missing_package

_AXES = f32([[1, 0, 0], [0, 0, 1], [0, -1, 0]])  # Anny's frame (z up, facing -y) to ours
_LIMBS = {
    "arm": ("upperarm", "lowerarm", "wrist", "finger", "metacarpal"), "hand": ("wrist", "finger", "metacarpal"),
    "leg": ("upperleg", "lowerleg", "foot", "toe"), "foot": ("foot", "toe"), "head": ("head", "eye"),
}  # fmt: skip
_SPINE = ("spine05", "spine04", "spine03", "spine02", "spine01")
_NECK = ("neck01", "neck02", "neck03", "head")


@dataclass(frozen=True, eq=False)
class Body:
    """A body in its pose.

    Attributes
    ----------
    points, rest
        ``[V, 3]``: its surface as it is posed, and as it stands at rest.
    normals
        ``[V, 3]``, unit, of the posed surface.
    faces
        int ``[F, 3]``, anticlockwise from outside.
    limbs
        ``[V]`` each, 0..1: how far a vertex moves with ``arm``, ``hand``, ``leg``, ``foot``, ``head``.
    marks
        Heights at rest: ``sole``, ``knee``, ``crotch``, ``neck``, ``chin``; and ``shoulder`` and ``wrist``, distances
        of the arm's ends from the middle.
    head_turn, head_centre, head_unit
        Of the head: rotation ``[3, 3]`` from rest, its middle, and metres a head unit.
    """

    points: Array
    rest: Array
    normals: Array
    faces: NDArray[np.intp]
    limbs: dict[str, Array]
    marks: dict[str, float]
    head_turn: Array
    head_centre: Array
    head_unit: float


def prepare() -> None:
    """Load the body model, before processes ask for it.

    Raises
    ------
    MissingError
        Anny is not installed.
    OutputError
        Its cache cannot be written.
    """
    _model()


@lru_cache(1)
def _model() -> Any:
    try:
        import anny
        from anny import paths
        from filelock import FileLock
    except ImportError as error:
        raise missing_package("anny", "bodies", error) from error
    cache = Path(paths.get_anny_cache_path())
    whole = cache / f"p3m-edge-{version('anny')}"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / "p3m-edge.lock"):
            if not whole.exists():  # Anny writes its file in place: half of it must never be found there
                with tempfile.TemporaryDirectory(dir=cache, prefix=".building-") as temporary:
                    building = Path(temporary) / whole.name
                    paths.set_anny_cache_path(building)
                    anny.Anny(skinning_method="lbs")
                    building.rename(whole)
            paths.set_anny_cache_path(whole)
            return anny.Anny(skinning_method="lbs")
    except OSError as error:
        hint = "ANNY_CACHE_DIR names another folder"
        raise OutputError(f"{cache} cannot be used: {error.strerror or error}", hint=hint) from error


def pose_body(person: Person, rng: np.random.Generator) -> Body:
    """A body for a person, in a random pose.

    Raises
    ------
    MissingError
        Anny is not installed.
    """
    import torch

    model = _model()
    labels = {name: number for number, name in enumerate(model.bone_labels)}
    turns = np.tile(np.eye(4), (len(labels), 1, 1))
    for name, turn in _draw_pose(rng).items():
        turns[labels[name], :3, :3] = turn
    young = rng.random() < 0.06
    looks = {
        "gender": rng.uniform(0.75, 1) if person.masculine else rng.uniform(0, 0.25),
        "age": rng.uniform(0.35, 0.5) if young else 0.6 + 0.35 * person.age,
        "muscle": rng.uniform(0.3, 0.8), "weight": float(np.clip(0.45 + 0.12 * person.weight, 0.2, 0.95)),
        "height": rng.uniform(0.3, 0.7), "proportions": rng.uniform(0.3, 0.9),
    }  # fmt: skip
    with torch.inference_mode():
        made = model(pose_parameters=torch.from_numpy(turns)[None], phenotype_kwargs=looks)
    found = {name: value[0].numpy() for name, value in made.items()}
    points, rest = f32(found["vertices"] @ _AXES.T), f32(found["rest_vertices"] @ _AXES.T)
    faces = np.asarray(model.faces.numpy(), np.intp)
    heads = found["rest_bone_heads"] @ _AXES.T
    limbs = _limbs(model)
    of_head = limbs["head"] > 0.9
    crown, chin = float(rest[of_head, 1].max()), float(rest[of_head & (rest[:, 2] > heads[labels["head"], 2]), 1].min())
    unit = (crown - chin) / 2.25
    middle = f32([0, chin + 1.15 * unit, (rest[of_head, 2].max() + rest[of_head, 2].min()) / 2 - 0.05 * unit])
    head = labels["head"]
    change = found["bone_poses"][head] @ np.linalg.inv(found["rest_bone_poses"][head])
    turn = _AXES @ change[:3, :3] @ _AXES.T
    moved = _AXES @ (change[:3, :3] @ (_AXES.T @ middle) + change[:3, 3])
    marks = {
        "sole": float(rest[:, 1].min()), "knee": float(heads[labels["lowerleg01.L"], 1]),
        "crotch": float(heads[labels["upperleg01.L"], 1]) - 0.06, "neck": float(heads[labels["neck01"], 1]),
        "chin": chin, "shoulder": float(heads[labels["upperarm01.L"], 0]), "wrist": float(heads[labels["wrist.L"], 0]),
    }  # fmt: skip
    return Body(points, rest, vertex_normals(points, faces), faces, limbs, marks, f32(turn), f32(moved), unit)


@lru_cache(1)
def _limbs_of(names: tuple[str, ...]) -> dict[str, NDArray[np.intp]]:
    return {
        limb: np.flatnonzero([name.startswith(parts) for name in names]).astype(np.intp)
        for limb, parts in _LIMBS.items()
    }


def _limbs(model: Any) -> dict[str, Array]:
    weights, bones = model.vertex_bone_weights.numpy(), model.vertex_bone_indices.numpy()
    chosen = _limbs_of(tuple(model.bone_labels))
    return {limb: f32((weights * np.isin(bones, numbers)).sum(1)) for limb, numbers in chosen.items()}


def _draw_pose(rng: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    """Rotations of bones about Anny's axes at rest: standing, sitting, moving; arms anywhere that arms go."""
    pose: dict[str, NDArray[np.float64]] = {}
    kind = str(rng.choice(["stand", "sit", "ground", "move"], p=[0.55, 0.17, 0.1, 0.18]))
    bend, lean, twist = rng.normal(0.05, 0.12), rng.normal(0, 0.09), rng.normal(0, 0.2)
    if kind in ("sit", "ground"):
        bend += rng.uniform(0, 0.5)
    for name in _SPINE:
        pose[name] = _turn(0.2 * bend, 0.2 * lean, 0.2 * twist)
    nod, tilt, turn = rng.normal(0.05, 0.2) - 0.4 * bend, rng.normal(0, 0.12), rng.normal(0, 0.4)
    for name in _NECK:
        pose[name] = _turn(0.25 * nod, 0.25 * tilt, 0.25 * float(np.clip(turn, -1, 1)))
    both = _draw_arm(rng)
    for side in (1, -1):
        letter = "L" if side > 0 else "R"
        arm = both if rng.random() < 0.35 else _draw_arm(rng)
        pose.update(_pose_arm(arm, side, letter, rng))
        pose.update(_pose_leg(kind, side, letter, rng))
    return pose


def _draw_arm(rng: np.random.Generator) -> tuple[float, float, float, float]:
    """Raised sideways from hanging, raised forwards, rolled inwards, bent at the elbow; radians."""
    kind = str(
        rng.choice(["down", "hip", "front", "head", "up", "wide", "any"], p=[0.3, 0.1, 0.2, 0.12, 0.1, 0.08, 0.1])
    )
    low, high = {
        "down": ((0.05, -0.3, -0.2, 0.0), (0.35, 0.4, 0.4, 0.5)),
        "hip": ((0.5, -0.5, 0.4, 1.3), (0.9, 0.0, 0.9, 1.9)),
        "front": ((0.0, 0.2, 0.3, 0.9), (0.4, 0.9, 1.2, 2.1)),
        "head": ((1.2, 0.2, -0.9, 1.7), (2.3, 1.0, -0.2, 2.4)),
        "up": ((2.0, -0.1, -0.6, 0.0), (2.9, 0.6, 0.2, 0.9)),
        "wide": ((1.1, -0.3, -0.5, 0.0), (1.8, 0.6, 0.5, 0.7)),
        "any": ((0.1, -0.5, -0.8, 0.0), (2.6, 1.6, 1.0, 2.2)),
    }[kind]  # fmt: skip
    first, second, third, fourth = (float(value) for value in rng.uniform(low, high))
    return first, second, third, fourth


def _pose_arm(
    arm: tuple[float, float, float, float], side: int, letter: str, rng: np.random.Generator
) -> dict[str, NDArray[np.float64]]:
    raised, forward, roll, bent = arm
    along = np.array([side * 0.67, -0.1, -0.74])  # of the arm at rest, which hangs 48 degrees below the horizontal
    flex = np.cross(along, [0, -1, 0])
    shrug = max(raised - 1.2, 0.0) * 0.3
    lift = _turn(0, -side * (raised - 0.73 - shrug), 0)
    fingers = rng.uniform(0, 0.9)
    palm = np.cross(along, [side * 0.3, -0.6, -0.2])
    pose = {
        f"clavicle.{letter}": _turn(0, -side * shrug, 0),
        f"upperarm01.{letter}": _turn(-forward, 0, 0) @ lift @ _about(along, side * roll),
        f"lowerarm01.{letter}": _about(flex, bent),
        f"wrist.{letter}": _about(flex, rng.normal(0, 0.25)) @ _about(along, rng.normal(0, 0.4)),
    }
    for finger in range(2, 6):
        for joint in range(1, 4):
            pose[f"finger{finger}-{joint}.{letter}"] = _about(palm, float(fingers * rng.uniform(0.5, 1)))
    return pose


def _pose_leg(kind: str, side: int, letter: str, rng: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    forward, aside, knee = {
        "stand": (rng.normal(0.03, 0.1), rng.uniform(-0.02, 0.22), max(rng.normal(0.05, 0.12), 0)),
        "sit": (rng.uniform(1.2, 1.7), rng.uniform(-0.1, 0.35), rng.uniform(0.9, 1.8)),
        "ground": (rng.uniform(1.3, 2.2), rng.uniform(-0.1, 0.6), rng.uniform(0.2, 2.4)),
        "move": (rng.normal(0.3, 0.6), rng.uniform(-0.05, 0.5), rng.uniform(0.0, 1.7)),
    }[kind]
    return {
        f"upperleg01.{letter}": _turn(0, -side * aside, 0) @ _turn(-forward, 0, 0),
        f"lowerleg01.{letter}": _turn(knee, 0, 0),
        f"foot.{letter}": _turn(rng.normal(0.1, 0.2), 0, 0),
    }


def _turn(x: float, y: float, z: float) -> NDArray[np.float64]:
    """Rotations about Anny's axes: x first."""
    return _about(np.array([0.0, 0, 1]), z) @ _about(np.array([0.0, 1, 0]), y) @ _about(np.array([1.0, 0, 0]), x)


def _about(axis: NDArray[np.float64], angle: float) -> NDArray[np.float64]:
    """Rotation about an axis (Rodrigues)."""
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * (cross @ cross))
