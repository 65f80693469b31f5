"""``p3m-edge verify``: check artefacts on this machine."""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from p3m_edge import manifest as manifests
from p3m_edge import signature
from p3m_edge.cli import options
from p3m_edge.cli.tables import number, proved, table
from p3m_edge.errors import GateError, MissingError, P3MEdgeError, needing
from p3m_edge.manifest import Manifest
from p3m_edge.records import VerifiedRecord
from p3m_edge.runtimes import Matting, UnverifiedWarning, coreml, golden
from p3m_edge.runtimes.contract import EngineInfo, engine_module
from p3m_edge.runtimes.engine import Engine
from p3m_edge.runtimes.golden import SelfTest

if TYPE_CHECKING:
    from rich.console import Console as RichConsole

    from p3m_edge.cli.console import Console
    from p3m_edge.export.formats.coreml.mil.examine import FunctionReport

PACKAGE = ".mlpackage"
HELP = """Check artefacts on this machine, with the runtime that apps use: the manifest, the hash of every file, and
the golden vectors: frames that the artefact carries, with the reference alpha. The artefact is not changed.

Where Core ML does not run, a Core ML artefact is interpreted operator by operator, which proves the program and says
nothing about a device. Of any *.mlpackage, verify tells whether it can be interpreted, what half precision does to its
outputs, what overflows, and what Apple's rules for the Neural Engine say. A TensorRT artefact whose engine is not
built, or cannot run here, is computed of its typed ONNX, every result rounded as its type says.

Exit code 3: the golden vectors fail; 4: the engine or device is not here; 5: the artefact is corrupt, tampered with
or of another version. Of several artefacts, the highest code counts."""
EXAMPLES = """
p3m-edge verify out/demo/onnx-fp32
p3m-edge verify out/demo/onnx-fp32 out/demo/openvino-fp16 --json
p3m-edge verify out/demo/openvino-fp16 --device GPU
p3m-edge verify out/onnx-fp32 --key key.pub    # signed by p3m-edge export --sign key.pem
p3m-edge verify out/coreml-fp16 Foreign.mlpackage
"""


@dataclass(frozen=True)
class Verification:
    """The verdict on one artefact.

    Attributes
    ----------
    status
        ``passed``; ``failed``: the golden vectors exceed a limit; ``error``: it could not be run at all.
    message, hint, exit_code
        Why it did not pass; 0 if it did.
    engine, selftest
        What ran it, and the figures; None with ``error``.
    program
        Of a Core ML package: what its functions are, and what came of interpreting them.
    verified
        What the manifest says has been proved before, and where.
    """

    folder: Path
    status: Literal["passed", "failed", "error"]
    message: str | None
    hint: str | None
    exit_code: int
    target: str | None
    trained: bool | None
    engine: EngineInfo | None
    selftest: SelfTest | None
    seconds: float
    program: tuple[FunctionReport, ...] = ()
    verified: VerifiedRecord | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folders and the engine's options."""
    parser.add_argument(
        "artefacts", metavar="DIR", nargs="+", type=options.path, help="a folder that export wrote, or a *.mlpackage"
    )
    parser.add_argument(
        "--key", type=options.path, metavar="KEY", help="a public key (PEM): whether its owner signed the artefacts"
    )
    parser.add_argument("--device", metavar="NAME", help=options.DEVICE_HELP)
    parser.add_argument("--threads", type=options.positive, metavar="N", help="threads (default: the engine's choice)")


def run(args: argparse.Namespace, console: Console) -> int:
    """Verify each folder, whatever became of the others."""
    results = []
    for folder in args.artefacts:
        with console.status(f"verifying {folder}"):
            results.append(verify(folder, args.device, args.threads, args.key))
    error = failure(results)
    console.emit({"artefacts": results}, lambda out: render(out, results), error)
    if error is not None:
        raise error
    return 0


def verify(
    folder: Path, device: str | None = None, threads: int | None = None, key: Path | None = None
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
        if folder.suffix == PACKAGE:
            return _examined(folder, start)
        computed = _computed(folder, device, start)
        if computed is not None:
            return computed
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnverifiedWarning)  # verifying is what it asks for
            matting = Matting(folder, device, threads)
        with matting:
            found = matting.selftest()
            engine = matting.info.engine
    except P3MEdgeError as error:
        seconds = time.perf_counter() - start
        return Verification(
            folder, "error", str(error), error.hint, error.exit_code, None, None, None, None, round(seconds, 3)
        )
    return _judged(folder, matting.manifest, engine, found, start)


def _computed(folder: Path, device: str | None, start: float) -> Verification | None:
    """The verdict on an artefact whose engine is not here, computed operator by operator; None: it is here."""
    manifest = manifests.read(folder)
    if not _elsewhere(manifest, device):
        return None
    manifests.check_files(manifest, folder)
    infos: list[EngineInfo] = []

    def opened(sized: Manifest) -> Engine:
        engine = _compute(sized, folder)
        infos.append(engine.info)
        return engine

    found = golden.whole(manifest, folder, opened)
    return _judged(folder, manifest, infos[0], found, start)


def _elsewhere(manifest: Manifest, device: str | None) -> bool:
    """Whether an artefact runs on other machines, and can be computed on this one."""
    if manifest.engine.name == "coreml":
        return not coreml.here()
    if manifest.engine.name != "tensorrt" or device is not None:
        return False
    if manifest.engine.status != "built":
        return True
    try:
        engine_module("tensorrt").require()
    except MissingError:
        return True
    return False


