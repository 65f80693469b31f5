"""How a TensorRT engine is to be built: the options, whether they fit, and the lines that build it so."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from p3m_edge.errors import UsageError, one_of, shown
from p3m_edge.manifest import PLACE, TYPED, Manifest
from p3m_edge.records import Compatibility, Flavour, InputRecord, ProfileRecord
from p3m_edge.runtimes import options as given
from p3m_edge.runtimes.tensorrt_fit import NAMES
from p3m_edge.runtimes.tensorrt_messages import Shapes

MAX_SIDE = 8192
LEVELS = range(6)
"""The builder's optimisation levels."""
_TRTEXEC: dict[Compatibility, str] = {"same-cc": "sameComputeCapability", "ampere+": "ampere+"}


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
        given.switch("version_compatible", self.version_compatible)
        capabilities = self.compute_capabilities
        if not isinstance(capabilities, tuple) or not all(isinstance(each, str) for each in capabilities):
            raise UsageError(f"compute capabilities are a tuple of texts, not {shown(capabilities)}")
        if self.profile is not None and not isinstance(self.profile, ProfileRecord):
            raise UsageError(f"a profile is a ProfileRecord, not {shown(self.profile)}")
        if self.level is not None and given.whole(self.level) not in LEVELS:
            raise UsageError(f"the optimisation level is {LEVELS[0]} to {LEVELS[-1]}, not {shown(self.level)}")
        if self.workspace_mb is not None and (given.whole(self.workspace_mb) or 0) < 1:
            raise UsageError(f"a workspace has at least 1 MB, not {shown(self.workspace_mb)}")
        if self.timing_cache is not None:
            object.__setattr__(self, "timing_cache", given.path("timing_cache", self.timing_cache))


def check_profile(profile: ProfileRecord | None, frame: InputRecord) -> None:
    """Whether the sizes fit the input of an artefact.

    Raises
    ------
    UsageError
        They are missing or not wanted, out of order, or not multiples of what the network takes.
    """
    dynamic = frame.height is None
    if profile is None:
        if dynamic:
            raise UsageError(
                "an engine of an artefact with an open size is built for sizes from one to another",
                hint="for example --min 256x256 --opt 512x512 --max 1024x1024",
            )
        return
    if not dynamic:
        raise UsageError(
            f"the artefact has the fixed size {frame.width}x{frame.height}, and takes no others",
            hint="leave out --min, --opt and --max, or export with --dynamic",
        )
    named = {"--min": profile.minimum, "--opt": profile.optimum, "--max": profile.maximum}
    for option, (width, height) in named.items():
        for side, value in (("width", width), ("height", height)):
            if not 0 < value <= MAX_SIDE or value % frame.multiple_of:
                raise UsageError(
                    f"{option}: the {side} {value} must be a multiple of {frame.multiple_of} up to {MAX_SIDE}"
                )
    for index, side in enumerate(("width", "height")):
        values = [size[index] for size in named.values()]
        if values != sorted(values):
            raise UsageError(f"the {side} must not fall from --min to --opt to --max: {', '.join(map(str, values))}")


def check_options(flavour: Flavour, options: BuildOptions) -> None:
    """Whether a builder has what the options ask for.

    Raises
    ------
    UsageError
        It has not.
    """
    unknown: dict[str, bool] = {}
    if flavour == "tensorrt-rtx":
        unknown = {
            "--hw-compat": options.hardware_compatibility != "none",
            "--version-compat": options.version_compatible,
            "--timing-cache": options.timing_cache is not None,
        }
    elif options.compute_capabilities:
        unknown = {"--sm": True}
    for option, asked in unknown.items():
        if asked:
            (other,) = set(NAMES) - {flavour}
            raise UsageError(f"{NAMES[flavour]} has no {option}: {NAMES[other]} has", hint=f"leave out {option}")


def shapes(profile: ProfileRecord | None, frame: InputRecord) -> Shapes | None:
    """Those of the input, ``[N, H, W, 3]``; None: it has one."""
    if profile is None:
        return None
    sizes = (profile.minimum, profile.optimum, profile.maximum)
    return Shapes(*((frame.batch, height, width, 3) for width, height in sizes))


def commands(manifest: Manifest, options: BuildOptions, folder: str = PLACE) -> tuple[str, ...]:
    """Lines that build the engine on the device: our own, and trtexec's.

    ``folder`` is the artefact's. What trtexec writes is an engine for other programs: an artefact lists its files.
    """
    own, foreign = ["p3m-edge", "build", folder], ["trtexec", f"--onnx={folder}/{TYPED}"]
    foreign += ["--saveEngine=model.engine", "--stronglyTyped"]
    if manifest.engine.status == "built":
        own.append("--force")
    if options.flavour is not None:
        own += ["--flavour", options.flavour]
    if options.profile is not None and (sizes := shapes(options.profile, manifest.input)) is not None:
        profile = options.profile
        for name, size, shape in (
            ("min", profile.minimum, sizes.minimum),
            ("opt", profile.optimum, sizes.optimum),
            ("max", profile.maximum, sizes.maximum),
        ):
            own += [f"--{name}", "x".join(map(str, size))]
            foreign.append(f"--{name}Shapes={manifest.input.name}:{'x'.join(map(str, shape))}")
    if options.hardware_compatibility != "none":
        own += ["--hw-compat", options.hardware_compatibility]
        foreign.append(f"--hardwareCompatibilityLevel={_TRTEXEC[options.hardware_compatibility]}")
    if options.version_compatible:
        own.append("--version-compat")
        foreign.append("--versionCompatible")
    if options.level is not None:
        own += ["--opt-level", str(options.level)]
        foreign.append(f"--builderOptimizationLevel={options.level}")
    if options.workspace_mb is not None:
        own += ["--workspace", str(options.workspace_mb)]
        foreign.append(f"--memPoolSize=workspace:{options.workspace_mb}")
    lines = (own,) if options.flavour == "tensorrt-rtx" else (own, foreign)
    return tuple(shlex.join(line) for line in lines)
