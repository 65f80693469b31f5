"""What ``export`` is told: targets, limits, and what concerns some targets; fields are those of ``ExportRequest``."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from p3m_edge import targets
from p3m_edge.cli.options.arguments import given, option
from p3m_edge.cli.options.tensorrt import Engine
from p3m_edge.cli.options.values import Size, natural, real, size
from p3m_edge.errors import MissingError, UsageError, suggestion
from p3m_edge.manifest_schema import Form
from p3m_edge.targets import (
    ATTEMPTS,
    BUDGET_MINUTES,
    CALIBRATION_PICTURES,
    MAX_DROP,
    MAX_SMOOTHING,
    SMOOTHING,
    SYSTEMS,
    TARGETS,
    Limits,
    Target,
)

_SYSTEMS = {f"iOS{release}": release for release in SYSTEMS} | {name: release for release, name in SYSTEMS.items()}
"""The names of systems, and the release of iOS of the same year."""
_WITHOUT_CALIBRATION = ("measuring", "seed", "max_drop")
"""Options of INT8 that also mean something where the weights alone have fewer bits."""


def buildable(target: Target) -> bool:
    """Whether the packages that build the target are installed (they are not imported)."""
    return all(importlib.util.find_spec(name) is not None for name in ("torch", *target.build_modules))


def target_names(values: Iterable[str]) -> tuple[str, ...]:
    """Target names from repeated, comma-separated values; ``all`` means those that this machine can build.
    Experimental ones are built only when they are named.

    Raises
    ------
    UsageError
        A name is unknown, or there is none.
    MissingError
        ``all`` finds none that can be built here.
    """
    names = [name.strip() for value in values for name in value.split(",") if name.strip()]
    if not names:
        raise UsageError("no target was named", hint="for example --target onnx-fp32,openvino-fp16")
    here: list[str] = []
    if "all" in names:
        here = [t.name for t in TARGETS.values() if not t.experimental and buildable(t)]
        if not here:
            raise MissingError(
                "no target can be built on this machine",
                hint='pip install "p3m-edge[torch,onnx,openvino]"; see: p3m-edge doctor',
            )
    return tuple(
        dict.fromkeys(each for name in names for each in (here if name == "all" else [targets.get(name).name]))
    )


def limit(text: str) -> tuple[str, float]:
    """Parse ``NAME=VALUE``, a parity limit.

    Raises
    ------
    UsageError
        The name is not a limit's, or the value is not a number >= 0.
    """
    name, separator, value = text.partition("=")
    name = name.strip().replace("-", "_")
    known = [field.name for field in fields(Limits)]
    if not separator:
        raise UsageError(f"limit {text!r} is not NAME=VALUE", hint="for example --limit flips=0.001")
    if name not in known:
        raise UsageError(f"unknown limit {name!r}", hint=suggestion(name, known))
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise UsageError(f"limit {name}: {value!r} is not a number >= 0", hint="for example --limit flips=0.001")
    return name, number


def sizes(text: str) -> tuple[Size, ...]:
    """Parse ``WIDTHxHEIGHT,WIDTHxHEIGHT,...``: two or more.

    Raises
    ------
    UsageError
        One of them is no size, or there is one alone.
    """
    found = tuple(size(part) for part in text.split(","))
    if len(found) < 2:
        raise UsageError(f"{text!r} is one size, and a package has one function for it", hint=f"--size {found[0]}")
    return found


def deployment_target(text: str) -> int:
    """Parse the name of a system, or a release of iOS: ``iOS17``, ``17``, ``macOS14``.

    Raises
    ------
    UsageError
        Another one.
    """
    name = text.strip()
    known = {system.lower(): release for system, release in _SYSTEMS.items()}
    release = known.get(f"ios{name}", known.get(name.lower()))
    if release is None:
        raise UsageError(
            f"{text!r} is no deployment target",
            hint=f"choose from: {', '.join(_SYSTEMS)}; what they run, newer ones run too",
        )
    return release


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
        f"{MAX_SMOOTHING:g} (default: {SMOOTHING:g})",
        flag="--temporal", metavar="WEIGHT", nargs="?", const=SMOOTHING,
        parse=real(f"a weight above 0, such as {SMOOTHING:g}", lambda value: not math.isnan(value)),
    )  # fmt: skip


@dataclass(frozen=True)
class Int8:
    """What INT8 is calibrated and judged with."""

    calibration: Path | None = option(
        "portraits to calibrate with: a folder or a data set (default: synthetic ones, no proof for photographs)",
        flag="--calib", metavar="DIR",
    )  # fmt: skip
    calibration_count: int | None = option(
        f"how many of them, 32 or more (default: {CALIBRATION_PICTURES})", flag="--calib-count"
    )
    measuring: Path | None = option(
        "a data set, or portraits without mattes, to judge with; not those of --calib (default: synthetic ones)",
        flag="--measure", metavar="DIR",
    )  # fmt: skip
    seed: int | None = option("of the choice (default: 0)", metavar="N", parse=natural)
    max_drop: float | None = option(
        f"by which share the SAD of the measuring pictures may rise (default: {MAX_DROP:g}); above 0.1, GRAD and dtSSD "
        "may rise as much",
        metavar="SHARE", parse=real("a share of 0 or more, such as 0.05", lambda value: 0 <= value < 10),
    )  # fmt: skip
    qdq: Literal["u8s8", "s8s8"] | None = option(
        "form of onnx-int8: u8s8 for x86 processors (default), s8s8 as TensorRT takes it"
    )
    budget: float | None = option(
        f"how long to look for an artefact that meets the gate, for each target (default: {BUDGET_MINUTES:g}); what "
        "was found by then is kept, and the same line with more goes on",
        metavar="MINUTES", parse=real("a number of minutes above 0", lambda value: 0 < value < math.inf),
    )  # fmt: skip
    attempts: int | None = option(f"in how many attempts (default: {ATTEMPTS})")

    def check(self, names: Iterable[str]) -> None:
        """Refuse an option that means nothing to any of the targets with these names.

        Raises
        ------
        UsageError
            There is one.
        """
        chosen = [targets.get(name) for name in names]
        measured = [target.name for target in chosen if target.needs_calibration or target.weight_only]
        calibrated = [target.name for target in chosen if target.needs_calibration]
        for name, flag in given(self):
            if not measured:
                raise UsageError(
                    f"{flag} is for INT8 targets, and none was named", hint="for example --target onnx-int8"
                )
            if name not in _WITHOUT_CALIBRATION and not calibrated:
                text = f"{flag} is for targets that are calibrated, not for {', '.join(measured)}"
                raise UsageError(text, hint=f"leave out {flag}")
            if name == "qdq" and "onnx-int8" not in calibrated:
                raise UsageError(f"{flag} is for onnx-int8, not for {', '.join(calibrated)}", hint=f"leave out {flag}")


@dataclass(frozen=True)
class TensorRT(Engine):
    """The engine, and what ``export`` alone is told."""

    require_engine: bool | None = option(
        "without a builder that can do it, fail; else the artefact has the typed ONNX, to build on the device"
    )
    half: Literal["own", "autocast"] | None = option(
        "what chooses the nodes in half precision of trt-fp16: our own analysis (default), or NVIDIA's AutoCast",
        flag="--fp16-backend",
    )

    def check(self, names: Iterable[str]) -> None:
        """Refuse an option where none of the targets with these names is for TensorRT.

        Raises
        ------
        UsageError
            There is one.
        """
        flag = next((flag for _, flag in given(self)), None)
        if flag is not None and not any(targets.get(name).engine == "tensorrt" for name in names):
            raise UsageError(
                f"{flag} is for TensorRT targets, and none was named", hint="for example --target trt-fp16"
            )
