"""Which parts of a network quantisation hurts: what each part does to the mattes when it alone is quantised.

Parts are those of :func:`p3m_edge.export.graph.qdq.parts_of`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from p3m_edge.atomic import atomic_write
from p3m_edge.data.parallel import Progress
from p3m_edge.errors import InputError
from p3m_edge.export.graph.half import half_but
from p3m_edge.export.graph.qdq import QDQ, parts_of, quantised
from p3m_edge.export.graph.ranges import Range
from p3m_edge.export.graph.reference import exact_run
from p3m_edge.export.quantize.accuracy import Criterion, classes_of, flipped
from p3m_edge.runtimes.contract import Outputs
from p3m_edge.smallfile import parse_json, read_small

if TYPE_CHECKING:
    import onnx

LowPrecision = Literal["int8", "fp16"]
_SCHEMA = 2


@dataclass(frozen=True)
class RankedPart:
    """A part, the number of its weighted nodes, and what quantising it alone does to the mattes.

    ``error``: mean absolute difference of alpha from float32 (0..1) over the pictures, and ``worst`` the largest of the
    pictures' means. ``flips``: share of the pixels that change between background and foreground; 0 without logits.
    """

    name: str
    nodes: int
    error: float
    worst: float
    flips: float


@dataclass(frozen=True)
class Sensitivity:
    """All parts, that with the largest error first.

    ``precision`` and, for ``int8``, ``form``: what the parts were brought to. ``graph``: SHA-256 of the float32 graph
    and of what always stays in float32. ``pictures``, ``digest``: how many were looked at, and of which set.
    """

    schema: int
    precision: LowPrecision
    form: str
    graph: str
    pictures: int
    digest: str
    parts: tuple[RankedPart, ...]


def rank(
    model: onnx.ModelProto,
    ranges: Mapping[str, Range],
    images: Sequence[NDArray[np.uint8]],
    digest: str,
    *,
    precision: LowPrecision = "int8",
    form: QDQ = "u8s8",
    kept: Sequence[str] = (),
    cache: Path | None = None,
    progress: Progress = lambda _done, _total: None,
) -> Sensitivity:
    """Quantise one part after the other and compare its mattes with those of float32.

    Parameters
    ----------
    model, ranges
        A float32 graph, and the ranges of its activations.
    images, digest
        To compare on, uint8 ``[N, H, W, 3]``, and of the set that they come from.
    precision, form
        What to bring a part to.
    kept
        Names of nodes that stay in float32 in every part.
    cache
        A JSON file that keeps what is done: the same call goes on after an interruption, and a finished one is read.
        Results of another graph, precision or set in it are replaced.
    progress
        Called with the number of parts that are done and of all.

    Raises
    ------
    InputError
        There are no pictures, or the cache cannot be read as such.
    OutputError
        The cache cannot be written.
    """
    if not images:
        raise InputError("there is no picture to measure the parts with")
    parts = parts_of(model)
    identity = hashlib.sha256(model.SerializeToString(deterministic=True) + "\n".join(kept).encode()).hexdigest()
    empty = Sensitivity(_SCHEMA, precision, form if precision == "int8" else "", identity, len(images), digest, ())
    done = {part.name: part for part in _cached(cache, empty)}
    run = exact_run(model.SerializeToString())
    wanted = [run(image) for image in images] if set(parts) - set(done) else []
    for number, (name, nodes) in enumerate(parts.items()):
        if name not in done:
            if precision == "int8":
                others = [*kept, *(node for part, names in parts.items() if part != name for node in names)]
                changed = quantised(model, ranges, form, others)
            else:
                own = set(nodes) - set(kept)
                changed = half_but(model, [node.name for node in model.graph.node if node.name not in own])
            found = map(exact_run(changed.SerializeToString()), images)
            errors, flips = zip(*(_difference(a, b) for a, b in zip(wanted, found, strict=True)), strict=True)
            figures = np.mean(errors), np.max(errors), np.mean(flips)
            done[name] = RankedPart(name, len(nodes), *map(float, figures))
            if cache is not None:
                _write(cache, empty, done)
        progress(number + 1, len(parts))
    return _with(empty, done)


def ordered(found: Sensitivity, criterion: Criterion) -> tuple[str, ...]:
    """The parts, that first which does most harm; where none flips a pixel, the error decides."""
    parts = found.parts if criterion == "error" else sorted(found.parts, key=lambda part: -part.flips)
    return tuple(part.name for part in parts)


def hardest(
    model: onnx.ModelProto,
    changed: onnx.ModelProto,
    images: Iterable[NDArray[np.uint8]],
    count: int,
    criterion: Criterion,
    progress: Progress = lambda _done, _total: None,
    total: int = 0,
) -> list[NDArray[np.uint8]]:
    """The ``count`` pictures on which a quantised network differs most from the float32 one, the worst first.

    Pixels flip in few pictures, and in most none does: parts compared on any pictures would all look harmless. Where
    the criterion is the same, the error decides. So many ``images``, uint8 ``[N, H, W, 3]``, are in memory at a time;
    ``progress`` is called with the number of those that are done, and ``total``.
    """
    run, other = (exact_run(each.SerializeToString()) for each in (model, changed))
    found: list[tuple[float, float, int, NDArray[np.uint8]]] = []
    for number, image in enumerate(images):
        error, flips = _difference(run(image), other(image))
        found.append((flips if criterion == "flips" else error, error, -number, image))
        found = sorted(found, key=lambda each: each[:3], reverse=True)[:count]
        progress(number + 1, total)
    return [image for *_, image in found]


def _difference(wanted: Outputs, found: Outputs) -> tuple[float, float]:
    """Mean absolute difference of alpha, and the share of pixels that flip."""
    error = float(np.abs(wanted["alpha"] - found["alpha"]).mean(dtype=np.float64))
    before, after = classes_of(wanted), classes_of(found)
    return error, 0.0 if before is None or after is None else flipped(before, after)[0]


def _with(empty: Sensitivity, done: Mapping[str, RankedPart]) -> Sensitivity:
    parts = sorted(done.values(), key=lambda part: (-part.error, part.name))
    return replace(empty, parts=tuple(parts))


def _cached(cache: Path | None, empty: Sensitivity) -> tuple[RankedPart, ...]:
    if cache is None or not cache.exists():
        return ()
    try:
        found = parse_json(read_small(cache), Sensitivity)
    except (OSError, msgspec.MsgspecError) as error:
        raise InputError(f"{cache} cannot be read: {error}", hint="name another file, or delete it") from error
    same = all(
        getattr(found, name) == getattr(empty, name)
        for name in ("schema", "precision", "form", "graph", "pictures", "digest")
    )
    return found.parts if same else ()


def _write(cache: Path, empty: Sensitivity, done: Mapping[str, RankedPart]) -> None:
    atomic_write(cache, msgspec.json.format(msgspec.json.encode(_with(empty, done)), indent=2) + b"\n")
