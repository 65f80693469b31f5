"""The options of a Core ML package: the oldest system that runs it, what alpha is, sizes, and mattes that are smoothed.

For several sizes a package has a function each, and one set of weights. Mattes are smoothed over the frames by a state.
"""

from __future__ import annotations

from collections.abc import Iterator

from p3m_edge.errors import UsageError
from p3m_edge.export.request import ExportRequest
from p3m_edge.manifest_schema import Form, FunctionRecord
from p3m_edge.targets import MAX_SMOOTHING, SYSTEMS, Target


def check(target: Target, request: ExportRequest) -> None:
    """Raise :class:`UsageError` where options do not fit each other, or the target."""
    name = target.name
    if request.alpha == "image" and alpha(target, None) == "array":
        raise UsageError(f"{name} gives float32, and an image holds half precision at most", hint="--alpha array")
    if len(set(request.sizes)) < len(request.sizes):
        raise UsageError(f"a size is named twice: {', '.join(f'{width}x{height}' for width, height in request.sizes)}")
    if request.smoothing is not None and not 0 < request.smoothing <= MAX_SMOOTHING:
        given = f"above 0 up to {MAX_SMOOTHING:g}, not {request.smoothing:g}"
        raise UsageError(f"the weight of the matte before is {given}")
    if target.needs_calibration and (request.more_sizes or request.smoothing is not None):
        hint = "leave out --sizes and --temporal"
        raise UsageError(f"{name} is calibrated for one size and single frames", hint=hint)
    minimum(target, request)


def check_unused(request: ExportRequest) -> None:
    """Raise :class:`UsageError` where a request without a Core ML target sets options of these."""
    for option, value in {"--deployment-target": request.minimum_ios, "--alpha": request.alpha}.items():
        if value is not None:
            hint = "for example --target coreml-fp16"
            raise UsageError(f"{option} is for Core ML targets, and none was named", hint=hint)


def minimum(target: Target, request: ExportRequest) -> int:
    """The oldest iOS that must run the package: what is requested, or else the oldest that can.

    Raises
    ------
    UsageError
        An unknown one is requested, or one that cannot; the message says what needs a newer one.
    """
    oldest, what = max(_needs(target, request))
    wanted = request.minimum_ios
    if wanted is None:
        return oldest
    if wanted not in SYSTEMS:
        raise UsageError(f"iOS {wanted} is no deployment target here", hint=f"known: {', '.join(map(str, SYSTEMS))}")
    if wanted < oldest:
        raise UsageError(
            f"{target.name}: {what} needs iOS {oldest}, and iOS {wanted} is to run it",
            hint=f"--deployment-target iOS{oldest}",
        )
    return wanted


def _needs(target: Target, request: ExportRequest) -> Iterator[tuple[int, str]]:
    """Releases of iOS, and what needs each."""
    yield min(SYSTEMS), "an ML Program with images of half precision"
    if target.precision == "w8a8":
        yield 17, "activations in 8 bits"
    if request.more_sizes:
        yield 18, "a package with several functions (--sizes)"
    if request.smoothing is not None:
        yield 18, "a state (--temporal)"


def functions(request: ExportRequest) -> tuple[FunctionRecord, ...]:
    """The functions of a package for several sizes, the default one first; empty for one size."""
    if not request.more_sizes:
        return ()
    return tuple(FunctionRecord(f"size_{width}x{height}", width, height) for width, height in request.sizes)


def alpha(target: Target, wanted: Form | None) -> Form:
    """What alpha is in the engine's own terms: what is wanted, or else an image where it can be one."""
    return wanted or ("array" if target.precision == "fp32" else "image")
