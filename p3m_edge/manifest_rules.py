"""What the fields of a manifest must have to do with each other, so that no reader meets an artefact that is none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from p3m_edge.errors import shown, suggestion
from p3m_edge.records import MAX_INPUT_PIXELS, InputRecord
from p3m_edge.targets import TARGETS

if TYPE_CHECKING:
    from p3m_edge.manifest import Manifest

_CHANNELS = {"alpha": 1, "local_alpha": 1, "global_logits": 3}
_VERSION = re.compile(r"\d{1,9}(\.\d{1,9}){0,5}([^\d\s]\S{0,63})?")
_MAX_STEP = 8192


def problems(manifest: Manifest) -> Iterator[str]:
    """What is impossible about a manifest, a sentence for each."""
    yield from _target(manifest)
    yield from _input(manifest.input)
    names = [output.name for output in manifest.outputs]
    if "alpha" not in names or len(set(names)) < len(names):
        yield f"its outputs are {', '.join(names) or 'none'}, and one of them must be alpha"
    for output in manifest.outputs:
        if output.channels != _CHANNELS[output.name]:
            yield f"its output {output.name} has {output.channels} channels, not {_CHANNELS[output.name]}"
    if manifest.functions and manifest.function is None:
        yield "none of its functions takes its input"
    for sized in manifest.by_size()[1:]:
        yield from _input(sized.input)
    if manifest.parity is not None and manifest.parity.passed and manifest.parity.failures:
        yield f"its parity gate passed, and failed: {manifest.parity.failures[0]}"


def _target(manifest: Manifest) -> Iterator[str]:
    """Whether engine, precision and model file are those of the target."""
    target = TARGETS.get(manifest.target)
    if target is None:
        yield f"there is no target {shown(manifest.target)}: {suggestion(manifest.target, TARGETS)}"
        return
    said = {"engine": manifest.engine.name, "precision": manifest.precision, "model file": manifest.model_file}
    meant = {"engine": target.engine, "precision": target.precision, "model file": target.model_file}
    for what, value in said.items():
        if value != meant[what]:
            yield f"the {what} of {target.name} is {meant[what]}, not {shown(value)}"
    if not _VERSION.fullmatch(manifest.engine.minimum_version):
        yield f"its oldest engine {shown(manifest.engine.minimum_version)} is no version"


def _input(frame: InputRecord) -> Iterator[str]:
    """Whether there are frames that fit."""
    step = frame.multiple_of
    if not 1 <= step <= _MAX_STEP:
        yield f"its sides are multiples of {step}, which must be 1 to {_MAX_STEP}"
        return
    sides = {"width": frame.width, "height": frame.height}
    for name, side in sides.items():
        if side is not None and (side < 1 or side % step):
            yield f"its {name} {side} is no positive multiple of {step}"
    pixels = frame.batch * (frame.width or step) * (frame.height or step)
    if frame.batch < 1 or pixels > MAX_INPUT_PIXELS:
        yield f"its batch of {frame.batch} frames is not one of 1 to {MAX_INPUT_PIXELS:,} pixels"
