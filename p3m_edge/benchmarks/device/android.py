"""LiteRT artefacts on an Android device: a script around LiteRT's ``benchmark_model``, and the way back of its results.

The script goes into a bundle, and needs ``adb`` and nothing of Python. It has the golden vectors computed on the device
too, so that a wrong matte is noticed when the result is imported. Not run on a device: tests read what
``benchmark_model`` is documented to print and to write (its README and ``benchmark_tflite_model.cc``).
"""

from __future__ import annotations

import re
import shutil
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from p3m_edge import manifest
from p3m_edge.benchmarks.fingerprint import Conditions, Fingerprint
from p3m_edge.benchmarks.report.ranking import rankings
from p3m_edge.benchmarks.report.schema import (
    SCHEMA_VERSION,
    BenchmarkReport,
    Measured,
    MeasureOptions,
    Memory,
    Parity,
    RowResult,
    Start,
    Used,
    identity,
)
from p3m_edge.benchmarks.rows import ArtefactRow, artefact_rows
from p3m_edge.benchmarks.statistics import summarise
from p3m_edge.errors import ArtefactError, InputError
from p3m_edge.manifest import Manifest
from p3m_edge.runtimes import golden
from p3m_edge.runtimes.contract import Outputs
from p3m_edge.smallfile import open_regular

SCRIPT, RESULT = "run_android.sh", "android.tar"
_FOLDER = "android"
_MOST = 256 * 1024 * 1024
_WARNING = "measured by LiteRT's benchmark_model: a round is its median, memory what the tool's process grew by"
_SCRIPT = """\
#!/bin/sh
# Measures the LiteRT artefacts of this bundle on an Android device: sh {script} BENCHMARK_MODEL [THREADS]
# BENCHMARK_MODEL is LiteRT's android_aarch64_benchmark_model. adb must find one device. Writes {result} beside itself.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tool=${{1:?usage: sh {script} BENCHMARK_MODEL [THREADS]}}
threads=${{2:-{threads}}}
device=/data/local/tmp/p3m-edge
out=$(mktemp -d)
trap 'rm -rf "$out"; adb shell rm -rf "$device"' EXIT
adb shell "rm -rf $device && mkdir -p $device"
adb push "$tool" "$device/benchmark_model"
adb shell chmod 755 "$device/benchmark_model"
{{
    date -u +created=%Y-%m-%dT%H:%M:%S+00:00
    echo "threads=$threads"
    for name in ro.product.manufacturer ro.product.model ro.soc.model ro.build.version.release; do
        echo "$name=$(adb shell getprop $name)"
    done
    echo "machine=$(adb shell uname -m)"
    echo "cores=$(adb shell nproc)"
    adb shell cat /proc/meminfo | sed -n 's/^MemTotal: *\\([0-9]*\\).*/kilobytes=\\1/p'
}} > "$out/device.txt"

# measure NUMBER SHAPE PICTURES ROUND: one run of the tool, on a golden picture in turn
measure() {{
    adb shell "$device/benchmark_model --graph=$device/$1.tflite --num_threads=$threads --use_xnnpack=true \\
        --num_runs={iterations} --min_secs=0 --warmup_runs={warmup} --warmup_min_secs=0 \\
        --input_layer=image --input_layer_shape=$2 --input_layer_value_files=image:$device/$1-$(($4 % $3)).u8 \\
        --output_filepath=$device/out.f32" > "$out/$1-$4.log" 2>&1 || {{ cat "$out/$1-$4.log" >&2; exit 1; }}
    [ "$4" -ge "$3" ] || adb pull "$device/out.f32" "$out/$1-$4.f32"
}}

{each}
tar -C "$out" -cf "$here/{result}" .
echo "{result} is written: p3m-edge bench --import {result} ARTEFACT..."
"""


def write(home: Path, rows: Sequence[ArtefactRow], options: MeasureOptions) -> bool:
    """Write the script and its inputs into a bundle, for its LiteRT artefacts; False: it has none.

    Raises
    ------
    ArtefactError
        Golden vectors cannot be read.
    """
    found = [(row, made) for row in rows if (made := manifest.read(row.folder)).engine.name == "litert"]
    if not found:
        return False
    place, prepare, measure, rounds = home / _FOLDER, list[str](), list[str](), options.rounds
    place.mkdir()
    for number, (row, made) in enumerate(found):
        vectors = golden.read(row.folder, made)
        shutil.copyfile(row.folder / made.model_file, place / f"{number}.tflite")
        for index, vector in enumerate(vectors):
            (place / f"{number}-{index}.u8").write_bytes(vector.image.tobytes())
        shape = ",".join(map(str, vectors[0].image.shape))
        rounds = max(rounds, len(vectors))
        prepare.append(f'echo "{number}={identity(made)}" >> "$out/device.txt"')
        measure.append(f'    measure {number} {shape} {len(vectors)} "$round"')
    prepare.append(f'adb push "$here/{_FOLDER}"/* "$device/"')
    turns = f"for round in {' '.join(map(str, range(rounds)))}; do"
    text = _SCRIPT.format(
        script=SCRIPT, result=RESULT, threads=options.threads or 4, iterations=options.iterations,
        warmup=max(options.warmup, 1), each="\n".join([*prepare, turns, *measure, "done"]),
    )  # fmt: skip
    (home / SCRIPT).write_text(text, encoding="utf-8", newline="\n")
    return True


