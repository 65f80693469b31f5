"""Self-tests on emulated processors: the runtime in an ARM Python, under QEMU's emulation of one program.

It shows whether an engine's kernels for a processor compute what they should, and nothing of their speed. The folder
with the emulator, that Python and its packages is made by ``tools/emulation.py`` of the repository.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import msgspec

import p3m_edge
from p3m_edge import manifest as manifests
from p3m_edge.atomic import atomic_write, check_name, reason
from p3m_edge.errors import ArtefactError, MissingError, UsageError, suggestion
from p3m_edge.manifest import Manifest
from p3m_edge.manifest_schema import EmulatedRecord, Level, VerifiedRecord
from p3m_edge.runtimes import cache, golden
from p3m_edge.runtimes.golden import SelfTest
from p3m_edge.smallfile import parse_json, read_small
from p3m_edge.workers.parent import Interpreter, Worker, WorkerError

ARCHITECTURE = "aarch64"
PROCESSORS = (
    "cortex-a53", "cortex-a72", "cortex-a76", "neoverse-n1", "neoverse-v1", "neoverse-n2", "max,sme=off",
    "max,sme-default-vector-length=64", "max",
)  # fmt: skip
"""Those that are tested where none is named: the Raspberry Pi's 3, 4 and 5, servers, and all that the emulator has:
without the matrix extension (SME), with vectors of 64 bytes in it, which Arm's Compute Library takes for granted, and
with the emulator's own 32, on which OpenVINO 2026.4 convolves wrongly."""
ENGINES = {"onnxruntime": "onnxruntime", "openvino": "openvino", "litert": "ai-edge-litert"}
"""The engines with packages for this architecture, and what pip calls them."""
RECORD = "emulation.json"
EMULATOR, ROOT, SITE = "emulator/usr/bin/qemu-aarch64", "root", "site"
WORKER = "p3m_edge.runtimes.emulation_worker"
_LOADER = "lib/ld-linux-aarch64.so.1"
_SETUP = "python tools/emulation.py of the repository sets it up"
_LEVELS: tuple[Level, ...] = get_args(Level)
_PATIENCE = 60.0  # seconds that the emulator has to start a program of a few instructions


@dataclass(frozen=True)
class EmulationRecord:
    """What a folder for emulation holds: ``emulation.json`` in it, written last.

    ``digest`` tells by what it was made; ``packages`` are those of Python, ``system`` those of Debian.
    """

    architecture: str
    digest: str
    emulator: str
    python: str
    packages: dict[str, str]
    system: dict[str, str]


@dataclass(frozen=True)
class Emulation:
    """An emulator, and a Python for it to run."""

    folder: Path
    record: EmulationRecord

    @property
    def python(self) -> Path:
        """The interpreter, a program of the other architecture."""
        return self.folder / ROOT / "usr/bin" / f"python{self.record.python}"

    def interpreter(self, processor: str) -> Interpreter:
        """Python on a processor, with the packages of the folder and this p3m-edge."""
        home = Path(p3m_edge.__file__).absolute().parent.parent
        variables = {
            "PYTHONHOME": str(self.folder / ROOT / "usr"),
            "PYTHONPATH": os.pathsep.join((str(self.folder / SITE), str(home))),
        }
        return Interpreter((*self._command(processor), str(self.python)), variables)

    def check(self, processors: Iterable[str]) -> None:
        """Start the smallest program on each of the processors.

        Raises
        ------
        MissingError
            The emulator or what it needs is not there, or is for another machine.
        UsageError
            There is no such processor.
        """
        for processor in processors:
            command = (*self._command(processor), str(self.folder / ROOT / _LOADER), "--version")
            code, _, told = self._ran(*command)
            if code == 0:
                continue
            if not re.search(r"CPU model|Property", told):
                raise MissingError(f"the emulation in {self.folder} does not work: {told}", hint=_SETUP)
            known = re.findall(r"^\s+([\w-]+)\s*$", self._ran(command[0], "-cpu", "help")[1], re.MULTILINE)
            hint = suggestion(processor.partition(",")[0], known) if "CPU model" in told else told
            raise UsageError(f"{self.record.emulator} has no processor {processor!r}", hint=hint)

    def _ran(self, *command: str) -> tuple[int, str, str]:
        """Exit code, output, and on one line what went wrong."""
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_PATIENCE)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise MissingError(f"{command[0]} cannot be run: {reason(error)}", hint=_SETUP) from error
        return done.returncode, done.stdout, " ".join(done.stderr.split())

    def _command(self, processor: str) -> tuple[str, ...]:
        return str(self.folder / EMULATOR), "-cpu", processor, "-L", str(self.folder / ROOT)


def default_folder() -> Path:
    """Where the emulation is looked for, if nothing else is said: in the cache folder (``P3M_EDGE_CACHE``)."""
    return cache.root() / f"emulation-{ARCHITECTURE}"


