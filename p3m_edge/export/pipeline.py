"""From a request to verified artefacts: plan, build, compare, and move into place."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from p3m_edge import folder as folders
from p3m_edge import manifest as manifests
from p3m_edge import signature, targets
from p3m_edge.errors import UsageError, missing_package, one_of, shown, suggestion
from p3m_edge.export import compression, forms, int8, parity, tensorrt
from p3m_edge.export.calibration import MINIMUM, PictureSet, open_measuring
from p3m_edge.export.describe import describe
from p3m_edge.export.request import QDQ, ExportRequest, ExportResult, Half, OnEvent, PlannedArtefact
from p3m_edge.export.stages import Stages
from p3m_edge.export.workbench import Built, Workbench, check_arch
from p3m_edge.model.deploy import Outputs
from p3m_edge.model.p3mnet import MULTIPLE
from p3m_edge.model.unpool import Lowering
from p3m_edge.records import MAX_INPUT_PIXELS, VerifiedRecord
from p3m_edge.targets import ARCHS, Target

Builder = Callable[[Workbench, Target, Path], Built]

FORMATS = {
    "onnxruntime": "p3m_edge.export.onnx",
    "openvino": "p3m_edge.export.openvino",
    "coreml": "p3m_edge.export.coreml",
    "coreai": "p3m_edge.export.coreai",
    "tensorrt": "p3m_edge.export.tensorrt",
}
"""The module that builds for each engine."""

STAGES = ("load", "trace", "convert", "reference", "parity", "seal")
MEASURED = ("load", "trace", "convert", "reference", "parity", "measure", "seal")
"""Of a target whose weights have fewer bits."""
BUILT = ("load", "trace", "convert", "reference", "parity", "engine", "seal")
"""Of a target whose engine is built of what was verified."""
_MAX_SIDE = 8192


def plan(request: ExportRequest) -> tuple[PlannedArtefact, ...]:
    """Check a request and say what it would do; nothing is written, and no weights are read.

    Raises
    ------
    UsageError, InputError
        An unknown target, architecture or limit, an impossible size or combination, a key that cannot sign.
    MissingError
        A tool that the request names is absent.
    OutputError
        An artefact exists already and ``force`` is not given.
    """
    _check(request)
    if request.sign is not None:
        signature.check_private_key(request.sign)
    planned = []
    for name in request.targets:
        target = targets.get(name)
        parity.limits(target, request.limits)
        if request.unpool == "native" and target.engine != "onnxruntime":
            raise UsageError(
                f"{name} cannot be built with --unpool native", hint="only ONNX Runtime has MaxUnpool: use select"
            )
        forms.check(target, request)
        tensorrt.check(target, request)
        final = request.out / name
        folders.check_free(final, force=request.force)
        missing = tuple(module for module in target.build_modules if not _importable(module))
        planned.append(PlannedArtefact(name, final, stages_of(target), missing))
    return tuple(planned)


def export(request: ExportRequest, on_event: OnEvent = lambda event: None) -> tuple[ExportResult, ...]:
    """Build and verify every target of a request.

    Parameters
    ----------
    request
        What to build.
    on_event
        Told of each stage as it starts and ends.

    Returns
    -------
    tuple
        One result for each target. A target whose parity gate fails is ``rejected``: its folder is named
        ``<target>.rejected`` and no runtime loads it.

    Raises
    ------
    UsageError, CheckpointError, InputError, OutputError
        As :func:`plan`, and for a checkpoint, a parity picture or a disc that cannot be used.
    MissingError
        A package is absent; the hint names the extra.
    """
    for artefact in plan(request):
        for module in artefact.missing:
            raise missing_package(module, targets.get(artefact.target).extras[-1])
    # What is wrong with the pictures is said before anything is built.
    chosen = [targets.get(name) for name in request.targets]
    if any(target.engine == "tensorrt" for target in chosen):
        tensorrt.check_builder(request)
    looked_at = tensorrt.open_pictures(chosen, request)
    bench = functools.cache(lambda: Workbench(request, looked_at=looked_at))
    sets = int8.open_pictures(request) if any(target.climbs for target in chosen) else ()
    measuring = sets[1:] or (
        (open_measuring(request.measuring, seed=request.seed),) if any(target.compressed for target in chosen) else ()
    )
    pictures = functools.cache(lambda: int8.Pictures(bench(), *sets))
    return tuple(_export_one(bench, pictures, measuring, target, on_event) for target in chosen)


def _export_one(
    make_bench: Callable[[], Workbench],
    make_pictures: Callable[[], int8.Pictures],
    measuring: tuple[PictureSet, ...],
    target: Target,
    on_event: OnEvent,
) -> ExportResult:
    stages = Stages(target.name, stages_of(target), on_event)
    bench = stages.run("load", make_bench)
    request = bench.request
    gate, loosened = parity.limits(target, request.limits)
    build: Builder = importlib.import_module(FORMATS[target.engine]).build
    with folders.workspace(request.out, target.name, force=request.force) as partial:
        stages.run("trace", lambda: bench.programs if target.apple else bench.graph())
        quantisation = None
        if target.climbs:
            pictures = make_pictures()
            tried = folders.attempts(request.out / target.name)
            quantised = stages.run("convert", lambda: int8.build(bench, pictures, target, partial, tried, stages.note))
            built, quantisation = quantised.built, quantised.record
        else:
            built = stages.run("convert", lambda: build(bench, target, partial))
        stages.run("reference", lambda: parity.write_golden(bench, partial))
        manifest = dataclasses.replace(describe(bench, target, built, partial), quantization=quantisation)
        record = stages.run("parity", lambda: parity.check(bench, manifest, partial, gate, loosened))
        if target.compressed and record.passed:
            quantisation = stages.run(
                "measure",
                lambda: compression.judge(bench, measuring[0], manifest, partial, target.precision, stages.note),
            )
            manifest = dataclasses.replace(manifest, quantization=quantisation)
        passed = record.passed and (quantisation is None or quantisation.passed)
        if target.engine == "tensorrt" and passed:
            manifest, record = stages.run(
                "engine", lambda: tensorrt.build_engine(bench, manifest, partial, record, stages.note)
            )
            passed = record.passed

        def seal() -> Path:
            verified = manifest.verified if passed else VerifiedRecord("none")
            manifests.write(dataclasses.replace(manifest, parity=record, verified=verified), partial)
            if passed and request.sign is not None:
                signature.sign(partial, request.sign)
            return folders.settle(partial, request.out / target.name, passed=passed)

        final = stages.run("seal", seal)
    return ExportResult(
        target.name,
        final,
        "verified" if passed else "rejected",
        folders.size(final),
        record,
        tuple(stages.times),
        quantisation,
        manifest.engine,
    )


def stages_of(target: Target) -> tuple[str, ...]:
    """The stages of an export to a target."""
    if target.engine == "tensorrt":
        return BUILT
    return MEASURED if target.compressed else STAGES


def _check(request: ExportRequest) -> None:
    if not request.targets:
        raise UsageError("no target was given", hint="see p3m-edge targets")
    for size in request.sizes:
        for name, side in zip(("width", "height"), size, strict=True):
            if not 0 < side <= _MAX_SIDE or side % MULTIPLE:
                raise UsageError(f"the {name} {side} must be a multiple of {MULTIPLE} from {MULTIPLE} to {_MAX_SIDE}")
    _check_batch(request)
    for what, name, known in (
        ("choice of outputs", request.outputs, Outputs), ("unpooling", request.unpool, Lowering),
        ("form of Q/DQ", request.qdq, QDQ), ("choice of half precision", request.half, Half),
    ):  # fmt: skip
        one_of(what, name, get_args(known))
    if request.checkpoint is None and request.arch is None:
        raise UsageError("neither a checkpoint nor an architecture was given")
    if request.arch is not None and request.arch not in ARCHS:
        raise UsageError(f"unknown architecture {request.arch!r}", hint=suggestion(request.arch, ARCHS))
    if request.arch is not None:
        check_arch(request, request.arch)
    if request.dynamic and request.unpool == "native":
        raise UsageError("--unpool native needs a fixed size", hint="leave out --dynamic, or use select")
    if not any(targets.get(name).engine == "coreml" for name in request.targets):
        forms.check_unused(request)
    if len(set(request.targets)) < len(request.targets):
        raise UsageError(f"a target is named twice: {', '.join(request.targets)}")
    if request.calibration_count < MINIMUM:
        raise UsageError(f"calibration takes at least {MINIMUM} pictures, not {request.calibration_count}")
    if not 0 <= request.max_drop < math.inf:
        raise UsageError(f"the allowed rise of the SAD is a share of at least 0, not {request.max_drop}")
    if not (request.budget > 0 and request.attempts >= 1):
        raise UsageError(
            f"an INT8 target takes time and at least one attempt, not {request.budget:g} minutes and "
            f"{request.attempts} attempts"
        )


def _check_batch(request: ExportRequest) -> None:
    if type(request.batch) is not int or request.batch < 1:
        raise UsageError(f"the batch is a whole number of at least 1, not {shown(request.batch)}")
    pixels = max(width * height for width, height in request.sizes)  # at most 8192 x 8192
    if request.batch * pixels > MAX_INPUT_PIXELS:
        raise UsageError(
            f"a batch of {request.batch:,} frames is larger than one inference can be: {MAX_INPUT_PIXELS:,} pixels",
            hint=f"--batch {MAX_INPUT_PIXELS // pixels} at most",
        )


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
