"""Measure the artefacts of this bundle on this machine and write result.json next to this script.

    python run_bench.py

Nothing outside this folder is written, nothing is downloaded, and PyTorch is not needed.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import platform
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SCRATCH = HERE / ".scratch"
OLDEST = (3, 11)


def main() -> int:
    """Check what is needed, measure, and return the exit code."""
    parser = argparse.ArgumentParser(description="Measure the artefacts of this bundle and write result.json.")
    parser.add_argument("--rounds", type=int, help="interleaved rounds")
    parser.add_argument("--threads", type=int, help="threads of each engine (default: usable physical cores)")
    parser.add_argument("--device", help="device or provider, as the engine names it")
    args = parser.parse_args()
    if sys.version_info < OLDEST:
        return _fail(f"Python {OLDEST[0]}.{OLDEST[1]} or newer is needed, this is {sys.version.split()[0]}")
    try:
        plan = json.loads((HERE / "bundle.json").read_text(encoding="utf-8"))
        needed = dict(plan["needed"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        return _fail(f"bundle.json is missing or damaged ({error}): copy the bundle again", 5)
    if "coremltools" in needed and platform.system() != "Darwin":
        return _fail(f"Core ML runs on Apple's systems alone, not on {platform.system()}: copy the bundle to a Mac", 4)
    missing = [package for module, package in needed.items() if importlib.util.find_spec(module) is None]
    if missing:
        line = " ".join(f'"{package}"' for package in missing)
        return _fail(f"packages are missing; this brings them:\n  {sys.executable} -m pip install {line}", 4)
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(HERE / "p3m_edge.zip"))
    try:
        device = importlib.import_module("p3m_edge.benchmarks.device.run")
        SCRATCH.mkdir(exist_ok=True)
        return int(device.run(HERE, SCRATCH, rounds=args.rounds, threads=args.threads, device=args.device))
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except ImportError as error:
        return _fail(f"{error} cannot be imported: copy the bundle again", 4)
    finally:
        shutil.rmtree(SCRATCH, ignore_errors=True)


def _fail(message: str, code: int = 1) -> int:
    sys.stderr.write(f"error: {message}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
