"""Options of ``export``: targets, limits, and what concerns some targets; named as the fields of ``ExportRequest``."""

from __future__ import annotations

import argparse
import importlib.util
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from p3m_edge import targets
from p3m_edge.cli.options import fill, given, option
from p3m_edge.cli.options.values import Size, natural, real, size
from p3m_edge.errors import MissingError, UsageError, suggestion
from p3m_edge.manifest_schema import Compatibility, Flavour, Form, ProfileRecord
from p3m_edge.runtimes.engines.tensorrt.options import CURRENT, BuildOptions
from p3m_edge.targets import SYSTEMS, TARGETS, Limits, Target

_SYSTEMS = {f"iOS{release}": release for release in SYSTEMS} | {name: release for release, name in SYSTEMS.items()}
"""The names of systems, and the release of iOS of the same year."""
_Rule = tuple[str, str, Callable[[Target], bool]]
_INT8: _Rule = ("INT8 targets", "onnx-int8", lambda target: target.needs_calibration or target.weight_only)
_ONLY_FOR: dict[str, _Rule] = {
    "Int8": ("calibrated INT8 targets", "onnx-int8", lambda target: target.needs_calibration),
    "TensorRT": ("TensorRT targets", "trt-fp16", lambda target: target.engine == "tensorrt"),
    "qdq": ("onnx-int8", "onnx-int8", lambda target: target.name == "onnx-int8"),
    "measuring": _INT8, "seed": _INT8, "max_drop": _INT8,
}  # fmt: skip
"""For which targets the options of a class are, or one of them by its name: in words, for example, and the rule."""


def buildable(target: Target) -> bool:
    """Whether the packages that build the target are installed (they are not imported)."""
    return all(importlib.util.find_spec(name) is not None for name in ("torch", *target.build_modules))


def target_names(values: Iterable[str]) -> tuple[str, ...]:
    """Target names from repeated, comma-separated values; ``all`` means those that this machine can build.

    Experimental ones are built only when they are named. :class:`UsageError`: a name is unknown, or there is none;
    :class:`MissingError`: ``all`` finds none.
    """
    names = [name.strip() for value in values for name in value.split(",") if name.strip()]
    if not names:
        raise UsageError("no target was named", hint="for example --target onnx-fp32,openvino-fp16")
    here = [t.name for t in TARGETS.values() if "all" in names and not t.experimental and buildable(t)]
    if "all" in names and not here:
        hint = 'pip install "p3m-edge[torch,onnx,openvino]"; see: p3m-edge doctor'
        raise MissingError("no target can be built on this machine", hint=hint)
    return tuple(
        dict.fromkeys(each for name in names for each in (here if name == "all" else [targets.get(name).name]))
    )


def limit(text: str) -> tuple[str, float]:
    """Parse ``NAME=VALUE``, a parity limit: a name of :class:`Limits` and a number >= 0."""
    name, separator, value = text.partition("=")
    name, example = name.strip().replace("-", "_"), "for example --limit flips=0.001"
    known = [field.name for field in fields(Limits)]
    if not separator:
        raise UsageError(f"limit {text!r} is not NAME=VALUE", hint=example)
    if name not in known:
        raise UsageError(f"unknown limit {name!r}", hint=suggestion(name, known))
    try:
        return name, real("a number >= 0", lambda number: 0 <= number < math.inf)(value)
    except argparse.ArgumentTypeError as error:
        raise UsageError(f"limit {name}: {error}", hint=example) from None


def sizes(text: str) -> tuple[Size, ...]:
    """Parse ``WIDTHxHEIGHT,WIDTHxHEIGHT,...``: two or more."""
    found = tuple(size(part) for part in text.split(","))
    if len(found) < 2:
        raise UsageError(f"{text!r} is one size, and a package has one function for it", hint=f"--size {found[0]}")
    return found


def deployment_target(text: str) -> int:
    """Parse the name of a system, or a release of iOS: ``iOS17``, ``17``, ``macOS14``."""
    name = text.strip().lower()
    known = {system.lower(): release for system, release in _SYSTEMS.items()}
    release = known.get(f"ios{name}", known.get(name))
    if release is None:
        hint = f"choose from: {', '.join(_SYSTEMS)}; what they run, newer ones run too"
        raise UsageError(f"{text!r} is no deployment target", hint=hint)
    return release


def capabilities(text: str) -> tuple[str, ...]:
    """Parse compute capabilities, with commas between them: ``86``, ``8.6`` and ``sm_86`` are one and the same."""
    found = []
    for part in text.split(","):
        name = part.strip().lower()
        match = re.fullmatch(r"(?:sm_?)?([1-9]\d?)\.?(\d)", name)
        if match is None and name != CURRENT:
            raise UsageError(f"{part!r} is no compute capability", hint="for example --sm 86,89,120")
        found.append(f"{match[1]}.{match[2]}" if match else CURRENT)
    if len(found) > 1 and CURRENT in found:
        raise UsageError(f"--sm {CURRENT} goes alone", hint="name the compute capabilities, or leave them out")
    return tuple(dict.fromkeys(found))


def check_targets(options: Int8 | TensorRT, names: Iterable[str]) -> None:
    """Refuse, by a :class:`UsageError`, an option that means nothing to any of the targets with these names."""
    for name, flag in given(options):
        what, example, fits = _ONLY_FOR.get(name, _ONLY_FOR[type(options).__name__])
        if not any(fits(targets.get(target)) for target in names):
            hint = f"leave it out, or add for example --target {example}"
            raise UsageError(f"{flag} is for {what}, not for {', '.join(names)}", hint=hint)


