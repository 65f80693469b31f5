"""The virtual environment that ``make.py`` runs everything in: made once, with what constraints.txt pins."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from make import ROOT, WINDOWS, SetupError, run, say

DEMO_EXTRAS = ("onnx", "openvino", "torch")
TEST_EXTRAS = (
    "dev", "train", "quantize", "coreml", "coreai", "litert", "tensorrt-rtx", "sign", "video", "heif", "ray",
    *DEMO_EXTRAS,
)  # fmt: skip
MINIMUM_TORCH = (2, 9)
_COREAI = {"linux": (2, 34), "darwin": (26,)}
"""The oldest glibc and macOS that the packages of Core AI take, which no marker of pip says."""
_NOTICE = """\
This downloads PyTorch (the CPU build: about 200 MB) and about 280 MB of other packages, 900 MB for the tests."""
_LINUX_NOTICE = """
On Linux the public index serves PyTorch's CUDA build, several GB with its libraries. For the CPU build, stop now
(Ctrl-C) and give pip the CPU index that PyTorch's installation page names, as PIP_EXTRA_INDEX_URL or in pip's own
configuration; a folder of wheels works too (PIP_FIND_LINKS). pip then prefers the CPU build."""
_DIAGNOSES = {
    r"No space left on device|Errno 28\b|WinError 112": "the disc is full",
    r"NewConnectionError|Failed to establish a new connection|name resolution|getaddrinfo failed|Max retries|ProxyError"
    r"|Network is unreachable|ReadTimeoutError|connection (broken|reset)":
        "the package index cannot be reached (offline? a proxy?)",
    r"No matching distribution found for (?P<what>[^\s(;]+)": "no package index has a build of {what} for this Python",
    r"ResolutionImpossible": "the pinned versions cannot all be had (no build for this Python or system?)",
    r"Permission denied|Errno 13\b": "a file or folder must not be written",
    r"": "see its last lines",
}  # fmt: skip
"""What in pip's log means what."""


def prepared(folder: Path, verb: str) -> str:
    """The Python of the environment in a folder, with all that the verb of make.py takes.

    Raises
    ------
    SetupError
        It cannot be made.
    """
    environment = Environment(folder)
    environment.prepare(DEMO_EXTRAS if verb == "demo" else fitting_extras())
    return environment.python


def fitting_extras() -> tuple[str, ...]:
    """What the tests take; without Core AI where its packages ask for a newer system."""
    libc, glibc = platform.libc_ver()
    found = platform.mac_ver()[0] if sys.platform == "darwin" else glibc if libc == "glibc" else ""
    fits = tuple(map(int, re.findall(r"\d+", found))) >= _COREAI.get(sys.platform, ())
    return tuple(extra for extra in TEST_EXTRAS if fits or extra != "coreai")


