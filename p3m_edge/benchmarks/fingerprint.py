"""What a benchmark must say about the machine it ran on, and nothing that identifies its owner.

A :class:`Fingerprint` holds no host name, user name, path, serial number or address, so that a report may be published
as it stands. :class:`Conditions` is the state of the machine during one run: how busy it was, and warnings.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

import psutil

from p3m_edge import __version__
from p3m_edge.resources import usable_cores

# What matters for inference; kernels and compilers spell some of it in several ways, of which the report uses one.
_FEATURES = {
    name: name
    for name in (
        "sse4_2", "avx", "f16c", "fma", "avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_fp16", "avx512_bf16",
        "amx_tile", "amx_int8", "amx_bf16", "amx_fp16", "neon", "i8mm", "bf16", "sve", "sve2", "sme",
    )
} | {
    "avx1_0": "avx", "fma3": "fma", "avx_512vnni": "avx512_vnni", "avx512vnni": "avx512_vnni", "asimd": "neon",
    "asimdhp": "fp16", "fphp": "fp16", "feat_fp16": "fp16", "asimddp": "dotprod", "feat_dotprod": "dotprod",
    "neon_dotprod": "dotprod", "feat_i8mm": "i8mm", "feat_bf16": "bf16", "feat_sme": "sme",
}  # fmt: skip
_PACKAGES = (
    "numpy", "opencv-python-headless", "opencv-python", "onnxruntime", "onnxruntime-gpu", "openvino", "torch", "onnx",
    "onnxscript", "nncf", "coremltools", "coreai-core", "coreai-torch", "ai-edge-litert", "litert-torch",
    "litert-quantizer", "cuda-bindings", "tensorrt", "tensorrt-rtx-cu13-libs",
)  # fmt: skip
_BUSY = 0.2
_STOLEN = 0.01
_LOOK_SECONDS = 0.3


@dataclass(frozen=True)
class Fingerprint:
    """The machine and its software. ``None``: this system does not say.

    Attributes
    ----------
    architecture, features
        The instruction set (``x86_64``, ``arm64``), and its extensions that matter for inference, sorted (``avx2``).
    cpu, board
        Model names, as the maker writes them; ``board`` for single-board computers and phones.
    physical_cores, logical_cores, usable_cores
        Of the machine; ``usable_cores`` are those that this process may use (affinity, container quota).
    memory_bytes, governor, virtual
        Physical memory; the CPU frequency governor of the first core; whether a hypervisor is underneath.
    system, python, packages
        With their versions; the packages are those that take part, by distribution name.
    """

    architecture: str
    cpu: str | None
    board: str | None
    features: tuple[str, ...]
    physical_cores: int | None
    logical_cores: int | None
    usable_cores: int
    memory_bytes: int
    governor: str | None
    virtual: bool | None
    system: str
    python: str
    packages: dict[str, str]

    @property
    def name(self) -> str:
        """The board's or processor's name, else the architecture."""
        return self.board or self.cpu or self.architecture


@dataclass(frozen=True)
class Conditions:
    """The state of the machine around one run.

    Attributes
    ----------
    busy_before
        Share of all cores (0..1) that was busy just before the first measurement.
    load_before, load_after, on_battery
        One-minute load average; None where the system has none, as of the battery.
    stolen
        Share of the CPU time (0..1) that the hypervisor gave to others during the run; None if not reported.
    warnings
        What a reader should know before believing the numbers.
    """

    busy_before: float
    load_before: float | None
    load_after: float | None
    stolen: float | None
    on_battery: bool | None
    warnings: tuple[str, ...]


def fingerprint() -> Fingerprint:
    """Describe this machine; takes a few milliseconds and needs no rights."""
    cpuinfo = _read(Path("/proc/cpuinfo")) or ""
    flags = _field(cpuinfo, "flags")
    governor = _read(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"))
    return Fingerprint(
        architecture=platform.machine(),
        cpu=_cpu_name(cpuinfo),
        board=_board(),
        features=_features(flags or _field(cpuinfo, "Features") or ""),
        physical_cores=psutil.cpu_count(logical=False),
        logical_cores=psutil.cpu_count(logical=True),
        usable_cores=usable_cores(),
        memory_bytes=int(psutil.virtual_memory().total),
        governor=governor,
        virtual=None if flags is None else "hypervisor" in flags.split(),
        system=_system(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        packages=_packages(),
    )


class Watch:
    """Observes the machine from its making until :meth:`finish`."""

    def __init__(self) -> None:
        self._busy = float(psutil.cpu_percent(interval=_LOOK_SECONDS)) / 100.0
        self._load = _load()
        self._times = _cpu_times()

    def finish(self, machine: Fingerprint, threads: int | None) -> Conditions:
        """The conditions since the watch was made; ``threads`` is what each engine got, None: its own choice."""
        after = _cpu_times()
        spent, stolen = sum(after.values()) - sum(self._times.values()), None
        if "steal" in after and spent > 0:
            stolen = round((after["steal"] - self._times["steal"]) / spent, 4)
        found = Conditions(round(self._busy, 3), self._load, _load(), stolen, _on_battery(), ())
        return replace(found, warnings=tuple(_warnings(found, machine, threads or 1)))


def _warnings(found: Conditions, machine: Fingerprint, threads: int) -> Iterator[str]:
    if found.busy_before > _BUSY:
        yield f"the machine was busy before the run ({found.busy_before:.0%} of its cores): close other programs"
    if found.stolen is not None and found.stolen > _STOLEN:
        yield f"the hypervisor gave {found.stolen:.1%} of the CPU time to other machines during the run"
    if machine.governor not in (None, "performance"):
        yield f"the CPU frequency governor is {machine.governor!r}, not 'performance': clocks may vary"
    if found.on_battery:
        yield "the machine ran on battery: clocks may be lowered"
    for kind, cores in (("usable", machine.usable_cores), ("physical", machine.physical_cores)):
        if cores is not None and threads > cores:
            yield f"{threads} threads on {cores} {kind} cores"
            return


def _field(cpuinfo: str, name: str) -> str | None:
    found = re.search(rf"^{name}\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return found.group(1).strip() if found else None


def _cpu_name(cpuinfo: str) -> str | None:
    part = _field(cpuinfo, "CPU part")
    arm = f"ARM part {part}" if part else None
    return (
        _sysctl("-n", "machdep.cpu.brand_string")
        or _field(cpuinfo, "model name")
        or arm
        or platform.processor()
        or None
    )


def _board() -> str | None:
    tree = _read(Path("/proc/device-tree/model"))
    return tree.rstrip("\0") if tree else _sysctl("-n", "hw.model")


def _features(flags: str) -> tuple[str, ...]:
    """The features that the kernel lists (macOS: ``sysctl``), and those OpenCV detects, the only source on Windows."""
    intel = _sysctl("-n", "machdep.cpu.features", "machdep.cpu.leaf7_features") or ""
    words = [*flags.split(), *intel.replace(".", "_").split()]
    listed = (_sysctl("hw.optional") or "").splitlines()
    words += [line.split(":")[0].split(".")[-1] for line in listed if line.endswith(": 1")]
    with suppress(ImportError):
        import cv2

        names = [name for name in dir(cv2) if name.startswith("CPU_") and name[4:].lower() in _FEATURES]
        words += [name[4:] for name in names if cv2.checkHardwareSupport(int(getattr(cv2, name)))]
    return tuple(sorted({_FEATURES[word] for word in map(str.lower, words) if word in _FEATURES}))


def _system() -> str:
    """Name and version number only: a kernel's full release string may hold the name of its builder."""
    release = re.match(r"\d+(\.\d+)*", platform.mac_ver()[0] or platform.release())
    name = "macOS" if platform.system() == "Darwin" else platform.system()
    text = f"{name} {release.group(0)}" if release else name
    try:
        info = platform.freedesktop_os_release()
    except OSError:
        return text
    return f"{text} ({' '.join(filter(None, (info.get('ID'), info.get('VERSION_ID'))))})"


def _packages() -> dict[str, str]:
    found = {"p3m-edge": __version__}
    for name in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip() or None
    except OSError:
        return None


def _sysctl(*arguments: str) -> str | None:
    """The answer of macOS' ``sysctl``; None elsewhere."""
    if platform.system() != "Darwin":
        return None
    command = ["/usr/sbin/sysctl", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def _load() -> float | None:
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _cpu_times() -> dict[str, float]:
    """Seconds of CPU time since the system started, by use; guests' time is part of ``user`` already."""
    times: dict[str, float] = psutil.cpu_times()._asdict()
    return {use: seconds for use, seconds in times.items() if not use.startswith("guest")}


def _on_battery() -> bool | None:
    try:
        state = psutil.sensors_battery()
    except (AttributeError, OSError, RuntimeError, NotImplementedError):
        return None
    return None if state is None or state.power_plugged is None else not state.power_plugged
