"""Pictures a second of ``p3m-edge run`` on a folder, without Ray and with it, on the same cores; start-up apart.

    python -m p3m_edge.benchmarks.bulk ARTEFACT PICTURES [--count N] [--repeats N] [--cores N] [--json]

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
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from p3m_edge.errors import InputError
from p3m_edge.imageio import list_images
from p3m_edge.resources import usable_cores
from p3m_edge.table import Table
from p3m_edge.temporary import temporary_folder

WAYS = ("local", "ray")


@dataclass(frozen=True)
class Rate:
    """Of one way: pictures a second on all ``cores``, pictures a core-hour, and the seconds of start and end."""

    executor: str
    cores: int
    pictures: float
    core_hour: float
    start: float


def measure(artefact: Path, pictures: Path, count: int, repeats: int, cores: int) -> list[Rate]:
    """Measure both ways. :class:`InputError`: a run failed, or the two ways differ; or there are too few pictures."""
    found = list_images(pictures)
    if len(found) < 2 * count:
        raise InputError(f"{pictures} holds {len(found)} pictures, and --count {count} takes {2 * count}")
    times: dict[tuple[str, int], list[float]] = {(way, size): [] for way in WAYS for size in (count, 2 * count)}
    with temporary_folder() as folder:
        for _ in range(repeats):
            for (way, size), taken in times.items():
                shutil.rmtree(folder / way, ignore_errors=True)
                taken.append(_run(artefact, found[:size], folder / way, way, cores))
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


def _run(artefact: Path, found: Sequence[Path], out: Path, way: str, cores: int) -> float:
    ray = ("--executor", "ray", "--ray-workers", str(cores)) if way == "ray" else ()
    command = [sys.executable, "-m", "p3m_edge", "run", str(artefact), *map(str, found), "--out", str(out), *ray]
    begun = time.perf_counter()
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        raise InputError(f"a run with --executor {way} failed: {done.stderr.strip().splitlines()[-1]}")
    return time.perf_counter() - begun


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(prog="python -m p3m_edge.benchmarks.bulk")
    parser.add_argument("artefact", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cores", type=int)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    if args.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.cores])
    rates = measure(args.artefact, args.pictures, args.count, args.repeats, usable_cores())
    if args.json:
        sys.stdout.write(msgspec.json.encode([asdict(rate) for rate in rates]).decode() + "\n")
        return
    rows = ((r.executor, str(r.cores), f"{r.pictures:.2f}", f"{r.core_hour:.0f}", f"{r.start:.1f}") for r in rates)
    columns = ("executor", "cores", "pictures/s", "pictures a core-hour", "start and end, s")
    sys.stdout.write(Table("", columns, tuple(rows)).markdown() + "\n")


if __name__ == "__main__":
    main()