class Environment:
    """The environment, and the stamp that says what was installed into it.

    The stamp is ``installing`` while pip works; an environment found so was interrupted half-way and is made anew.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._log, self._lock = folder, folder / "pip.log", folder / "p3m-edge.lock"
        self._file = folder / "p3m-edge.json"
        self._stamp: dict[str, Any] = {}
        self.python = str(folder / ("Scripts/python.exe" if WINDOWS else "bin/python"))

    def prepare(self, extras: Iterable[str]) -> None:
        """Make the environment and install the extras, unless that has been done."""
        pins = b"\0".join((ROOT / name).read_bytes() for name in ("pyproject.toml", "constraints.txt"))
        wanted = hashlib.sha256(pins).hexdigest()
        if self._holds(wanted, extras):
            return
        if self.folder.exists() and not self._lock.exists() and any(self.folder.iterdir()):
            raise SetupError(
                f"{self.folder} was not made by make.py and is left alone: "
                "move it away, or set P3M_EDGE_VENV to another folder"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._lock.open("ab") as stream:
            _wait_for(stream.fileno(), self.folder)
            if self._holds(wanted, extras):
                return
            if self._stamp.get("status") not in ("ready", "failed"):
                self._create()
            self._install(sorted({*extras, *self._stamp["extras"]}))
            self._write("ready", wanted=wanted)
            say(f"Set up: {self.folder}")

    def _holds(self, wanted: str, extras: Iterable[str]) -> bool:
        """Read the stamp, and whether all is there; one of an environment that cannot be used is none."""
        try:
            stamp = json.loads(self._file.read_text(encoding="utf-8"))
            torch = stamp["torch"] is None or Path(stamp["torch"]["folder"], "torch").is_dir()
            usable = torch and stamp["base"] == self._base() and Path(self.python).exists()
        except (OSError, ValueError, KeyError, TypeError):
            usable = False
        self._stamp = stamp if usable else {}
        done = self._stamp.get("status") == "ready" and self._stamp.get("wanted") == wanted
        return done and set(extras) <= set(self._stamp["extras"])

    def _base(self) -> list[str]:
        return [sys.version, sys.base_prefix, str(self.folder), str(ROOT)]

    def _write(self, status: str, **more: object) -> None:
        self._stamp |= {"status": status, **more}
        temporary = self._file.with_suffix(".tmp")
        temporary.write_text(json.dumps(self._stamp, indent=1), encoding="utf-8")
        temporary.replace(self._file)

    def _create(self) -> None:
        """An empty environment, in which the PyTorch of this interpreter can be seen if it has one."""
        for child in self.folder.iterdir():
            if child.is_dir() and not child.is_symlink():
                shutil.rmtree(child)
            elif child != self._lock:
                child.unlink()
        say(f"Making a virtual environment with Python {sys.version.split()[0]}: {self.folder}")
        if run([sys.executable, "-m", "venv", str(self.folder)], stdout=sys.stderr.fileno()):
            free = shutil.disk_usage(self.folder).free // 1_000_000
            raise SetupError(f"{sys.executable} -m venv failed ({free} MB are free on that disc)")
        torch = _find_torch()
        if torch is not None:
            query = "import sysconfig; print(sysconfig.get_path('purelib'))"
            site = subprocess.run([self.python, "-c", query], stdout=subprocess.PIPE, check=True, text=True).stdout
            Path(site.strip(), "p3m_edge_outer.pth").write_text(torch["folder"] + "\n", encoding="utf-8")
        self._stamp = {"base": self._base(), "extras": [], "torch": torch}

    def _install(self, extras: list[str]) -> None:
        if self._stamp["torch"] is None and "torch" in extras and "wanted" not in self._stamp:
            say(_NOTICE + _LINUX_NOTICE * (sys.platform == "linux"))
        self._log.write_text("", encoding="utf-8")
        self._write("installing", extras=extras)
        how = ["--log", str(self._log), "-c", str(self._constraints()), "-e", f"{ROOT}[{','.join(extras)}]"]
        if run([self.python, "-m", "pip", "install", *how], stdout=sys.stderr.fileno()) == 0:
            return
        log = self._log.read_text(encoding="utf-8", errors="replace")
        if "Installing collected packages" not in log:  # pip gave up before it changed anything
            self._write("failed")
        lines = [re.sub(r"^\S+T[\d:,]+ ?", "", line).strip() for line in log.splitlines() if line.strip()]
        last = [line for line in lines if re.match(r"(ERROR|\w*Error\b)", line)] or lines
        raise SetupError("\n  ".join([f"pip failed: {diagnose(log)}", *last[-4:]]) + f"\npip's log: {self._log}")

    def _constraints(self) -> Path:
        """The constraints file; without those that contradict another PyTorch that is there already."""
        source, torch = ROOT / "constraints.txt", self._stamp["torch"]
        if torch is None:
            return source
        own = f"torch=={torch['version']}"
        say(f"Using the PyTorch {torch['version']} of {torch['folder']}")
        lines = source.read_text(encoding="utf-8").splitlines()
        if own in lines:
            return source
        pinned = next((line for line in lines if line.startswith("torch==")), "no version of it")
        say(f"constraints.txt has {pinned}: relaxed, with what PyTorch needs; this combination is not a tested one")
        free = {re.sub(r"[-_.]+", "-", name).lower() for name in ("torch", *torch["needs"])}
        relaxed = self.folder / "constraints.txt"
        kept = [line for line in lines if line.partition("==")[0] not in free]
        relaxed.write_text("\n".join([*kept, own, ""]), encoding="utf-8")
        return relaxed


def diagnose(log: str) -> str:
    """What pip's log says is wrong, in a few words."""
    found = next(match for match in (re.search(pattern, log) for pattern in _DIAGNOSES) if match)
    return _DIAGNOSES[found.re.pattern].format(**found.groupdict())


def _find_torch() -> dict[str, Any] | None:
    """The PyTorch that this interpreter can already import, if it is recent enough."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    imported = subprocess.run([sys.executable, "-P", "-c", "import torch"], capture_output=True, text=True)
    if imported.returncode:
        reason = (imported.stderr.strip().splitlines() or ["no reason given"])[-1]
        say(f"The PyTorch of {sys.executable} cannot be imported and is not used: {reason}")
        return None
    version = metadata.version("torch").partition("+")[0]
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < MINIMUM_TORCH:
        say(f"The PyTorch {version} of {sys.executable} is too old and is not used.")
        return None
    names = (re.match(r"[\w.-]+", each) for each in metadata.requires("torch") or [] if "extra ==" not in each)
    folder = Path(spec.origin).resolve().parent.parent
    return {"version": version, "folder": str(folder), "needs": [name[0] for name in names if name]}


def _wait_for(lock: int, folder: Path) -> None:
    """Take the lock on an open file, which ends with the process; wait for another holder."""
    system = import_module("msvcrt" if WINDOWS else "fcntl")
    waiting = False
    while True:
        try:
            if WINDOWS:
                system.locking(lock, system.LK_NBLCK, 1)
            else:
                system.flock(lock, system.LOCK_EX | system.LOCK_NB)
            return
        except OSError:
            if not waiting:
                say(f"Another make.py is setting {folder} up: waiting for it.")
            waiting = True
            time.sleep(0.5)