def open_emulation(folder: Path | None = None) -> Emulation:
    """The emulation in a folder, or in the default one.

    Raises
    ------
    MissingError
        There is none, or one of another architecture.
    """
    place = check_name(default_folder() if folder is None else folder.absolute(), UsageError)
    try:
        record = parse_json(read_small(place / RECORD), EmulationRecord)
    except FileNotFoundError as error:
        raise MissingError(f"there is no emulation of {ARCHITECTURE} in {place}", hint=_SETUP) from error
    except (OSError, msgspec.MsgspecError) as error:
        raise MissingError(f"{place / RECORD} cannot be read: {reason(error)}", hint=_SETUP) from error
    if record.architecture != ARCHITECTURE:
        raise MissingError(f"the emulation in {place} is of {record.architecture}, not {ARCHITECTURE}", hint=_SETUP)
    found = Emulation(place, record)
    for path in (place / EMULATOR, found.python):
        if not path.is_file():
            raise MissingError(f"{path} is missing", hint=_SETUP)
    return found


def parse(text: str) -> tuple[str, ...]:
    """Processors from ``aarch64[:PROCESSOR[,PROCESSOR...]]``, where ``NAME=VALUE`` belongs to the one before it.

    :class:`UsageError`: it is something else.
    """
    architecture, colon, rest = text.partition(":")
    example = f"for example {ARCHITECTURE}, or {ARCHITECTURE}:cortex-a72,max,sme=off"
    if architecture != ARCHITECTURE:
        raise UsageError(f"{architecture!r} cannot be emulated", hint=example)
    if not colon:
        return PROCESSORS
    processors: list[str] = []
    for part in rest.split(","):
        if "=" in part and processors:
            processors[-1] += f",{part}"
        elif re.fullmatch(r"[\w.-]+", part):
            processors.append(part)
        else:
            raise UsageError(f"{text!r} names no processor where {part!r} is", hint=example)
    return tuple(dict.fromkeys(processors))


def selftests(
    folder: Path, emulation: Emulation, processors: Iterable[str], threads: int | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> tuple[EmulatedRecord, ...]:  # fmt: skip
    """Run an artefact's golden vectors on processors, each in a process of its own; the artefact is not changed.

    Raises
    ------
    ArtefactError
        It is no artefact, or not as it was exported.
    MissingError, UsageError
        Its engine has no packages for this architecture; those of :meth:`Emulation.check`.
    """
    manifest = manifests.read(folder)
    name = manifest.engine.name
    if name not in ENGINES:
        raise UsageError(
            f"{folder} is for {name}, which does not run on {ARCHITECTURE} with Linux",
            hint=f"artefacts for {', '.join(ENGINES)} do",
        )
    manifests.check_files(manifest, folder)
    wanted = tuple(processors)
    emulation.check(wanted)
    found = []
    for processor in wanted:
        tell(processor)
        found.append(_selftest(folder, emulation, processor, threads))
    return tuple(found)


def _selftest(folder: Path, emulation: Emulation, processor: str, threads: int | None) -> EmulatedRecord:
    """The self-test on one processor; a process that dies, as by an illegal instruction, has failed it."""
    errors: dict[str, float] = {}
    try:
        with Worker(WORKER, interpreter=emulation.interpreter(processor)) as worker:
            answer = worker.call("selftest", folder=str(folder.absolute()), threads=threads)
        found = msgspec.convert(answer, SelfTest)
        passed, failures, errors = found.passed, found.failures, golden.worst(found.items)
    except WorkerError as error:
        original = error.original()
        if isinstance(original, MissingError):
            raise MissingError(f"in the emulation, {original}", hint=_SETUP) from error
        passed, failures = False, (str(error),)
    versions = {"p3m-edge": p3m_edge.__version__, "python": emulation.record.python} | emulation.record.packages
    return EmulatedRecord(processor, emulation.record.emulator, passed, errors, failures, versions)


def record(folder: Path, tested: Manifest, found: Iterable[EmulatedRecord]) -> bool:
    """Write what was found into the manifest; False: the artefact is signed, and its signature is of the manifest too.

    Raises
    ------
    ArtefactError
        The artefact is not the one that was tested.
    OutputError
        The manifest cannot be written.
    """
    manifest = manifests.read(folder)
    if manifest.files != tested.files:
        raise ArtefactError(f"{folder} was changed while it was tested", hint="test it again")
    if (folder / manifests.SIGNATURE).exists():
        return False
    changed = replace(manifest, verified=merged(manifest.verified, found))
    atomic_write(folder / manifests.MANIFEST, manifests.encode(changed), what="the manifest")
    return True


def merged(before: VerifiedRecord, found: Iterable[EmulatedRecord]) -> VerifiedRecord:
    """The record of a verification with the results of an emulation, which replace those of the same processors.

    The level becomes ``emulated`` where it was below, and a processor has passed.
    """
    known = {each.processor: each for each in (*before.emulated, *found)}
    reached: Level = "emulated" if any(each.passed for each in known.values()) else "none"
    level = min(before.level, reached, key=_LEVELS.index)
    return replace(before, level=level, emulated=tuple(known.values()))