def _compute(manifest: Manifest, folder: Path) -> Engine:
    if manifest.engine.name == "tensorrt":
        with needing("torch"):
            from p3m_edge.export.formats.tensorrt.simulate_fp16 import simulate
        return simulate(manifest, folder)
    with needing("torch,coreml"):
        from p3m_edge.export.formats.coreml.mil.engine import interpret
    return interpret(manifest, folder, sequence=True)


def _examined(path: Path, start: float) -> Verification:
    """The verdict on any Core ML package."""
    with needing("torch,coreml"):
        from p3m_edge.export.formats.coreml.mil.examine import examine
    functions = examine(path)
    seconds = round(time.perf_counter() - start, 3)
    bad = next((function for function in functions if not function.sound), None)
    message, hint, code = (None, None, 0) if bad is None else _why(bad)
    status: Literal["passed", "failed", "error"] = "passed"
    if code:
        status = "failed" if code == GateError.exit_code else "error"
    return Verification(path, status, message, hint, code, None, None, None, None, seconds, functions)


def _why(function: FunctionReport) -> tuple[str, str | None, int]:
    """What is wrong with a function, what to do about it, and the exit code."""
    if function.unknown:
        hint = "these operators are not known here; the package may still run on a device"
        return f"not interpreted: {', '.join(function.unknown)}", hint, P3MEdgeError.exit_code
    if function.failure:
        return function.failure, None, P3MEdgeError.exit_code
    text = f"{len(function.overflows)} results overflow half precision: {function.overflows[0].name}"
    return text, "keep them in float32, or scale what goes in", GateError.exit_code


def _judged(folder: Path, manifest: Manifest, engine: EngineInfo, found: SelfTest, start: float) -> Verification:
    seconds = round(time.perf_counter() - start, 3)
    status: Literal["passed", "failed"] = "passed" if found.passed else "failed"
    message = None if found.passed else f"{len(found.failures)} of its figures exceed their limits"
    hint = None if found.passed else "do not use it on this machine; other threads, device or engine version may differ"
    code = 0 if found.passed else GateError.exit_code
    return Verification(
        folder, status, message, hint, code, manifest.target, manifest.model.trained, engine, found, seconds,
        verified=manifest.verified,
    )  # fmt: skip


def failure(results: Sequence[Verification]) -> P3MEdgeError | None:
    """The error to raise after the verdicts were shown: the one of the highest exit code; None when all passed."""
    bad = [result for result in results if result.exit_code]
    if not bad:
        return None
    worst = max(bad, key=lambda result: result.exit_code)
    text = worst.message or ""
    message = text if str(worst.folder) in text else f"{worst.folder}: {text}"
    if len(results) > 1:
        message = f"{len(bad)} of {len(results)} artefacts did not pass; {message}"
    error = P3MEdgeError(message, hint=worst.hint)
    error.exit_code = worst.exit_code
    return error


def render(out: RichConsole, results: Sequence[Verification], *, figures: bool = True) -> None:
    """A table of figures for each artefact (unless they are not wanted), then the verdicts."""
    for result in results:
        if figures and result.selftest is not None:
            _render_figures(out, result.folder, result.selftest)
        for function in result.program:
            _render_function(out, result.folder, function)
    verdicts = table("verified", "artefact", "target", "verdict", "engine", "device", "seconds", right=("seconds",))
    for result in results:
        engine = result.engine
        verdicts.add_row(
            str(result.folder),
            result.target or "-",
            result.status if result.message is None else f"{result.status}: {result.message}",
            f"{engine.name} {engine.version}" if engine else "-",
            f"{engine.device} ({engine.device_name})" if engine else "-",
            f"{result.seconds:.1f}",
            style="red" if result.exit_code else None,
        )
    out.print(verdicts)
    for result in results:
        if result.verified is not None and result.verified.units:
            out.print(f"{result.folder}: the manifest says {proved(result.verified)}", soft_wrap=True)


def _render_function(out: RichConsole, path: Path, function: FunctionReport) -> None:
    """What came of interpreting one function, its operators, and the advice."""
    figures = table(
        f"{path}: {function.name}",
        "output",
        "mean error of rounding",
        "largest",
        right=("mean error of rounding", "largest"),
    )
    for output in function.outputs:
        figures.add_row(output.name, number(output.mean), number(output.largest))
    if function.headroom is not None:
        figures.caption = f"results could be {function.headroom:.3g} times larger before one overflows half precision"
    out.print(figures)
    out.print(
        "operators: " + ", ".join(f"{name} {count}" for name, count in function.operators.items()), soft_wrap=True
    )
    for said in function.advice:
        out.print(f"Neural Engine: {said.rule} ({said.count}: {', '.join(said.examples)})", soft_wrap=True)


def _render_figures(out: RichConsole, folder: Path, selftest: SelfTest) -> None:
    right = ("figure", "limit")
    figures = table(f"{folder}", "picture", "output", "what", *right, "verdict", right=right)
    for item in selftest.items:
        for check in golden.checks(item, selftest.limits):
            figures.add_row(
                item.image,
                check.output,
                check.what.strip(" ,"),
                number(check.value),
                number(check.limit),
                "ok" if check.passed else "EXCEEDED",
                style=None if check.passed else "red",
            )
        figures.add_row(item.image, "alpha", "largest error of alpha", number(item.alpha_max), "-", "not gated")
    out.print(figures)
