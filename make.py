"""Set p3m-edge up and run it: the two commands of the README.

python3 make.py demo [options of `p3m-edge demo`]
    the whole path once: build, export, verify, run and measure the network
python3 make.py test [--tier fast|full] [options of pytest]
    ruff, mypy, import-linter and pytest

Both need Python 3.11 to 3.13 and nothing else. They make a virtual environment (`.venv`, or
$P3M_EDGE_VENV), install into it with pip under the settings that pip finds on this machine, and
do nothing when that has been done. Set-up messages go to the standard error stream.
"""

# This file must parse on old Pythons too, to say there what is wrong: no `X | Y` outside quotes, no walrus.
import argparse
import contextlib
import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Iterator

ROOT = Path(__file__).resolve().parent
PYTHONS = ((3, 11), (3, 12), (3, 13))
DEMO_EXTRAS = ("onnx", "openvino", "torch")
TEST_EXTRAS = ("dev", "train", "quantize", "coreml", "coreai", "tensorrt-rtx", "sign", *DEMO_EXTRAS)
GLIBC_OF_COREAI, MACOS_OF_COREAI = (2, 34), (26,)
MINIMUM_TORCH = (2, 9)
WINDOWS = os.name == "nt"

TORCH_NOTICE = """\
This downloads PyTorch (the CPU build: about 200 MB) and about 280 MB of other packages, 720 MB for the tests."""
LINUX_NOTICE = """\
On Linux the public index serves PyTorch's CUDA build, several GB with its libraries. For the CPU build, stop now
(Ctrl-C) and give pip the CPU index that PyTorch's installation page names, as PIP_EXTRA_INDEX_URL or in pip's own
configuration; a folder of wheels works too (PIP_FIND_LINKS). pip then prefers the CPU build."""

PROBE = "import sys, ensurepip, venv; print('%d.%d' % sys.version_info[:2], sys.executable)"
TORCH_PROBE = """\
import importlib.metadata as m, json, pathlib, re, torch
needs = [re.match(r"[A-Za-z0-9._-]+", r).group() for r in m.requires("torch") or [] if "extra ==" not in r]
folder = str(pathlib.Path(torch.__file__).resolve().parent.parent)
print(json.dumps({"version": str(torch.__version__).partition("+")[0], "folder": folder, "needs": needs}))
"""
DIAGNOSES = (
    (r"No space left on device|Errno 28\b|WinError 112", "the disc is full"),
    (
        r"NewConnectionError|Failed to establish a new connection|name resolution|getaddrinfo failed|Max retries"
        r"|Network is unreachable|ReadTimeoutError|ProxyError|connection (broken|reset)",
        "the package index cannot be reached (offline? a proxy?)",
    ),
    (
        r"No matching distribution found for (?P<what>[^\s(;]+)",
        "no package index has a build of {what} for this Python",
    ),
    (r"ResolutionImpossible", "the pinned versions cannot all be had (no build for this Python or system?)"),
    (r"Permission denied|Errno 13\b", "a file or folder must not be written"),
)


class SetupError(Exception):
    """Something that one line can explain."""


def say(text: str) -> None:
    """Tell the user about the set-up."""
    print(text, file=sys.stderr, flush=True)


def run(command: "list[str]", stdout: "int | None" = None) -> int:
    """Run a command in the project's folder; its exit code is never negative."""
    process = subprocess.Popen(command, cwd=str(ROOT), stdout=stdout)
    try:
        code = process.wait()
    except BaseException as error:
        # A terminal sends Ctrl-C to the child as well: let it clean up before it is stopped.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10 if isinstance(error, KeyboardInterrupt) else 0)
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
        process.kill()
        raise
    return code if code >= 0 else 128 - code


def fitting_python() -> str:
    """The interpreter to make the environment with: this one if it will do, else one from PATH."""
    inside = Path(sys.prefix).resolve() == environment_folder()
    if sys.version_info[:2] in PYTHONS and not inside and importlib.util.find_spec("ensurepip"):
        return sys.executable
    names = ["python%d.%d" % version for version in PYTHONS]
    candidates = [[getattr(sys, "_base_executable", sys.executable)]] if inside else []
    candidates += [[name] for name in names] + ([["py", "-%d.%d" % version] for version in PYTHONS] if WINDOWS else [])
    for candidate in candidates:
        python = probe(candidate)
        if python is not None:
            return python
    this = "this is Python %d.%d.%d" % sys.version_info[:3]
    if sys.version_info[:2] in PYTHONS:
        this += " without the venv module (on Debian and Ubuntu: apt install python%d.%d-venv)" % sys.version_info[:2]
    raise SetupError("Python 3.11 to 3.13 is needed; {}, and PATH has no working {}".format(this, ", ".join(names)))


