"""What ``export`` is told about the forms of a Core ML package."""

from __future__ import annotations

import argparse
from typing import Any

from p3m_edge.cli.options import Size, size
from p3m_edge.errors import UsageError
from p3m_edge.targets import MAX_SMOOTHING, SMOOTHING, SYSTEMS

_SYSTEMS = {f"iOS{release}": release for release in SYSTEMS} | {name: release for release, name in SYSTEMS.items()}
"""The names of systems, and the release of iOS of the same year."""


def add_form_arguments(parser: argparse.ArgumentParser) -> None:
    """For which systems, and what comes out; :func:`form_options` reads it."""
    group = parser.add_argument_group("Core ML targets")
    group.add_argument(
        "--deployment-target", type=deployment_target, metavar="SYSTEM",
        help=f"the oldest system that must run it: {', '.join(_SYSTEMS)} (default: the oldest that can, iOS16)",
    )  # fmt: skip
    group.add_argument(
        "--alpha", choices=("image", "array"),
        help="alpha as an image in half precision (default), or as a multi-array (default of coreml-fp32)",
    )  # fmt: skip
    group.add_argument(
        "--temporal", type=_weight, nargs="?", const=SMOOTHING, metavar="WEIGHT",
        help="smooth the mattes of a video by a state (iOS18): WEIGHT of the matte before in the next, above 0 up to "
        f"{MAX_SMOOTHING:g} (default: {SMOOTHING:g})",
    )  # fmt: skip


def form_options(args: argparse.Namespace) -> dict[str, Any]:
    """The options as :class:`p3m_edge.export.ExportRequest` names them."""
    first, *others = args.sizes or (args.size,)
    return {
        "minimum_ios": args.deployment_target, "alpha": args.alpha,
        "width": first.width, "height": first.height,
        "more_sizes": tuple((size.width, size.height) for size in others),
        "smoothing": args.temporal,
    }  # fmt: skip


def _weight(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a weight above 0, such as {SMOOTHING:g}") from None


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
