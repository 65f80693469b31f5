"""From a request to verified artefacts: plan, build, compare, and move into place."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import psutil

from p3m_edge import folder as folders
from p3m_edge import manifest as manifests
from p3m_edge import signature, targets
from p3m_edge.arguments import checked
from p3m_edge.errors import UsageError, missing_package, one_of
from p3m_edge.export import parity
from p3m_edge.export.calibration import MINIMUM, check_apart, open_calibration, open_measuring
from p3m_edge.export.formats import FORMATS, format_of
from p3m_edge.export.quantize.search import quantise
from p3m_edge.export.request import ExportRequest, ExportResult, OnEvent, PlannedArtefact, StageEvent, StageTime
from p3m_edge.export.session import ExportSession, PictureSets, check_arch
from p3m_edge.manifest import Manifest
from p3m_edge.manifest_schema import MAX_INPUT_PIXELS, AttemptRecord, QuantizationRecord, VerifiedRecord
from p3m_edge.model.p3mnet import MULTIPLE
from p3m_edge.runtimes import emulation
from p3m_edge.targets import ARCHS, Target

T = TypeVar("T")
STAGES = ("load", "trace", "convert", "reference", "parity")
"""Of every target; those that its format adds come next, and ``seal`` comes last."""
_MAX_SIDE = 8192
_SAMPLE_SECONDS = 0.02


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
    return _plan(checked(request, ExportRequest))


def _plan(request: ExportRequest) -> tuple[PlannedArtefact, ...]:
    """Of a request whose fields have their types."""
    _check(request)
    if request.sign is not None:
        signature.check_private_key(request.sign)
    if request.emulate:
        if not any(targets.get(name).engine in emulation.ENGINES for name in request.targets):
            hint = f"artefacts for {', '.join(emulation.ENGINES)} do"
            raise UsageError(f"none of {', '.join(request.targets)} runs on an emulated processor", hint=hint)
        emulation.open_emulation(request.emulation).check(request.emulate)
    planned = []
    for target in map(targets.get, request.targets):
        parity.limits(target, request.limits)
        format_of(target.engine).check(target, request)
        final = request.out / target.name
        folders.check_free(final, force=request.force)
        missing = tuple(module for module in target.build_modules if not _importable(module))
        planned.append(PlannedArtefact(target.name, final, stages_of(target, request), missing))
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
    request = checked(request, ExportRequest)
    for artefact in _plan(request):
        for module in artefact.missing:
            raise missing_package(module, targets.get(artefact.target).extras[-1])
    chosen = [targets.get(name) for name in request.targets]
    for engine in dict.fromkeys(target.engine for target in chosen):
        format_of(engine).check_builder(request)
    pictures = _open_pictures(chosen, request)  # what is wrong with them is said before anything is built
    session = functools.cache(lambda: ExportSession(request, pictures=pictures))
    return tuple(_export_one(request, session, target, on_event) for target in chosen)


def stages_of(target: Target, request: ExportRequest) -> tuple[str, ...]:
    """The stages of an export to a target."""
    more = tuple(stage.name for stage in format_of(target.engine).after_parity(target))
    emulated = ("emulate",) if request.emulate and target.engine in emulation.ENGINES else ()
    return (*STAGES, *more, *emulated, "seal")


def _open_pictures(chosen: Sequence[Target], request: ExportRequest) -> PictureSets:
    """The pictures that the targets need; calibration and measuring share none."""
    path, seed = request.calibration, request.seed
    overflow = max(format_of(target.engine).overflow_pictures(target, request) for target in chosen)
    calibrated = any(target.needs_calibration for target in chosen)
    measured = calibrated or any(target.weight_only for target in chosen)
    sets = PictureSets(
        overflow=open_calibration(path, count=overflow, seed=seed) if overflow else None,
        calibration=open_calibration(path, count=request.calibration_count, seed=seed) if calibrated else None,
        measuring=open_measuring(request.measuring, seed=seed) if measured else None,
    )
    if sets.calibration is not None and sets.measuring is not None:
        check_apart(sets.calibration, sets.measuring)
    return sets


def _export_one(
    request: ExportRequest, make_session: Callable[[], ExportSession], target: Target, on_event: OnEvent
) -> ExportResult:
    names, model_format = stages_of(target, request), format_of(target.engine)
    stages = _Stages(target.name, names, on_event)
    session = stages.run("load", make_session)
    gate, loosened = parity.limits(target, request.limits)
    record: QuantizationRecord | None = None
    final = request.out / target.name
    with folders.workspace(request.out, target.name, force=request.force) as partial:
        stages.run("trace", lambda: model_format.trace(session))
        if target.needs_calibration:
            tried = folders.attempts(final)
            built, record = stages.run("convert", lambda: quantise(session, target, partial, tried, stages.note))
        else:
            built = stages.run("convert", lambda: model_format.build(session, target, partial))
        stages.run("reference", lambda: parity.write_golden(session, partial))
        manifest = dataclasses.replace(model_format.describe(session, target, built, partial), quantization=record)
        compared = stages.run("parity", lambda: parity.check(session, manifest, partial, gate, loosened))
        manifest = dataclasses.replace(manifest, parity=compared)
        for stage in model_format.after_parity(target):
            if _passed(manifest):
                action = functools.partial(stage.run, session, manifest, partial, stages.note)
                manifest = stages.run(stage.name, action)
        if "emulate" in names and _passed(manifest):
            manifest = stages.run("emulate", lambda: _emulate(request, manifest, partial, stages.note))
        final = stages.run("seal", lambda: _seal(manifest, partial, final, request.sign))
    assert manifest.parity is not None
    return ExportResult(
        target.name, final, "verified" if _passed(manifest) else "rejected", folders.size(final), manifest.parity,
        tuple(stages.times), manifest.quantization, manifest.engine,
    )  # fmt: skip


def _emulate(request: ExportRequest, manifest: Manifest, folder: Path, note: Callable[[str], None]) -> Manifest:
    """The manifest with what came of the golden vectors on emulated processors; of those that fail, a word."""
    manifests.write(manifest, folder)
    found = emulation.selftests(folder, emulation.open_emulation(request.emulation), request.emulate)
    for each in found:
        if not each.passed:
            note(f"FAILED on an emulated {each.processor}: {each.failures[0]}")
    return dataclasses.replace(manifest, verified=emulation.merged(manifest.verified, found))


def _passed(manifest: Manifest) -> bool:
    """Whether an artefact has passed all gates so far."""
    compared, quantised = manifest.parity, manifest.quantization
    return compared is not None and compared.passed and (quantised is None or quantised.passed)


def _seal(manifest: Manifest, folder: Path, final: Path, key: Path | None) -> Path:
    """Write the manifest, sign what passed, and move the artefact to its place."""
    passed = _passed(manifest)
    verified = manifest.verified if passed else VerifiedRecord("none")
    manifests.write(dataclasses.replace(manifest, verified=verified), folder)
    if passed and key is not None:
        signature.sign(folder, key)
    return folders.settle(folder, final, passed=passed)


def _check(request: ExportRequest) -> None:
    if not request.targets:
        raise UsageError("no target was given", hint="see p3m-edge targets")
    for size in request.sizes:
        for name, side in zip(("width", "height"), size, strict=True):
            if not 0 < side <= _MAX_SIDE or side % MULTIPLE:
                raise UsageError(f"the {name} {side} must be a multiple of {MULTIPLE} from {MULTIPLE} to {_MAX_SIDE}")
    _check_batch(request)
    if request.checkpoint is None and request.arch is None:
        raise UsageError("neither a checkpoint nor an architecture was given")
    if request.arch is not None:
        check_arch(request, one_of("architecture", request.arch, ARCHS))
    if request.dynamic and request.unpool == "native":
        raise UsageError("--unpool native needs a fixed size", hint="leave out --dynamic, or use select")
    for engine in FORMATS.keys() - {targets.get(name).engine for name in request.targets}:
        format_of(engine).check_unused(request)
    if len(set(request.targets)) < len(request.targets):
        raise UsageError(f"a target is named twice: {', '.join(request.targets)}")
    if request.calibration_count < MINIMUM:
        raise UsageError(f"calibration takes at least {MINIMUM} pictures, not {request.calibration_count}")
    if not 0 <= request.max_drop < math.inf:
        raise UsageError(f"the allowed rise of the SAD is a share of at least 0, not {request.max_drop}")
    if not (request.budget > 0 and request.attempts >= 1):
        given = f"{request.budget:g} minutes and {request.attempts} attempts"
        raise UsageError(f"an INT8 target takes time and at least one attempt, not {given}")


def _check_batch(request: ExportRequest) -> None:
    if request.batch < 1:
        raise UsageError(f"the batch is a whole number of at least 1, not {request.batch}")
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


class _Stages:
    """The stages of one target, announced to ``on_event`` as they start and end; ``times`` is what they have cost."""

    def __init__(self, target: str, names: tuple[str, ...], on_event: OnEvent) -> None:
        self.times: list[StageTime] = []
        self._target, self._names, self._on_event = target, names, on_event

    def run(self, name: str, action: Callable[[], T]) -> T:
        """Run one stage and give back what it returns."""
        index, count = self._names.index(name), len(self._names)
        self._on_event(StageEvent(self._target, name, index, count, "start"))
        start = time.perf_counter()
        with _peak_memory() as peak:
            result = action()
        cost = StageTime(name, time.perf_counter() - start, max(peak))
        self.times.append(cost)
        self._on_event(StageEvent(self._target, name, index, count, "done", cost.seconds, cost.peak_rss_mb))
        return result

    def note(self, told: AttemptRecord | str) -> None:
        """Tell of an attempt that was made in the stage that is at work, or of something else in words."""
        index, count = len(self.times), len(self._names)
        rung, text = (None, told) if isinstance(told, str) else (told, "")
        self._on_event(StageEvent(self._target, self._names[index], index, count, "note", rung=rung, text=text))


@contextmanager
def _peak_memory() -> Iterator[list[float]]:
    """Sample this process' resident memory (MB) until the block ends."""
    process = psutil.Process()
    samples = [process.memory_info().rss / 1e6]
    done = threading.Event()

    def sample() -> None:
        while not done.wait(_SAMPLE_SECONDS):
            samples[0] = max(samples[0], process.memory_info().rss / 1e6)

    thread = threading.Thread(target=sample, name="peak-memory", daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        done.set()
        thread.join()
