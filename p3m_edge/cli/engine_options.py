"""What ``export`` and ``build`` are told about the engines of TensorRT targets."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable
from typing import Any, get_args

from p3m_edge import targets
from p3m_edge.cli import options
from p3m_edge.cli.options import Size
from p3m_edge.errors import UsageError
from p3m_edge.records import Compatibility, Flavour, ProfileRecord
from p3m_edge.runtimes.engines.tensorrt.options import CURRENT, LEVELS, BuildOptions

_ENGINE = (
    "flavour", "sm", "min", "opt", "max", "hw_compat", "version_compat", "opt_level", "workspace", "timing_cache",
)  # fmt: skip
_EXPORT = {"require_engine": "require_engine", "fp16_backend": "half"}
"""The options of ``export`` alone, and the fields of :class:`p3m_edge.export.ExportRequest` that they set."""


def add_engine_arguments(parser: argparse.ArgumentParser, title: str = "engine") -> argparse._ArgumentGroup:
    """For which GPUs and sizes, and how; :func:`build_options` reads it. Returns the group that they are in."""
    group = parser.add_argument_group(title)
    group.add_argument(
        "--flavour", choices=get_args(Flavour),
        help="the builder (default: TensorRT where it and a GPU are, else TensorRT for RTX)",
    )  # fmt: skip
    group.add_argument(
        "--sm", type=capabilities, metavar="SM,...",
        help="build ahead of time for GPUs of these compute capabilities, such as 86,89,120 (TensorRT for RTX; "
        "default: the GPU that is here, or without one all that the builder knows); "
        f"{CURRENT}: for the GPU here, even if it is not known",
    )  # fmt: skip
    for name, what in (("min", "smallest"), ("opt", "tuned-for"), ("max", "largest")):
        group.add_argument(
            f"--{name}", type=options.size, metavar="WIDTHxHEIGHT", help=f"{what} frame of a dynamic artefact"
        )
    group.add_argument(
        "--hw-compat", choices=get_args(Compatibility),
        help="run on more GPUs, and slower: those of the same compute capability, or Ampere and newer (TensorRT; "
        "default: none)",
    )  # fmt: skip
    group.add_argument(
        "--version-compat", action="store_const", const=True,
        help="run on newer versions as well; the engine then holds code that its user must trust (TensorRT)",
    )  # fmt: skip
    group.add_argument(
        "--opt-level", type=int, choices=LEVELS, help="how long to look for fast kernels (default: the builder's own)"
    )
    group.add_argument(
        "--workspace", type=options.positive, metavar="MB", help="limit of the GPU's memory for the build"
    )
    group.add_argument(
        "--timing-cache", type=options.path, metavar="FILE",
        help="what the builder measured, for faster builds (TensorRT; default: a file in p3m-edge's cache)",
    )  # fmt: skip
    return group


def add_export_arguments(parser: argparse.ArgumentParser) -> None:
    """The same, and what ``export`` alone is told; :func:`export_options` reads it."""
    group = add_engine_arguments(parser, "TensorRT targets")
    group.add_argument(
        "--require-engine", action="store_const", const=True,
        help="without a builder that can do it, fail; else the artefact has the typed ONNX, to build on the device",
    )  # fmt: skip
    group.add_argument(
        "--fp16-backend", choices=("own", "autocast"),
        help="what chooses the nodes in half precision of trt-fp16: our own analysis (default), or NVIDIA's AutoCast",
    )  # fmt: skip


def build_options(args: argparse.Namespace) -> BuildOptions:
    """The options as the builder names them.

    Raises
    ------
    UsageError
        Some of --min, --opt and --max are missing.
    """
    return BuildOptions(
        flavour=args.flavour,
        compute_capabilities=args.sm or (),
        profile=_profile(args.min, args.opt, args.max),
        hardware_compatibility=args.hw_compat or "none",
        version_compatible=bool(args.version_compat),
        level=args.opt_level,
        workspace_mb=args.workspace,
        timing_cache=args.timing_cache,
    )


def export_options(args: argparse.Namespace, names: Iterable[str]) -> dict[str, Any]:
    """The options as :class:`p3m_edge.export.ExportRequest` names them.

    Raises
    ------
    UsageError
        Some of the sizes are missing, or an option was given and none of the targets with these names is for TensorRT.
    """
    given = [name for name in (*_ENGINE, *_EXPORT) if getattr(args, name) is not None]
    engines = [targets.get(name).engine for name in names]
    if given and "tensorrt" not in engines:
        option = f"--{given[0].replace('_', '-')}"
        raise UsageError(f"{option} is for TensorRT targets, and none was named", hint="for example --target trt-fp16")
    extra = {field: getattr(args, name) for name, field in _EXPORT.items() if name in given}
    return {"engine": build_options(args), **extra}


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


def _profile(smallest: Size | None, tuned: Size | None, largest: Size | None) -> ProfileRecord | None:
    given = {"--min": smallest, "--opt": tuned, "--max": largest}
    missing = [option for option, size in given.items() if size is None]
    if len(missing) == len(given):
        return None
    if missing:
        raise UsageError(f"{', '.join(missing)} is missing", hint="--min, --opt and --max go together")
    return ProfileRecord(*((size.width, size.height) for size in given.values() if size is not None))
