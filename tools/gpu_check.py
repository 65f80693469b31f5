"""Prove on a machine with an NVIDIA GPU what can be proved nowhere else: engines, parity, latency. Needs no network.

    python tools/gpu_check.py --out OUT [--wheels DIR] [--arch mobile,r34] [--artefacts DIR [--no-build]]

It installs carried wheels into a virtual environment in OUT (beside the packages that are here), exports ``trt-fp16``
and ``onnx-fp16`` of each architecture, or takes exported artefacts (``DIR/<name>/<target>`` or ``DIR/<target>``),
builds the engines for this GPU, verifies the golden vectors on it through the runtime that apps use, and measures all
that passed, beside PyTorch in float16, eager and compiled, in one interleaved run. If TensorRT refuses the GPU, ONNX
Runtime is what remains. OUT gets ``gpu.json`` and ``gpu.md``.

Exit codes are those of p3m-edge: 0 all passed; 1 a step failed; 3 a gate failed; 4 no driver, GPU or engine is here.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from p3m_edge.benchmarks.report.schema import BenchmarkReport
    from p3m_edge.benchmarks.rows import Row
    from p3m_edge.runtimes.cuda import Driver

ROOT = Path(__file__).resolve().parent.parent
TARGETS = ("trt-fp16", "onnx-fp16")
FAILED, GATE, MISSING = 1, 3, 4
_LONGEST = 3600  # seconds for one command


@dataclass(frozen=True)
class Step:
    """One command of the package: its exit code, what it took, and the error that it told."""

    what: str
    code: int
    seconds: float
    error: str | None


def main() -> int:
    """Do all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="OUT")
    parser.add_argument("--wheels", type=Path, metavar="DIR", help="a folder of wheels to install, without a network")
    parser.add_argument("--arch", default="mobile,r34", metavar="A[,A...]", help="default: %(default)s")
    parser.add_argument("--artefacts", type=Path, metavar="DIR", help="exported artefacts, instead of exporting here")
    parser.add_argument("--no-build", action="store_true", help="take the engines of the artefacts as they are")
    parser.add_argument("--size", default="512x512", metavar="WIDTHxHEIGHT", help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=10, metavar="N", help="of the measuring (default: %(default)s)")
    arguments = parser.parse_args()
    out: Path = arguments.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    if arguments.wheels is not None:
        return _with_wheels(arguments.wheels.absolute(), out)
    sys.path.insert(0, str(ROOT))
    from p3m_edge.errors import P3MEdgeError
    from p3m_edge.runtimes import cuda

    archs = [name.strip() for name in arguments.arch.split(",") if name.strip()]
    steps: list[Step] = []
    try:
        artefacts = _artefacts(arguments.artefacts, out, archs, arguments.size, steps)
        found = cuda.driver()
        print(_named(found), flush=True)
        ready = [folder for folder in artefacts if _ready(folder, steps, build=not arguments.no_build)]
        report = _measured(ready, archs, arguments.size, arguments.rounds)
    except P3MEdgeError as error:
        print(f"error: {error}", *([f"hint: {error.hint}"] if error.hint else []), sep="\n", file=sys.stderr)
        return error.exit_code
    _write(out, found, steps, report)
    codes = [step.code for step in steps if step.code]
    if GATE in codes or (report is not None and any(row.status == "parity-failed" for row in report.rows)):
        return GATE
    if not ready:
        return MISSING
    return FAILED if codes or (report is not None and any(row.status != "ok" for row in report.rows)) else 0