def read(path: Path, artefacts: Iterable[Path]) -> BenchmarkReport:
    """The report that the script's result makes: times as printed, and the golden vectors compared here.

    Parameters
    ----------
    path
        ``android.tar``.
    artefacts
        Folders, among them those that were measured, for their golden vectors.

    Raises
    ------
    InputError, ArtefactError
        The file cannot be read, is no such result, or is about an artefact that is not given.
    """
    files = _unpack(path)
    try:
        said = dict(line.strip().split("=", 1) for line in files["device.txt"].decode().splitlines() if "=" in line)
        rows = {
            identity(found): (row, found) for row in artefact_rows(artefacts) for found in [manifest.read(row.folder)]
        }
        results = []
        for number in (name for name in said if name.isdigit()):
            if said[number] not in rows:
                raise ArtefactError(f"{path} measured an artefact that is not given", hint="name those of the bundle")
            results.append(_row(*rows[said[number]], number, files, said))
        options = MeasureOptions(
            rounds=max(len(row.measured.latency.rounds) if row.measured else 1 for row in results),
            threads=int(said["threads"]), throughput=False,
        )  # fmt: skip
        conditions = Conditions(0.0, None, None, None, None, (_WARNING,))
        return BenchmarkReport(
            SCHEMA_VERSION, said["created"], _machine(said), conditions, options, "synthetic", tuple(results),
            rankings(results),
        )  # fmt: skip
    except (KeyError, ValueError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise ArtefactError(f"{path} is not a result of {SCRIPT}: {what}", hint="run the script again") from error


def _unpack(path: Path) -> dict[str, bytes]:
    """The files of an archive by name, in memory."""
    found: dict[str, bytes] = {}
    left = _MOST
    try:
        with open_regular(path) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
            for member in archive:
                left -= member.size
                if left < 0:
                    raise ArtefactError(f"{path} unpacks to more than {_MOST >> 20} MiB, and no result does")
                content = archive.extractfile(member) if member.isfile() else None
                if content is not None:
                    found[member.name.removeprefix("./")] = content.read()
    except tarfile.TarError as error:
        raise ArtefactError(f"{path} is not a whole archive of {SCRIPT}: {error}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    return found


def _machine(said: Mapping[str, str]) -> Fingerprint:
    cores, board = int(said["cores"]), f"{said['ro.product.manufacturer']} {said['ro.product.model']}"
    return Fingerprint(
        said["machine"], said["ro.soc.model"] or None, board, (), None, cores, cores, 1024 * int(said["kilobytes"]),
        None, None, f"Android {said['ro.build.version.release']}", "none", {},
    )  # fmt: skip


def _row(
    row: ArtefactRow, made: Manifest, number: str, files: Mapping[str, bytes], said: Mapping[str, str]
) -> RowResult:
    """One artefact: parity from the outputs of the first rounds, times from what each round printed."""
    limits, known = golden.limits_of(made), row.describe()
    items = tuple(
        golden.compare(
            f"golden {index}", vector.outputs, _outputs(files[f"{number}-{index}.f32"], vector.outputs),
            limits.pixel_tolerance,
        )
        for index, vector in enumerate(golden.read(row.folder, made))
    )  # fmt: skip
    verdict = golden.judge(items, limits)
    parity = Parity(verdict.passed, verdict.failures, golden.worst(items), limits, items)
    used = Used("benchmark_model", "CPU", said["ro.soc.model"] or said["machine"], "graph", int(said["threads"]), 1)
    known = replace(known, used=used, parity=parity)
    if not verdict.passed:
        reason = f"golden vectors: {'; '.join(verdict.failures)}"
        return replace(known, status="parity-failed", reason=reason)
    logs = sorted(
        (int(match[1]), content)
        for name, content in files.items()
        if (match := re.fullmatch(rf"{number}-(\d+)\.log", name))
    )
    rounds = [_times(content.decode(errors="replace")) for _, content in logs]
    if not rounds:
        raise ValueError(f"there is no run of artefact {number}")
    first = rounds[0]
    start = Start(first["Init"] / 1e3, 0.0, first["Init"] / 1e3, first["First inference"] / 1e3)
    cold, running = (max(1, round(first[name] * 2**20)) for name in ("init", "overall"))
    latency = summarise([[found["median"] / 1e3] for found in rounds])
    return replace(known, measured=Measured(start, None, latency, Memory(cold, running, None)))


def _outputs(content: bytes, wanted: Outputs) -> Outputs:
    """The tensors of a file, one after the other; ``ValueError`` where it is not as long as they are."""
    values = np.frombuffer(content, "<f4")
    ends = np.cumsum([reference.size for reference in wanted.values()])
    if values.size != ends[-1]:
        raise ValueError(f"an output has {values.size} values instead of {ends[-1]}")
    parts = np.split(values, ends[:-1])
    return {name: part.reshape(wanted[name].shape) for name, part in zip(wanted, parts, strict=True)}


def _times(log: str) -> dict[str, float]:
    """What one run printed: ``median``, of its last line of statistics, ``Init`` and ``First inference``, all in
    microseconds, and ``init`` and ``overall``, memory in MiB.
    """
    found = {name: float(value) for name, value in re.findall(r"(Init|First inference): ([\d.e+]+)", log)}
    found |= {name: float(value) for name, value in re.findall(r"(init|overall|median)=([\d.e+]+)", log)}
    if missing := {"Init", "First inference", "init", "overall", "median"}.difference(found):
        raise ValueError(f"benchmark_model did not print {', '.join(sorted(missing))}")
    return found
