"""Pictures a second of ``p3m-edge run`` on a folder, without Ray and with it, on the same cores; start-up apart.

    python -m p3m_edge.benchmarks.bulk ARTEFACT PICTURES [--count N] [--repeats N] [--cores N] [--threads N] [--json]

Each way runs on N and on 2 N of the folder's pictures, with empty outputs; the difference of the two times is what N
pictures take without starting Ray, opening the artefact and ending. The two ways take turns; the figure is the median.
``--cores`` are those that both may use (Linux; the default: all). Every result is compared with that of the other way.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from p3m_edge import manifest
from p3m_edge.benchmarks import quality
from p3m_edge.benchmarks.fingerprint import fingerprint
from p3m_edge.errors import InputError, UsageError
from p3m_edge.imageio import list_images
from p3m_edge.resources import usable_cores
from p3m_edge.table import Table
from p3m_edge.temporary import temporary_folder

WAYS = ("local", "ray")


@dataclass(frozen=True)
class Rate:
    """Of one way: pictures a second are those of all ``cores``; ``start_seconds`` are start and end together."""

    executor: str
    cores: int
    pictures_a_second: float
    pictures_a_core_hour: float
    start_seconds: float


def measure(
    artefact: Path, pictures: Path, count: int, repeats: int, cores: int, threads: int | None = None
) -> list[Rate]:
    """Measure both ways.

    Raises
    ------
    InputError
        There are too few pictures, a run failed, or the two ways differ.
    ArtefactError
        The folder is no artefact.
    """
    found = list_images(pictures)
    if len(found) < 2 * count:
        raise InputError(f"{pictures} holds {len(found)} pictures, and --count {count} takes {2 * count}")
    manifest.read(artefact)  # else the folder would be one more input
    times: dict[tuple[str, int], list[float]] = {(way, size): [] for way in WAYS for size in (count, 2 * count)}
    with temporary_folder() as folder:
        for _ in range(repeats):
            for (way, size), taken in times.items():
                shutil.rmtree(folder / way, ignore_errors=True)
                taken.append(_run(artefact, found[:size], folder / way, way, cores, threads))
            for one in (folder / "local").rglob("*.png"):
                if one.read_bytes() != (folder / "ray" / one.relative_to(folder / "local")).read_bytes():
                    raise InputError(f"{one.name} of the two ways differs")
    rates = []
    for way in WAYS:
        short, long = (statistics.median(times[way, size]) for size in (count, 2 * count))
        if long <= short:
            raise InputError("more pictures took no longer: the machine is too busy, or --count too small")
        rate = count / (long - short)
        rates.append(Rate(way, cores, rate, rate * 3600 / cores, short - count / rate))
    return rates


def _run(artefact: Path, found: Sequence[Path], out: Path, way: str, cores: int, threads: int | None) -> float:
    options = ["--out", str(out)]
    if way == "ray":
        options += ["--executor", "ray", "--ray-workers", str(cores)]
    if threads is not None:
        options += ["--threads", str(threads)]
    command = [sys.executable, "-m", "p3m_edge", "run", str(artefact), *map(str, found), *options]
    begun = time.perf_counter()
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        told = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        raise InputError(f"a run with --executor {way} ended with {done.returncode}: {' '.join(told) or done.stderr}")
    return time.perf_counter() - begun


def report(arguments: argparse.Namespace) -> tuple[object, Iterable[Table]]:
    """The document and the table."""
    if arguments.count < 1 or arguments.repeats < 1 or (arguments.cores or 1) < 1:
        raise UsageError("--count, --repeats and --cores are at least 1")
    if arguments.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.cores])
    rates = measure(
        arguments.artefact, arguments.pictures, arguments.count, arguments.repeats, usable_cores(), arguments.threads
    )
    machine = fingerprint()
    shown = quality.table(f"{machine.cpu}, start-up apart", rates, " ".join(f.name for f in fields(Rate)),
                          pictures_a_second=".2f", pictures_a_core_hour=".0f", start_seconds=".1f")  # fmt: skip
    return {"machine": asdict(machine), "rows": list(map(asdict, rates))}, (shown,)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = quality.parser(__doc__)
    parser.add_argument("artefact", type=Path, metavar="ARTEFACT")
    parser.add_argument("pictures", type=Path, metavar="PICTURES", help="a folder")
    parser.add_argument("--count", type=int, default=50, metavar="N", help="pictures (default: 50)")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="runs of each way (default: 3)")
    parser.add_argument("--cores", type=int, metavar="N", help="that both ways may use (Linux; default: all)")
    return quality.run(parser, report, arguments)


if __name__ == "__main__":
    sys.exit(main())
