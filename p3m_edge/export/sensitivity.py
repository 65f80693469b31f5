"""Which parts of a network quantisation hurts: the error of alpha that each part causes when it alone is quantised.

A part is what stands together in the network: a layer of the encoder, a stage or module of a decoder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from p3m_edge.data.parallel import Progress
from p3m_edge.errors import InputError
from p3m_edge.export.precision import only_half
from p3m_edge.export.quantize_onnx import OPERATORS, quantised
from p3m_edge.export.ranges import Range
from p3m_edge.imageio import atomic_write
from p3m_edge.runtimes import onnxrt

Precision = Literal["int8", "fp16"]
_DEPTH = 3  # of module names: network.encoder.layer1
_SCHEMA = 1


@dataclass(frozen=True)
class Part:
    """A part, its weighted nodes, and what quantising it alone does to alpha.

    Attributes
    ----------
    error
        Mean absolute difference of alpha from float32 (0..1), over the pictures.
    worst
        The largest of the pictures' means.
    """

    name: str
    nodes: int
    error: float
    worst: float


@dataclass(frozen=True)
class Sensitivity:
    """All parts, the worst first.

    Attributes
    ----------
    precision, form
        What the parts were brought to; the form of the quantised graph, for ``int8``.
    graph
        SHA-256 of the float32 graph: of another checkpoint, size or architecture it is another one.
    pictures, digest
        How many pictures were looked at, and the digest of their set.
    """

    schema: int
    precision: Precision
    form: str
    graph: str
    pictures: int
    digest: str
    parts: tuple[Part, ...]


def parts_of(model: Any) -> dict[str, tuple[str, ...]]:
    """The nodes with weights of each part, by the part's name, in the graph's order."""
    found: dict[str, list[str]] = {}
    for node in model.graph.node:
        if node.op_type in OPERATORS:
            found.setdefault(part_name(node.name), []).append(node.name)
    return {name: tuple(nodes) for name, nodes in found.items()}


def part_name(node: str) -> str:
    """The part that a node belongs to."""
    return ".".join(node.partition("/")[0].split(".")[:_DEPTH])


def rank(
    model: Any,
    ranges: Mapping[str, Range],
    images: Sequence[NDArray[np.uint8]],
    digest: str,
    *,
    precision: Precision = "int8",
    form: Literal["u8s8", "s8s8"] = "u8s8",
    cache: Path | None = None,
    progress: Progress = lambda _done, _total: None,
) -> Sensitivity:
    """Quantise one part after the other and compare alpha with float32.

    Parameters
    ----------
    model
        A float32 ``onnx.ModelProto``.
    ranges
        Of its activations.
    images
        To compare on, uint8 ``[N, H, W, 3]``.
    digest
        Of the set that they come from.
    precision, form
        What to bring a part to.
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
    identity = hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()
    empty = Sensitivity(_SCHEMA, precision, form if precision == "int8" else "", identity, len(images), digest, ())
    done = {part.name: part for part in _cached(cache, empty)}
    wanted = [_alpha(model)(image) for image in images] if set(parts) - set(done) else []
    for number, (name, nodes) in enumerate(parts.items()):
        if name not in done:
            others = [node for part, names in parts.items() if part != name for node in names]
            changed = _changed(model, ranges, precision, form, nodes, others)
            errors = [_difference(a, b) for a, b in zip(wanted, map(_alpha(changed), images), strict=True)]
            done[name] = Part(name, len(nodes), float(np.mean(errors)), float(np.max(errors)))
            if cache is not None:
                _write(cache, empty, done)
        progress(number + 1, len(parts))
    return _with(empty, done)


def most_sensitive(found: Sensitivity, share: float) -> tuple[str, ...]:
    """The parts, worst first, that together cause at least this share of all parts' errors."""
    total, reached, names = sum(part.error for part in found.parts), 0.0, []
    for part in found.parts:
        if reached >= share * total:
            break
        names.append(part.name)
        reached += part.error
    return tuple(names)


def _changed(
    model: Any, ranges: Mapping[str, Range], precision: Precision, form: Literal["u8s8", "s8s8"],
    nodes: Sequence[str], others: Sequence[str],
) -> Any:  # fmt: skip
    """The model with these nodes alone in lower precision."""
    return quantised(model, ranges, form, others) if precision == "int8" else only_half(model, nodes)


def _alpha(model: Any) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """Images in, alpha out, with basic optimisation: 8-bit products do not saturate, on any processor."""
    onnxruntime = onnxrt.require()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0].name

    def run(image: NDArray[np.uint8]) -> NDArray[np.float32]:
        alpha: NDArray[np.float32] = session.run(["alpha"], {entry: image})[0]
        return alpha

    return run


def _difference(wanted: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    return float(np.abs(wanted - found).mean(dtype=np.float64))


def _with(empty: Sensitivity, done: Mapping[str, Part]) -> Sensitivity:
    ordered = sorted(done.values(), key=lambda part: (-part.error, part.name))
    return replace(empty, parts=tuple(ordered))


def _cached(cache: Path | None, empty: Sensitivity) -> tuple[Part, ...]:
    if cache is None or not cache.exists():
        return ()
    try:
        found = msgspec.json.decode(cache.read_bytes(), type=Sensitivity)
    except (OSError, msgspec.MsgspecError) as error:
        raise InputError(f"{cache} cannot be read: {error}", hint="name another file, or delete it") from error
    same = all(
        getattr(found, name) == getattr(empty, name)
        for name in ("schema", "precision", "form", "graph", "pictures", "digest")
    )
    return found.parts if same else ()


def _write(cache: Path, empty: Sensitivity, done: Mapping[str, Part]) -> None:
    atomic_write(cache, msgspec.json.format(msgspec.json.encode(_with(empty, done)), indent=2) + b"\n")