def probe(command: "list[str]") -> "str | None":
    """The path of the interpreter that a command starts; None unless it works and can make environments."""
    try:
        answer = subprocess.run([*command, "-c", PROBE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    version, _, path = answer.stdout.decode(errors="replace").strip().partition(" ")
    return path if version in ["%d.%d" % known for known in PYTHONS] and answer.returncode == 0 else None


def environment_folder() -> Path:
    """Where the virtual environment is or will be."""
    return Path(os.environ.get("P3M_EDGE_VENV") or ROOT / ".venv").expanduser().resolve()


def fitting_extras() -> "tuple[str, ...]":
    """What the tests take: without Core AI where its packages ask for a newer system, which no marker of pip says."""
    libc, glibc = platform.libc_ver()
    found, wanted = {
        "linux": (glibc if libc == "glibc" else "", GLIBC_OF_COREAI),
        "darwin": (platform.mac_ver()[0], MACOS_OF_COREAI),
    }.get(sys.platform, ("0", (0,)))
    fits = tuple(int(part) for part in re.findall(r"\d+", found)) >= wanted
    return tuple(extra for extra in TEST_EXTRAS if fits or extra != "coreai")


def find_torch() -> "dict[str, Any] | None":
    """The PyTorch that this interpreter can already import, if it is recent enough."""
    if importlib.util.find_spec("torch") is None:
        return None
    answer = subprocess.run([sys.executable, "-P", "-c", TORCH_PROBE], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if answer.returncode:
        reason = (answer.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"])[-1]
        say(f"The PyTorch of {sys.executable} cannot be imported and is not used: {reason}")
        return None
    found: "dict[str, Any]" = json.loads(answer.stdout)
    if tuple(int(part) for part in re.findall(r"\d+", found["version"])[:2]) < MINIMUM_TORCH:
        say("The PyTorch {} of {} is too old and is not used.".format(found["version"], sys.executable))
        return None
    return found


@contextlib.contextmanager
def lock(path: Path) -> "Iterator[None]":
    """Hold a lock that ends with the process, waiting for another holder."""
    with path.open("ab") as stream:
        waiting = False
        while not try_lock(stream.fileno()):
            if not waiting:
                say(f"Another make.py is setting {path.parent} up: waiting for it.")
            waiting = True
            time.sleep(0.5)
        yield


def try_lock(descriptor: int) -> bool:
    """Take the lock on an open file; False when somebody else has it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, 0, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


class Environment:
    """The virtual environment, and the stamp that says what was installed into it.

    The stamp is ``installing`` while pip works; an environment found so was interrupted half-way and is made anew.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = str(folder / ("Scripts/python.exe" if WINDOWS else "bin/python"))
        self.log = folder / "pip.log"
        self.stamp = folder / "p3m-edge.json"
        self.lock = folder / "p3m-edge.lock"

    def prepare(self, extras: "tuple[str, ...]") -> None:
        """Make the environment and install the extras, unless that has been done."""
        base = [sys.version, sys.base_prefix, str(self.folder), str(ROOT)]
        files = (ROOT / "pyproject.toml", ROOT / "constraints.txt")
        wanted = hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()
        if self._is_ready(self._read(), base, wanted, extras):
            return
        if self.folder.exists() and not self.lock.exists() and any(self.folder.iterdir()):
            raise SetupError(
                f"{self.folder} was not made by make.py and is left alone: "
                "move it away, or set P3M_EDGE_VENV to another folder"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        with lock(self.lock):
            stamp = self._read()
            if self._is_ready(stamp, base, wanted, extras):
                return
            if stamp.get("base") != base or stamp.get("status") not in ("ready", "failed") or not self._is_whole(stamp):
                stamp = self._create(base)
            stamp["extras"] = sorted({*extras, *stamp["extras"]})
            self._install(stamp)
            stamp.update(status="ready", wanted=wanted)
            self._write(stamp)
            say(f"Set up: {self.folder}")

    def _is_ready(self, stamp: "dict[str, Any]", base: "list[str]", wanted: str, extras: "tuple[str, ...]") -> bool:
        done = stamp.get("status") == "ready" and stamp.get("base") == base and stamp.get("wanted") == wanted
        return done and set(extras) <= set(stamp["extras"]) and self._is_whole(stamp)

    def _is_whole(self, stamp: "dict[str, Any]") -> bool:
        borrowed = stamp["torch"]
        return Path(self.python).exists() and (borrowed is None or (Path(borrowed["folder"]) / "torch").is_dir())

    def _read(self) -> "dict[str, Any]":
        try:
            stamp: "dict[str, Any]" = json.loads(self.stamp.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return stamp if isinstance(stamp, dict) and {"status", "base", "extras", "torch"} <= set(stamp) else {}

    def _write(self, stamp: "dict[str, Any]") -> None:
        temporary = self.stamp.with_suffix(".tmp")
        temporary.write_text(json.dumps(stamp, indent=1), encoding="utf-8")
        temporary.replace(self.stamp)

    def _create(self, base: "list[str]") -> "dict[str, Any]":
        """An empty environment, in which the PyTorch of this interpreter can be seen if it has one."""
        for child in self.folder.iterdir():
            if child.is_dir() and not child.is_symlink():
                shutil.rmtree(str(child))
            elif child != self.lock:
                child.unlink()
        say(f"Making a virtual environment with Python {sys.version.split()[0]}: {self.folder}")
        torch = find_torch()
        # What lies in an outer virtual environment is not among the system's packages: name its folder instead.
        system = torch is not None and sys.prefix == sys.base_prefix
        flags = ["--system-site-packages"] if system else []
        if run([sys.executable, "-m", "venv", *flags, str(self.folder)], stdout=sys.stderr.fileno()):
            free = shutil.disk_usage(str(self.folder)).free // 1_000_000
            raise SetupError(f"{sys.executable} -m venv failed ({free} MB are free on that disc)")
        if torch is not None and not system:
            query = "import sysconfig; print(sysconfig.get_path('purelib'))"
            target = subprocess.run([self.python, "-c", query], stdout=subprocess.PIPE, check=True).stdout.decode()
            (Path(target.strip()) / "p3m_edge_outer.pth").write_text(torch["folder"] + "\n", encoding="utf-8")
        return {"status": "failed", "base": base, "extras": [], "torch": torch}

    def _install(self, stamp: "dict[str, Any]") -> None:
        constraints = self._constraints(stamp["torch"])
        if stamp["torch"] is None and "torch" in stamp["extras"] and "wanted" not in stamp:
            say(TORCH_NOTICE)
            if sys.platform == "linux":
                say(LINUX_NOTICE)
        self.log.write_text("", encoding="utf-8")
        self._write({**stamp, "status": "installing"})
        package = "{}[{}]".format(ROOT, ",".join(stamp["extras"]))
        command = [self.python, "-m", "pip", "install", "--log", str(self.log), "-c", str(constraints), "-e", package]
        if run(command, stdout=sys.stderr.fileno()) == 0:
            return
        log = self.log.read_text(encoding="utf-8", errors="replace")
        if "Installing collected packages" not in log:  # pip gave up before it changed anything
            self._write({**stamp, "status": "failed"})
        raise SetupError(f"pip failed: {diagnose(log)}\n{last_errors(log)}\npip's log: {self.log}")

    def _constraints(self, torch: "dict[str, Any] | None") -> Path:
        """The constraints file; without those that contradict another PyTorch that is there already."""
        source = ROOT / "constraints.txt"
        if torch is None:
            return source
        lines = source.read_text(encoding="utf-8").splitlines()
        pinned = next((line for line in lines if line.startswith("torch==")), "no version of it")
        say("Using the PyTorch {version} of {folder}".format(**torch))
        if pinned == "torch==" + torch["version"]:
            return source
        say(f"constraints.txt has {pinned}: relaxed, with what PyTorch needs; this combination is not a tested one")
        free = {re.sub(r"[-_.]+", "-", name).lower() for name in ["torch", *torch["needs"]]}
        relaxed = self.folder / "constraints.txt"
        kept = [line for line in lines if line.partition("==")[0] not in free]
        relaxed.write_text("\n".join([*kept, "torch==" + torch["version"], ""]), encoding="utf-8")
        return relaxed


def diagnose(log: str) -> str:
    """What pip's log says is wrong, in a few words."""
    for pattern, meaning in DIAGNOSES:
        found = re.search(pattern, log)
        if found:
            return meaning.format(**found.groupdict())
    return "see its last lines"


def last_errors(log: str) -> str:
    """The last lines of pip's log that name an error, or its last lines."""
    lines = [re.sub(r"^\S+T[\d:,]+ ?", "", line) for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"\s*(ERROR|\w*Error\b)", line)]
    return "\n".join("  " + line.strip() for line in (errors or lines)[-4:])


def main(arguments: "list[str]") -> int:
    """Find a Python that will do, then do what was asked."""
    python = fitting_python()
    if python != sys.executable:
        return run([python, str(Path(__file__).resolve()), *arguments])
    parser = argparse.ArgumentParser(
        prog="make.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("verb", choices=("demo", "test"))
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="options of that verb")
    chosen = parser.parse_args(arguments)
    environment = Environment(environment_folder())
    environment.prepare(DEMO_EXTRAS if chosen.verb == "demo" else fitting_extras())
    command = ["p3m_edge", "demo"] if chosen.verb == "demo" else ["tests.packaging.checks"]
    return run([environment.python, "-m", *command, *chosen.arguments])


def on_termination(number: int, _frame: object) -> None:
    """Leave as after Ctrl-C, with the child stopped."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, on_termination)
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        say("interrupted")
        sys.exit(130)
    except SetupError as failure:
        say(f"make.py: error: {failure}")
    except OSError as error:
        say(f"make.py: error: {error.strerror or error}: {error.filename or ROOT}")
    sys.exit(1)