@dataclass(frozen=True)
class CoreML:
    """For which systems, and what comes out."""

    minimum_ios: int | None = option(
        f"the oldest system that must run it: {', '.join(_SYSTEMS)} (default: the oldest that can, iOS16)",
        flag="--deployment-target", metavar="SYSTEM", parse=deployment_target,
    )  # fmt: skip
    alpha: Form | None = option(
        "alpha as an image in half precision (default), or as a multi-array (default of coreml-fp32)"
    )
    smoothing: float | None = option(
        "smooth the mattes of a video by a state (iOS18): WEIGHT of the matte before in the next, above 0 up to "
        f"{targets.MAX_SMOOTHING:g} (default: {targets.SMOOTHING:g})",
        flag="--temporal", metavar="WEIGHT", nargs="?", const=targets.SMOOTHING,
        parse=real(f"a weight above 0, such as {targets.SMOOTHING:g}", lambda value: not math.isnan(value)),
    )  # fmt: skip


@dataclass(frozen=True)
class Int8:
    """What INT8 is calibrated and judged with."""

    calibration: Path | None = option(
        "portraits to calibrate with: a folder or a data set (default: synthetic ones, no proof for photographs)",
        flag="--calib", metavar="DIR",
    )  # fmt: skip
    calibration_count: int | None = option(
        f"how many of them, 32 or more (default: {targets.CALIBRATION_PICTURES})", flag="--calib-count"
    )
    measuring: Path | None = option(
        "a data set, or portraits without mattes, to judge with; not those of --calib (default: synthetic ones)",
        flag="--measure", metavar="DIR",
    )  # fmt: skip
    seed: int | None = option("of the choice (default: 0)", metavar="N", parse=natural)
    max_drop: float | None = option(
        f"by which share the SAD of the measuring pictures may rise (default: {targets.MAX_DROP:g}); above 0.1, GRAD "
        "and dtSSD may rise as much",
        metavar="SHARE", parse=real("a share of 0 or more, such as 0.05", lambda value: 0 <= value < 10),
    )  # fmt: skip
    qdq: Literal["u8s8", "s8s8"] | None = option(
        "form of onnx-int8: u8s8 for x86 processors (default), s8s8 as TensorRT takes it"
    )
    budget: float | None = option(
        f"how long to look for an artefact that meets the gate, for each target (default: {targets.BUDGET_MINUTES:g}); "
        "what was found by then is kept, and the same line with more goes on",
        metavar="MINUTES", parse=real("a number of minutes above 0", lambda value: 0 < value < math.inf),
    )  # fmt: skip
    attempts: int | None = option(f"in how many attempts (default: {targets.ATTEMPTS})")


@dataclass(frozen=True)
class Engine:
    """For which GPUs and sizes, and how."""

    flavour: Flavour | None = option("the builder (default: TensorRT where it and a GPU are, else TensorRT for RTX)")
    compute_capabilities: tuple[str, ...] | None = option(
        "build ahead of time for GPUs of these compute capabilities, such as 86,89,120 (TensorRT for RTX; default: the "
        f"GPU that is here, or without one all that the builder knows); {CURRENT}: for the GPU here, even if it is not "
        "known",
        flag="--sm", metavar="SM,...", parse=capabilities,
    )  # fmt: skip
    minimum: Size | None = option("smallest frame of a dynamic artefact", flag="--min")
    optimum: Size | None = option("tuned-for frame of a dynamic artefact", flag="--opt")
    maximum: Size | None = option("largest frame of a dynamic artefact", flag="--max")
    hardware_compatibility: Compatibility | None = option(
        "run on more GPUs, and slower: those of the same compute capability, or Ampere and newer (TensorRT; default: "
        "none)",
        flag="--hw-compat",
    )
    version_compatible: bool | None = option(
        "run on newer versions as well; the engine then holds code that its user must trust (TensorRT)",
        flag="--version-compat",
    )
    level: Literal[0, 1, 2, 3, 4, 5] | None = option(
        "how long to look for fast kernels (default: the builder's own)", flag="--opt-level"
    )
    workspace_mb: int | None = option("limit of the GPU's memory for the build", flag="--workspace", metavar="MB")
    timing_cache: Path | None = option(
        "what the builder measured, for faster builds (TensorRT; default: a file in p3m-edge's cache)"
    )

    def options(self) -> BuildOptions:
        """As the builder names them. :class:`UsageError`: some of --min, --opt and --max are missing."""
        low, best, high = self.minimum, self.optimum, self.maximum
        if low and best and high:
            return fill(BuildOptions, self, profile=ProfileRecord(low, best, high))
        missing = [name for name, size in {"--min": low, "--opt": best, "--max": high}.items() if size is None]
        if len(missing) < 3:
            raise UsageError(f"{', '.join(missing)} is missing", hint="--min, --opt and --max go together")
        return fill(BuildOptions, self)


@dataclass(frozen=True)
class TensorRT(Engine):
    """The engine, and the options that ``export`` alone has."""

    require_engine: bool | None = option(
        "without a builder that can do it, fail; else the artefact has the typed ONNX, to build on the device"
    )
    half: Literal["own", "autocast"] | None = option(
        "what chooses the nodes in half precision of trt-fp16: our own analysis (default), or NVIDIA's AutoCast",
        flag="--fp16-backend",
    )
