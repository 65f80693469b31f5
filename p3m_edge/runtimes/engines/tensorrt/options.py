"""The options of a TensorRT build, their checks, and the commands that build with them."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from p3m_edge import arguments
from p3m_edge.errors import UsageError, one_of, shown
from p3m_edge.manifest import PLACE, TYPED, Manifest
from p3m_edge.manifest_schema import Compatibility, Flavour, InputRecord, ProfileRecord
from p3m_edge.runtimes.cuda import Driver, Gpu
from p3m_edge.runtimes.engines.tensorrt.library import NAMES

CURRENT = "current"
"""In place of a compute capability: the GPU that is here, whether the builder knows it or not."""
MAX_SIDE = 8192
LEVELS = range(6)
"""The builder's optimisation levels."""
_TRTEXEC: dict[Compatibility, str] = {"same-cc": "sameComputeCapability", "ampere+": "ampere+"}


@dataclass(frozen=True)
class Builder:
    """A builder of engines, and what it can do on this machine.

    Attributes
    ----------
    flavour, version
        Which one; ``version`` is None where it cannot be imported.
    compute_capabilities
        Of the GPUs that it builds for ahead of time, without one; TensorRT builds for the GPU that is here.
    driver
        NVIDIA's driver, and the GPUs that are here.
    no_gpu
        Why there are none.
    problem
        Why it cannot build; None: it can.
    """

    flavour: Flavour
    version: str | None = None
    compute_capabilities: tuple[str, ...] = ()
    driver: Driver | None = None
    no_gpu: str | None = None
    problem: str | None = None

    @property
    def gpu(self) -> Gpu | None:
        """The GPU that it builds for if nothing else is said, the first."""
        return self.driver.gpus[0] if self.driver else None


@dataclass(frozen=True)
class BuildOptions:
    """How to build an engine.

    Attributes
    ----------
    flavour
        The builder; None: TensorRT where it and a GPU are, else TensorRT for RTX.
    compute_capabilities
        ``8.6``, ...: build ahead of time for these GPUs (TensorRT for RTX alone); empty: for the GPU that is here, or
        without one for all that the builder knows. ``current``: for the GPU that is here, known or not.
    profile
        The sizes of a dynamic artefact.
    hardware_compatibility, version_compatible
        Let it run on more GPUs, or on newer versions, at a cost in speed (TensorRT alone).
    level
        0..5, of the builder's optimisation; None: the builder's own.
    workspace_mb
        Limit of the memory for the build; None: the builder's own.
    timing_cache
        Keeps what the builder measured, so that the next build is faster (TensorRT alone); None: a file in the folder
        of :mod:`p3m_edge.runtimes.cache`.

    Raises
    ------
    UsageError
        One of them is of another type or an impossible value.
    """

    flavour: Flavour | None = None
    compute_capabilities: tuple[str, ...] = ()
    profile: ProfileRecord | None = None
    hardware_compatibility: Compatibility = "none"
    version_compatible: bool = False
    level: int | None = None
    workspace_mb: int | None = None
    timing_cache: Path | None = None

    def __post_init__(self) -> None:
        if self.flavour is not None:
            one_of("flavour", self.flavour, get_args(Flavour))
        one_of("hardware compatibility", self.hardware_compatibility, get_args(Compatibility))
        arguments.switch("version_compatible", self.version_compatible)
        capabilities = self.compute_capabilities
        if not isinstance(capabilities, tuple) or not all(isinstance(each, str) for each in capabilities):
            raise UsageError(f"compute capabilities are a tuple of texts, not {shown(capabilities)}")
        if self.profile is not None:
            arguments.instance("a profile", self.profile, ProfileRecord)
        if self.level is not None:
            arguments.count("the optimisation level", self.level, LEVELS[0], LEVELS[-1])
        if self.workspace_mb is not None:
            arguments.count("a workspace in MB", self.workspace_mb, 1)
        if self.timing_cache is not None:
            object.__setattr__(self, "timing_cache", arguments.path("timing_cache", self.timing_cache))