def _with_wheels(wheels: Path, out: Path) -> int:
    """Install the wheels, and go on in the environment that has them."""
    files = sorted(wheels.glob("*.whl"))
    if not files:
        print(f"error: there is no wheel in {wheels}", file=sys.stderr)
        return FAILED
    home = out / "venv"
    venv.EnvBuilder(system_site_packages=True, with_pip=True, clear=True, symlinks=os.name != "nt").create(home)
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    # The packages that are here may themselves be those of an environment, which the new one knows nothing of.
    (inside,) = home.rglob("site-packages")
    here = {sysconfig.get_paths()[name] for name in ("purelib", "platlib")}
    (inside / "here.pth").write_text("\n".join(sorted(here)) + "\n", encoding="utf-8")
    # All that is carried, in the versions that are carried: nothing is looked for anywhere.
    line = [python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--ignore-installed", *files]
    print("+ pip install", *(file.name for file in files), flush=True)
    code = subprocess.run([str(part) for part in line], check=False).returncode
    if code:
        print("error: the wheels could not be installed", file=sys.stderr)
        return FAILED
    rest = list(sys.argv[1:])
    at = next(i for i, argument in enumerate(rest) if argument.startswith("--wheels"))
    del rest[at : at + (1 if "=" in rest[at] else 2)]
    return subprocess.run([str(python), str(Path(__file__).resolve()), *rest], check=False).returncode


def _artefacts(given: Path | None, out: Path, archs: list[str], size: str, steps: list[Step]) -> list[Path]:
    """The artefacts to prove, as copies in OUT that may be built."""
    home = out / "artefacts"
    if given is None:
        for arch in archs:
            arguments = ["--arch", arch, "--target", ",".join(TARGETS), "--out", home / arch, "--size", size, "--force"]
            standin = [] if arch == "mobile" else ["--standin"]
            steps.append(_command("export", *arguments, *standin))
    else:
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(given, home)
    found = sorted(path.parent for path in home.rglob("manifest.json") if not path.parent.name.endswith(".rejected"))
    print("artefacts:", *(folder.relative_to(home) for folder in found), flush=True)
    return found


def _ready(folder: Path, steps: list[Step], *, build: bool) -> bool:
    """Build the engine of an artefact here, if it has one, and verify it on the GPU."""
    from p3m_edge import manifest

    engine = manifest.read(folder).engine.name
    if engine == "tensorrt" and build:
        steps.append(_command("build", folder, "--force"))
        if steps[-1].code:
            return False
    device = ("--device", "cuda") if engine in ("tensorrt", "onnxruntime") else ()
    steps.append(_command("verify", folder, *device))
    return steps[-1].code == 0


def _measured(ready: list[Path], archs: list[str], size: str, rounds: int) -> BenchmarkReport | None:
    """All that passed, and PyTorch where it has CUDA, in one interleaved run."""
    from p3m_edge.benchmarks.measure import measure
    from p3m_edge.benchmarks.report.schema import MeasureOptions
    from p3m_edge.benchmarks.rows import artefact_rows

    rows: list[Row] = [dataclasses.replace(row, device="cuda") for row in artefact_rows(ready)]
    if _torch_has_cuda():
        rows += _torch_rows(archs, size)
    if not rows:
        return None
    options = MeasureOptions(rounds=rounds, iterations=20, warmup=20, device="cuda", throughput=False, timeout=1800)
    return measure(rows, options, progress=lambda what, done, total: print(f"{done}/{total} {what}", flush=True))


def _torch_rows(archs: list[str], size: str) -> Iterator[Row]:
    from p3m_edge.benchmarks.rows import EagerRow

    width, height = map(int, size.split("x"))
    for arch in archs:
        for compiled in (False, True):
            label = f"torch fp16 {'compiled' if compiled else 'eager'} {arch}"
            yield EagerRow(label, arch, width, height, device="cuda", half=True, compiled=compiled)


def _torch_has_cuda() -> bool:
    code = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def _command(verb: str, *arguments: object) -> Step:
    """One command of the package, in a process of its own; Ctrl-C ends it and this script."""
    line = [verb, *map(str, arguments)]
    print("+ p3m-edge", *line, flush=True)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))}
    since = perf_counter()
    command = [sys.executable, "-m", "p3m_edge", *line, "--json"]
    try:
        process = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, check=False, env=environment, timeout=_LONGEST
        )
    except subprocess.TimeoutExpired:
        return Step(" ".join(line), FAILED, _LONGEST, f"it took more than {_LONGEST} s")
    try:
        told = json.loads(process.stdout).get("error")
    except ValueError:
        told = None
    error = told["message"] if told else f"it ended with code {process.returncode}" if process.returncode else None
    return Step(" ".join(line), process.returncode, round(perf_counter() - since, 1), error)


def _named(found: Driver) -> str:
    gpus = ", ".join(f"{gpu.name} ({gpu.compute_capability}, {gpu.memory / 2**30:.0f} GiB)" for gpu in found.gpus)
    return f"GPU: {gpus}; driver {found.release or 'of unknown release'}, CUDA {found.cuda}"


def _write(out: Path, found: Driver, steps: list[Step], report: BenchmarkReport | None) -> None:
    """``gpu.json`` and ``gpu.md``, without paths."""
    import msgspec

    from p3m_edge.atomic import atomic_write
    from p3m_edge.benchmarks.report import render as reports
    from p3m_edge.benchmarks.rows import redact
    from p3m_edge.table import NONE, table

    steps = [
        dataclasses.replace(step, what=redact(step.what), error=step.error and redact(step.error)) for step in steps
    ]
    document = msgspec.json.encode({"driver": found, "steps": steps, "report": report})
    atomic_write(out / "gpu.json", msgspec.json.format(document, indent=2) + b"\n")
    rows = ((f"`{step.what}`", str(step.code), str(step.seconds), step.error or NONE) for step in steps)
    done = table("steps", "step|code|seconds|error", rows).markdown()
    text = f"# {found.gpus[0].name}\n\n{_named(found)}\n\n{done}\n"
    if report is not None:
        text += "\n" + reports.markdown(report).replace("# Benchmark", "## Benchmark", 1)
    atomic_write(out / "gpu.md", text.encode())
    print(f"written: {out / 'gpu.json'}, {out / 'gpu.md'}", flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
