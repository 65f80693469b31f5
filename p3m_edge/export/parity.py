"""The parity gate: an artefact, run by the runtime that apps use, against the eager deployable module."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p3m_edge import manifest as manifests
from p3m_edge import metrics
from p3m_edge.errors import UsageError, suggestion
from p3m_edge.export.formats import Headroom, format_of
from p3m_edge.export.session import ExportSession
from p3m_edge.manifest import Manifest
from p3m_edge.manifest_schema import ParityItem, ParityRecord
from p3m_edge.runtimes import emulation, golden
from p3m_edge.runtimes.contract import Images
from p3m_edge.targets import FP16, TARGETS, Limits, Target

MINIMUM_HEADROOM = 4.0
"""How many times larger results in half precision could be before one overflows: other pictures have other ranges."""
BETWEEN_PROCESSORS = 2.0
"""How many times the errors of this machine those of another may be, in 8 bits, besides half precision's limits: 1.2
times were the most that sound engines gave, more than 3 times where products saturate (CHANGELOG.md)."""
_LIMITED = ("local_mean", "local_share", "flips", "alpha_mean", "mse", "grad_mean")  # by half precision's limits
_GOLDEN_PICTURES = 2  # the bundled portrait and noise: a user's pictures do not travel with the artefact


def limits(target: Target, overrides: dict[str, float]) -> tuple[Limits, tuple[str, ...]]:
    """The limits to use, and a line for each that is looser than the target's own.

    Raises
    ------
    UsageError
        A limit is unknown, or its value is not positive and finite.
    """
    known = {field.name: getattr(target.limits, field.name) for field in dataclasses.fields(Limits)}
    loosened = []
    for name, value in overrides.items():
        if name not in known:
            raise UsageError(f"unknown parity limit {name!r}", hint=suggestion(name, known))
        if not np.isfinite(value) or value < 0:
            raise UsageError(f"the parity limit {name} must be a number of at least 0, not {value}")
        before = known[name]
        if before is not None and value > before:
            loosened.append(f"{name}: {value:g} instead of {before:g}")
    return dataclasses.replace(target.limits, **overrides), tuple(loosened)


def write_golden(session: ExportSession, folder: Path) -> None:
    """Write ``golden.npz``: network inputs and the reference outputs, for any runtime to test itself with."""
    names = session.outputs
    arrays: dict[str, NDArray[np.generic]] = {}
    pairs = (
        pair
        for each in session.by_size
        for pair in list(zip(each.network_images(), each.references, strict=True))[:_GOLDEN_PICTURES]
    )
    for index, (image, reference) in enumerate(pairs):
        arrays[f"image_{index}"] = image
        arrays |= {f"{name}_{index}": reference[name] for name in names}
    np.savez_compressed(folder / manifests.GOLDEN, allow_pickle=False, **arrays)


def check(
    session: ExportSession, manifest: Manifest, folder: Path, gate: Limits, loosened: tuple[str, ...]
) -> ParityRecord:
    """Run every parity picture through the artefact in ``folder`` and hold the differences against the limits.

    Every size is held against them, and where mattes are smoothed, also frames in a row. The limits of the record are
    those that the artefact has to keep from then on; in 8 bits they are narrower (:func:`lasting_limits`).
    """
    differences, items = [], []
    headroom = Headroom()
    open_for_verification = format_of(manifest.engine.name).open_for_verification
    for each, sized in zip(session.by_size, manifest.by_size(), strict=True):
        pictures: list[tuple[str, Images, golden.Arrays]] = [
            (picture.name, image, {name: reference[name] for name in session.outputs})
            for picture, image, reference in zip(each.pictures, each.network_images(), each.references, strict=True)
        ]
        with open_for_verification(sized, folder, headroom, sequence=True) as engine:
            for name, wanted, found in golden.inferences(sized, pictures, engine):
                difference = golden.compare(name, wanted, found, gate.pixel_tolerance)
                differences.append(difference)
                items.append(_item(difference, wanted["alpha"][0, 0], found["alpha"][0, 0]))
    verdict = golden.judge(tuple(differences), gate)
    failures = verdict.failures
    if headroom.value is not None and not headroom.value >= MINIMUM_HEADROOM:
        failures += (
            f"{headroom.at}: {headroom.value:.2g} times its result overflows half precision, and other pictures may "
            f"give more: wanted is {MINIMUM_HEADROOM:g}",
        )
    kept = gate if failures else lasting_limits(TARGETS[manifest.target], gate, verdict.items)
    return ParityRecord(not failures, kept, tuple(items), failures, loosened, headroom.value)


def lasting_limits(target: Target, gate: Limits, items: tuple[golden.Difference, ...]) -> Limits:
    """What an artefact that passed the gate has to keep on any machine: in 8 bits, not much more than its own errors.

    The gate of 8 bits takes all sound networks, and also an engine that swaps red and blue or moves the channels of one
    convolution. Where the engine is not one for processors, the gate stays: how much errors differ there is not known.
    """
    if not target.needs_calibration or target.engine not in emulation.ENGINES:
        return gate
    worst, narrower = golden.worst(items), dict[str, float]()
    for error in worst.keys() & _LIMITED:
        name = "pixel_share" if error == "local_share" else error
        most, before = BETWEEN_PROCESSORS * worst[error] + getattr(FP16, name), getattr(gate, name)
        narrower[name] = most if before is None else min(before, most)
    return dataclasses.replace(gate, **narrower)


def _item(difference: golden.Difference, wanted: NDArray[np.float32], found: NDArray[np.float32]) -> ParityItem:
    # A broken artefact may give anything; the measures are defined for 0..1.
    found = np.clip(np.nan_to_num(found), 0.0, 1.0)
    measures = metrics.evaluate(found, np.clip(wanted, 0.0, 1.0))
    return ParityItem(
        **dataclasses.asdict(difference),
        sad=measures["SAD"],
        grad=measures["GRAD"],
        conn=measures["CONN"],
    )
