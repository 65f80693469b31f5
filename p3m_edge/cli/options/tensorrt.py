"""What ``export`` and ``build`` are told about the engines of TensorRT targets."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from p3m_edge.cli.options.arguments import fill, option
from p3m_edge.cli.options.values import Size
from p3m_edge.errors import UsageError
from p3m_edge.manifest_schema import Compatibility, Flavour, ProfileRecord
from p3m_edge.runtimes.engines.tensorrt.options import CURRENT, BuildOptions


def capabilities(text: str) -> tuple[str, ...]:
    """Parse compute capabilities, with commas between them: ``86``, ``8.6`` and ``sm_86`` are one and the same.

    Raises
    ------
    UsageError
        One of them is none.
    """
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
        """As the builder names them.

        Raises
        ------
        UsageError
            Some of --min, --opt and --max are missing.
        """
        low, best, high = self.minimum, self.optimum, self.maximum
        if low and best and high:
            return fill(BuildOptions, self, profile=ProfileRecord(low, best, high))
        missing = [name for name, size in {"--min": low, "--opt": best, "--max": high}.items() if size is None]
        if len(missing) < 3:
            raise UsageError(f"{', '.join(missing)} is missing", hint="--min, --opt and --max go together")
        return fill(BuildOptions, self)