def check_profile(profile: ProfileRecord | None, frame: InputRecord) -> None:
    """Raise ``UsageError`` where sizes are missing or not wanted, out of order, or no multiples of the network's."""
    if profile is None:
        if frame.height is None:
            raise UsageError(
                "an engine of an artefact with an open size is built for sizes from one to another",
                hint="for example --min 256x256 --opt 512x512 --max 1024x1024",
            )
        return
    if frame.height is not None:
        raise UsageError(
            f"the artefact has the fixed size {frame.width}x{frame.height}, and takes no others",
            hint="leave out --min, --opt and --max, or export with --dynamic",
        )
    sizes = {"--min": profile.minimum, "--opt": profile.optimum, "--max": profile.maximum}
    for index, side in enumerate(("width", "height")):
        values = [size[index] for size in sizes.values()]
        for option, value in zip(sizes, values, strict=True):
            if not 0 < value <= MAX_SIDE or value % frame.multiple_of:
                raise UsageError(
                    f"{option}: the {side} {value} must be a multiple of {frame.multiple_of} up to {MAX_SIDE}"
                )
        if values != sorted(values):
            raise UsageError(f"the {side} must not fall from --min to --opt to --max: {', '.join(map(str, values))}")


def check_options(flavour: Flavour, options: BuildOptions) -> None:
    """Raise ``UsageError`` for an option that the builder does not have."""
    asked = {
        "--hw-compat": ("tensorrt", options.hardware_compatibility != "none"),
        "--version-compat": ("tensorrt", options.version_compatible),
        "--timing-cache": ("tensorrt", options.timing_cache is not None),
        "--sm": ("tensorrt-rtx", bool(options.compute_capabilities)),
    }
    for option, (owner, wanted) in asked.items():
        if wanted and owner != flavour:
            (other,) = set(NAMES) - {flavour}
            raise UsageError(f"{NAMES[flavour]} has no {option}: {NAMES[other]} has", hint=f"leave out {option}")


def shapes(profile: ProfileRecord, frame: InputRecord) -> list[tuple[int, ...]]:
    """The shapes of the input, ``[N, H, W, 3]``: smallest, tuned for, largest."""
    sizes = (profile.minimum, profile.optimum, profile.maximum)
    return [(frame.batch, height, width, 3) for width, height in sizes]


def commands(manifest: Manifest, options: BuildOptions, folder: str = PLACE) -> tuple[str, ...]:
    """The commands that build the engine on the device: ours, and trtexec's, whose engine is for other programs."""
    own, foreign = ["p3m-edge", "build", folder], ["trtexec", f"--onnx={folder}/{TYPED}"]
    foreign += ["--saveEngine=model.engine", "--stronglyTyped"]
    if manifest.engine.status == "built":
        own.append("--force")
    if options.flavour is not None:
        own += ["--flavour", options.flavour]
    if options.profile is not None:
        for name, (batch, height, width, channels) in zip(
            ("min", "opt", "max"), shapes(options.profile, manifest.input), strict=True
        ):
            own += [f"--{name}", f"{width}x{height}"]
            foreign.append(f"--{name}Shapes={manifest.input.name}:{batch}x{height}x{width}x{channels}")
    more = options.hardware_compatibility
    for asked, ours, theirs in (
        (more != "none", ["--hw-compat", more], f"--hardwareCompatibilityLevel={_TRTEXEC.get(more)}"),
        (options.version_compatible, ["--version-compat"], "--versionCompatible"),
        (options.level is not None, ["--opt-level", f"{options.level}"], f"--builderOptimizationLevel={options.level}"),
        (
            options.workspace_mb,
            ["--workspace", f"{options.workspace_mb}"],
            f"--memPoolSize=workspace:{options.workspace_mb}",
        ),
    ):
        if asked:
            own += ours
            foreign.append(theirs)
    lines = (own,) if options.flavour == "tensorrt-rtx" else (own, foreign)
    return tuple(shlex.join(line) for line in lines)
