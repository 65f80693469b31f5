"""``p3m-edge verify``: check artefacts on this machine."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from p3m_edge import manifest as manifests
from p3m_edge import signature
from p3m_edge.cli.options import argument, group, option
from p3m_edge.cli.options.shared import Emulation, Runtime
from p3m_edge.cli.ui import Console, Part, number
from p3m_edge.cli.ui.show import proved
from p3m_edge.errors import GateError, MissingError, P3MEdgeError, UsageError, needing
from p3m_edge.manifest import Manifest
from p3m_edge.manifest_schema import EmulatedRecord, Level, VerifiedRecord
from p3m_edge.runtimes import Matting, UnverifiedWarning, emulation, golden
from p3m_edge.runtimes.contract import EngineInfo, engine_module
from p3m_edge.runtimes.engine import Engine
from p3m_edge.runtimes.engines import coreml
from p3m_edge.runtimes.golden import SelfTest
from p3m_edge.table import Styled, table

if TYPE_CHECKING:
    from p3m_edge.export.formats.coreml.mil.examine import FunctionReport

PACKAGE = ".mlpackage"
EXAMPLES = """
p3m-edge verify out/demo/onnx-fp32
p3m-edge verify out/demo/onnx-fp32 out/demo/openvino-fp16 --json
p3m-edge verify out/demo/openvino-fp16 --device GPU
p3m-edge verify out/onnx-int8 --emulate aarch64    # on eight ARM processors
p3m-edge verify out/openvino-fp16 --emulate aarch64:cortex-a72,neoverse-n1,max,sme=off
p3m-edge verify out/onnx-fp32 --key key.pub    # signed by p3m-edge export --sign key.pem
p3m-edge verify out/coreml-fp16 Foreign.mlpackage
"""
_COMPUTED: dict[str, tuple[Level, str]] = {"coreml": ("program", "torch,coreml"), "tensorrt": ("typed", "torch")}
"""The level at which an artefact of an engine is verified without it, and the extras that this needs."""
_EMULATED = "processor|emulator|alpha mean|largest error of alpha|flips|verdict"
_UNUSABLE_THERE = "do not use it on such processors with these versions of the engine; others may differ"
_UNUSABLE = "do not use it on this machine; other threads, device or engine version may differ"


@dataclass(frozen=True)
class Arguments:
    """Check artefacts on this machine, with the runtime that apps use: the manifest, the hash of every file, and
    the golden vectors: frames that the artefact carries, with the reference alpha. The artefact is not changed, but for
    what --emulate writes into its manifest.

    Where Core ML does not run, a Core ML artefact is interpreted operator by operator, which proves the program and
    says nothing about a device. Of any *.mlpackage, verify tells whether it can be interpreted, what half precision
    does to its outputs, what overflows, and what Apple's rules for the Neural Engine say. A TensorRT artefact whose
    engine is not built, or cannot run here, is computed of its typed ONNX, every result rounded as its type says.

    With --emulate, the golden vectors run on emulated ARM processors instead, in the emulation that
    tools/emulation.py of the repository sets up, and the manifest says on which they passed or failed. That tells
    whether the engine computes rightly there, and nothing about speed: do not time it.

    Exit code 3: the golden vectors fail; 4: the engine or device is not here; 5: the artefact is corrupt, tampered with
    or of another version. Of several artefacts, the highest code counts.
    """

    artefacts: tuple[Path, ...] = argument("a folder that export wrote, or a *.mlpackage", "DIR", nargs="+")
    key: Path | None = option("a public key (PEM): whether its owner signed the artefacts", metavar="KEY")
    runtime: Runtime = group(Runtime)
    emulation: Emulation = group(Emulation, "emulation")


@dataclass(frozen=True)
class Verification:
    """The verdict on one artefact.

    ``failed``: the golden vectors exceed a limit; ``error``: it could not be run at all, and there is no ``selftest``.
    ``program`` is what came of interpreting the functions of a Core ML package; ``verified`` is what the
    manifest says has been proved before, and where; ``emulated`` are the results on emulated processors. ``seconds``:
    how long it took; of an emulation nobody is told.
    """

    folder: Path
    status: Literal["passed", "failed", "error"] = "passed"
    message: str | None = None
    hint: str | None = None
    exit_code: int = 0
    target: str | None = None
    trained: bool | None = None
    engine: EngineInfo | None = None
    selftest: SelfTest | None = None
    seconds: float | None = None
    program: tuple[FunctionReport, ...] = ()
    verified: VerifiedRecord | None = None
    emulated: tuple[EmulatedRecord, ...] = ()


def run(args: Arguments, console: Console) -> None:
    """Verify each folder, also after others failed."""
    emulated = args.emulation.emulate
    if emulated is not None and args.runtime.device is not None:
        raise UsageError("--emulate runs on processors alone", hint="leave --device out")
    place = None if emulated is None else emulation.open_emulation(args.emulation.emulation)
    results = []
    for folder in args.artefacts:
        with console.status(f"verifying {folder}") as tell:
            where = None if place is None else Emulated(place, emulated or (), tell)
            results.append(verify(folder, args.runtime, args.key, where))
    console.emit({"artefacts": results}, render(results), failure(results))


@dataclass(frozen=True)
class Emulated:
    """Where and on which processors an artefact is emulated, and who is told of each."""

    place: emulation.Emulation
    processors: tuple[str, ...]
    tell: Callable[[str], None] = lambda text: None


def verify(
    folder: Path, runtime: Runtime | None = None, key: Path | None = None, emulated: Emulated | None = None
) -> Verification:
    """Check manifest and hashes, load the model and run its golden vectors; errors become part of the verdict.

    With ``key``, the signature is checked before anything else; what is not signed is not loaded.
    """
    start = time.perf_counter()
    try:
        if key is not None:
            if folder.suffix != PACKAGE:
                manifests.read(folder)
            signature.check(folder, key)
        if emulated is not None:
            return _emulated(folder, runtime or Runtime(), emulated)
        verdict = _examined(folder) if folder.suffix == PACKAGE else _tested(folder, runtime or Runtime())
    except P3MEdgeError as error:
        verdict = _failed(Verification(folder), error)
        if emulated is not None:
            return verdict
    return replace(verdict, seconds=round(time.perf_counter() - start, 3))


def _failed(verdict: Verification, error: P3MEdgeError) -> Verification:
    """A verdict with the gate that failed, or with why there is none."""
    gate = isinstance(error, GateError) and (verdict.selftest or verdict.program or verdict.emulated)
    return replace(
        verdict, status="failed" if gate else "error", message=str(error), hint=error.hint, exit_code=error.exit_code
    )


def _tested(folder: Path, runtime: Runtime) -> Verification:
    """The verdict on an artefact by its golden vectors; if its engine is not here, computed operator by operator."""
    manifest = manifests.read(folder)
    if _runs_elsewhere(manifest, runtime.device):
        manifests.check_files(manifest, folder)
        engines: list[Engine] = []

        def opened(sized: Manifest) -> Engine:
            engines.append(_compute(sized, folder))
            return engines[-1]

        found, info = golden.selftest(manifest, folder, opened), engines[0].info
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnverifiedWarning)  # verifying is what it asks for
            matting = Matting(folder, runtime.device, runtime.threads)
        with matting:
            found, info = matting.selftest(), matting.info.engine
    verdict = Verification(
        folder, target=manifest.target, trained=manifest.model.trained, engine=info, selftest=found,
        verified=manifest.verified,
    )  # fmt: skip
    text = f"{len(found.failures)} of its figures exceed their limits"
    return verdict if found.passed else _failed(verdict, GateError(text, hint=_UNUSABLE))


def _emulated(folder: Path, runtime: Runtime, emulated: Emulated) -> Verification:
    """The verdict on an artefact by its golden vectors on each processor; it is written into the manifest."""
    if folder.suffix == PACKAGE:
        raise UsageError(f"{folder} is a Core ML package, which no emulated processor runs", hint="leave --emulate out")
    manifest = manifests.read(folder)
    found = emulation.selftests(folder, emulated.place, emulated.processors, runtime.threads, emulated.tell)
    verdict = Verification(
        folder, target=manifest.target, trained=manifest.model.trained, verified=manifest.verified, emulated=found
    )
    try:
        if not emulation.record(folder, manifest, found):
            verdict = replace(verdict, message="nothing is recorded, because the signature is of the manifest too")
    except P3MEdgeError as error:
        verdict = _failed(verdict, error)
    failed = ", ".join(each.processor for each in found if not each.passed)
    return _failed(verdict, GateError(f"it fails on {failed}", hint=_UNUSABLE_THERE)) if failed else verdict


def _runs_elsewhere(manifest: Manifest, device: str | None) -> bool:
    """Whether an artefact runs on other machines alone, and can be computed on this one."""
    if manifest.engine.name == "coreml":
        return not coreml.here()
    if manifest.engine.name != "tensorrt" or device is not None:
        return False
    with suppress(MissingError):
        engine_module("tensorrt").require()
        return manifest.engine.status != "built"
    return True


def _compute(manifest: Manifest, folder: Path) -> Engine:
    """Open an artefact as an export verifies it where its engine is not."""
    level, extra = _COMPUTED[manifest.engine.name]
    with needing(extra):
        from p3m_edge.export.formats import format_of

        model_format = format_of(manifest.engine.name)
    claimed = replace(manifest, verified=replace(manifest.verified, level=level))
    return model_format.open_for_verification(claimed, folder, sequence=True)


def _examined(path: Path) -> Verification:
    """The verdict on any Core ML package."""
    with needing("torch,coreml"):
        from p3m_edge.export.formats.coreml.mil.examine import examine
    verdict = Verification(path, program=examine(path))
    bad = next((function for function in verdict.program if not function.sound), None)
    if bad is None:
        return verdict
    if bad.unknown:
        hint = "these operators are not known here; the package may still run on a device"
        return _failed(verdict, P3MEdgeError(f"not interpreted: {', '.join(bad.unknown)}", hint=hint))
    if bad.failure:
        return _failed(verdict, P3MEdgeError(bad.failure))
    text = f"{len(bad.overflows)} results overflow half precision: {bad.overflows[0].name}"
    return _failed(verdict, GateError(text, hint="keep them in float32, or scale what goes in"))


def failure(results: Sequence[Verification]) -> P3MEdgeError | None:
    """The error to raise after the verdicts were shown: the one of the highest exit code; None when all passed."""
    bad = [result for result in results if result.exit_code]
    if not bad:
        return None
    worst = max(bad, key=lambda result: result.exit_code)
    message = str(worst.message)
    if str(worst.folder) not in message:
        message = f"{worst.folder}: {message}"
    if len(results) > 1:
        message = f"{len(bad)} of {len(results)} artefacts did not pass; {message}"
    error = P3MEdgeError(message, hint=worst.hint)
    error.exit_code = worst.exit_code
    return error


def render(results: Sequence[Verification], *, figures: bool = True) -> Iterator[Part]:
    """A table of figures for each artefact (unless they are not wanted), then the verdicts."""
    for result in results:
        if figures and result.selftest is not None:
            columns = "picture|output|what|figure|limit|verdict"
            yield table(str(result.folder), columns, _figures(result.selftest))
        for function in result.program:
            yield from _function(result.folder, function)
        if result.emulated:
            yield table(f"{result.folder}, emulated", _EMULATED, map(_processor, result.emulated))
    yield table("verified", "artefact|target|verdict|engine|device|seconds", map(_verdict, results))
    for result in results:
        if result.verified is not None and result.verified.units:
            yield f"{result.folder}: the manifest says {proved(result.verified)}"


def _verdict(result: Verification) -> Styled:
    engine = result.engine
    cells = (
        str(result.folder),
        result.target or "-",
        result.status if result.message is None else f"{result.status}: {result.message}",
        f"{engine.name} {engine.version}" if engine else "-",
        f"{engine.device} ({engine.device_name})" if engine else "-",
        "-" if result.seconds is None else f"{result.seconds:.1f}",
    )
    return Styled(cells, "red" if result.exit_code else None)


def _processor(found: EmulatedRecord) -> Styled:
    """What came of one emulated processor: the verdict, the errors of alpha, and what exceeded its limit first."""
    errors = (number(found.errors.get(name)) for name in ("alpha_mean", "alpha_max", "flips"))
    verdict = "passed" if found.passed else f"FAILED: {found.failures[0]}"
    return Styled((found.processor, found.emulator, *errors, verdict), None if found.passed else "red")


def _function(path: Path, function: FunctionReport) -> Iterator[Part]:
    """What came of interpreting one function, its operators, and the advice."""
    room = function.headroom
    caption = "" if room is None else f"results could be {room:.3g} times larger before one overflows half precision"
    rows = ((output.name, number(output.mean), number(output.largest)) for output in function.outputs)
    yield table(f"{path}: {function.name}", "output|mean error of rounding|largest", rows, caption)
    yield "operators: " + ", ".join(f"{name} {count}" for name, count in function.operators.items())
    for said in function.advice:
        yield f"Neural Engine: {said.rule} ({said.count}: {', '.join(said.examples)})"


def _figures(selftest: SelfTest) -> Iterator[Styled]:
    for item in selftest.items:
        for check in golden.checks(item, selftest.limits):
            verdict = "ok" if check.passed else "EXCEEDED"
            figures = (number(check.value), number(check.limit))
            cells = (item.image, check.output, check.what.strip(" ,"), *figures, verdict)
            yield Styled(cells, None if check.passed else "red")
        yield Styled((item.image, "alpha", "largest error of alpha", number(item.alpha_max), "-", "not gated"), None)
