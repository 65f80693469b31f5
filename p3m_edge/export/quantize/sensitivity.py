"""Which parts of a network quantisation hurts: what each part does to the mattes when it alone is quantised.

Parts are those of :func:`p3m_edge.export.graph.qdq.parts_of`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray

from p3m_edge.atomic import atomic_write
from p3m_edge.data.parallel import Progress
from p3m_edge.errors import InputError
from p3m_edge.export.formats import format_of
from p3m_edge.export.graph.half import half_but
from p3m_edge.export.graph.qdq import QDQ, depthwise, parts_of, quantised
from p3m_edge.export.graph.ranges import Range
from p3m_edge.export.graph.reference import exact_run
from p3m_edge.export.quantize.accuracy import Criterion, classes_of, flipped
from p3m_edge.export.quantize.calibration import Calibration
from p3m_edge.export.session import ExportSession
from p3m_edge.runtimes.contract import Outputs
from p3m_edge.smallfile import parse_json, read_small
from p3m_edge.targets import Target

LowPrecision = Literal["int8", "fp16"]
_SCHEMA = 2
_LOOKED_AT = 8
"""Calibration pictures that an export compares parts on: those on which the quantised network is furthest off."""


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
    """All parts, the one with the largest error first.

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

    def order(self, criterion: Criterion) -> tuple[str, ...]:
        """The parts' names, the most harmful first; where none flips a pixel, the error decides."""
        parts = self.parts if criterion == "error" else sorted(self.parts, key=lambda part: -part.flips)
        return tuple(part.name for part in parts)


def ranked_parts(
    session: ExportSession, target: Target, calibration: Calibration, criterion: Criterion
) -> Sequence[str]:
    """The parts of the network, ranked by the error that quantising each one alone causes, in ONNX for any format.

    On calibration pictures: those that are measured with decide about the gate alone.
    """
    model, traits = session.graph, format_of(target.engine).traits
    form = traits.qdq or session.request.qdq

    def measure() -> tuple[str, ...]:
        ranges = calibration.ranges("measuring ranges to rank the parts")
        kept = () if traits.grouped else depthwise(model)
        everything = quantised(model, ranges, form, kept)
        progress = calibration.progress("looking for the hardest pictures", limited=True)
        total = len(calibration.pictures)
        images = hardest(model, everything, calibration.images(), _LOOKED_AT, criterion, progress, total)
        digest = hashlib.sha256(b"".join(image.tobytes() for image in images)).hexdigest()
        found = rank(
            model, ranges, images, digest, form=form, kept=kept,
            cache=calibration.attempts.folder / f"parts-{criterion}.json",
            progress=calibration.progress(f"ranking the parts by {criterion}", limited=True),
        )  # fmt: skip
        return found.order(criterion)

    return calibration.attempts.remember(f"order-{criterion}", tuple[str, ...], measure)


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
    precision, form, kept
        What to bring a part to, and the names of nodes that stay in float32 in every part.
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
    found = Sensitivity(_SCHEMA, precision, form if precision == "int8" else "", identity, len(images), digest, ())
    found = _cached(cache, found)
    done = {part.name for part in found.parts}
    run = exact_run(model.SerializeToString())
    wanted = [run(image) for image in images] if parts.keys() - done else []
    for number, (name, nodes) in enumerate(parts.items()):
        if name not in done:
            if precision == "int8":
                others = [*kept, *(node for part, names in parts.items() if part != name for node in names)]
                changed = quantised(model, ranges, form, others)
            else:
                own = set(nodes) - set(kept)
                changed = half_but(model, [node.name for node in model.graph.node if node.name not in own])
            results = map(exact_run(changed.SerializeToString()), images)
            errors, flips = zip(*(_difference(a, b) for a, b in zip(wanted, results, strict=True)), strict=True)
            figures = map(float, (np.mean(errors), np.max(errors), np.mean(flips)))
            ranked = sorted(
                (*found.parts, RankedPart(name, len(nodes), *figures)), key=lambda part: (-part.error, part.name)
            )
            found = replace(found, parts=tuple(ranked))
            if cache is not None:
                atomic_write(cache, msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
        progress(number + 1, len(parts))
    return found


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


def _cached(cache: Path | None, empty: Sensitivity) -> Sensitivity:
    """What a file holds of the same ranking; else the empty one."""
    if cache is None or not cache.exists():
        return empty
    try:
        found = parse_json(read_small(cache), Sensitivity)
    except (OSError, msgspec.MsgspecError) as error:
        raise InputError(f"{cache} cannot be read: {error}", hint="name another file, or delete it") from error
    return found if replace(found, parts=()) == empty else empty
