"""Set up the emulation that ``p3m-edge verify --emulate`` uses: QEMU, an ARM Python, and the runtime's packages.

``python tools/emulation.py`` needs Debian or Ubuntu with apt-get, dpkg-deb and Debian's keyring, and no rights: it has
lists and a cache of packages of its own, and unpacks what it downloads into one folder; nothing is installed. The
Python packages have the versions of ``constraints.txt``. About 200 MB are downloaded; the folder has about 400 MB. What
an interrupted run has downloaded, the next one does not download again.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import msgspec
from filelock import Timeout

from p3m_edge.atomic import locked, reason, remove_folder, swap
from p3m_edge.cli import main, ui
from p3m_edge.cli.options import argument, option
from p3m_edge.errors import MissingError, OutputError, P3MEdgeError
from p3m_edge.runtimes import emulation
from p3m_edge.runtimes.emulation import ARCHITECTURE, EMULATOR, RECORD, ROOT, SITE, EmulationRecord

EXAMPLES = """
python tools/emulation.py
python tools/emulation.py /srv/emulation-aarch64
p3m-edge verify out/onnx-int8 --emulate aarch64:cortex-a72,neoverse-n1
"""
PYTHON = "3.11"
DEBIAN = "bookworm"
MIRROR = "http://deb.debian.org/debian"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
FOREIGN = (
    f"python{PYTHON}-minimal", f"libpython{PYTHON}-minimal", f"libpython{PYTHON}-stdlib", "libc6", "libgcc-s1",
    "libstdc++6", "zlib1g", "libexpat1", "libffi8", "libssl3", "libbz2-1.0", "liblzma5", "libsqlite3-0", "libuuid1",
    "libncursesw6", "libtinfo6", "libreadline8", "libcrypt1", "libdb5.3",
)  # fmt: skip
"""Debian's packages for arm64: Python, and what it and the wheels are linked with."""
QEMU = f"qemu-user/{DEBIAN}-backports"
"""10.0 or newer: 7.2, which is that of the release, crashes in ONNX Runtime from 1.28 on."""
PACKAGES = ("filelock", "msgspec", "numpy", "opencv-python-headless", "pillow", *emulation.ENGINES.values())
PLATFORMS = ("2_35", "2_34", "2_28", "2_27", "2_17")  # of glibc; bookworm has 2.36
CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"
_NETWORK = "is the network there? what has been downloaded is kept for the next run"


@dataclass(frozen=True)
class Arguments:
    """Set up the emulation of ARM processors: QEMU, Python and the runtime's packages, in one folder that can be
    deleted as it is. Nothing is installed. A folder that is complete is left as it is.
    """

    folder: Path | None = argument("where (default: in p3m-edge's cache folder)", "DIR", nargs="?")
    mirror: str = option("Debian's archive, or a mirror of it", MIRROR, metavar="URL")


def run(args: Arguments, console: ui.Console) -> None:
    """Set it up, unless that has been done."""
    folder = emulation.default_folder() if args.folder is None else args.folder.absolute()
    wanted = _digest()
    if not _holds(folder, wanted):
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with locked(folder, timeout=0):
                _set_up(folder, wanted, args.mirror, console)
        except Timeout:
            raise OutputError(f"another process is setting {folder} up", hint="wait for it") from None
        except OSError as error:
            raise OutputError(f"{folder} cannot be written: {reason(error)}") from error
    found = emulation.open_emulation(folder)
    found.check(["max"])
    console.emit(found.record, [f"{folder}: {found.record.emulator}, Python {found.record.python}"])


def _digest() -> str:
    """Of all that decides what is in the folder."""
    pins = [
        line for line in CONSTRAINTS.read_text(encoding="utf-8").splitlines() if line.partition("==")[0] in PACKAGES
    ]
    return hashlib.sha256(repr((DEBIAN, PYTHON, FOREIGN, QEMU, PACKAGES, pins)).encode()).hexdigest()


def _holds(folder: Path, wanted: str) -> bool:
    """Whether a folder is complete and up to date."""
    try:
        return emulation.open_emulation(folder).record.digest == wanted
    except MissingError:
        return False


def _set_up(folder: Path, wanted: str, mirror: str, console: ui.Console) -> None:
    """Download into a folder beside it, which stays if that fails; unpack, and put the result into its place."""
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / RECORD).is_file())):
        raise OutputError(f"{folder} is no emulation, so it is not replaced", hint="name another folder")
    for tool in ("apt-get", "dpkg-deb", "dpkg"):
        if shutil.which(tool) is None:
            raise MissingError(f"{tool} is not here", hint="run it on Debian or Ubuntu, and copy the folder")
    if not KEYRING.is_file():
        raise MissingError(f"{KEYRING} is missing", hint="apt install debian-archive-keyring")
    downloads, partial = (folder.with_name(f".{folder.name}.{what}") for what in ("downloads", "partial"))
    host = _run("dpkg", "--print-architecture")
    debs, wheels = downloads / "debs", downloads / f"wheels-{wanted[:16]}"
    for made in (debs, wheels):
        made.mkdir(parents=True, exist_ok=True)
    console.note(f"downloading Debian's packages from {mirror}")
    _download_debian(downloads, debs, host, mirror)
    console.note("downloading Python's packages from pip's index")
    _download_wheels(wheels)
    console.note(f"unpacking into {folder}")
    remove_folder(partial)
    try:
        record = _unpack(debs, wheels, partial, wanted)
        (partial / RECORD).write_bytes(msgspec.json.format(msgspec.json.encode(record)))
        swap(partial, folder)
    finally:
        remove_folder(partial)
    remove_folder(downloads)


def _download_debian(downloads: Path, debs: Path, host: str, mirror: str) -> None:
    """By apt, with lists, cache and sources of its own: those of the system are not looked at, nor its packages."""
    state = downloads / "apt"
    (state / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    (state / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    suites = {"": mirror, "-updates": mirror, "-backports": mirror, "-security": f"{mirror.rstrip('/')}-security"}
    lines = (f"deb [signed-by={KEYRING}] {where} {DEBIAN}{suite} main\n" for suite, where in suites.items())
    (state / "sources.list").write_text("".join(lines), encoding="utf-8")
    settings = {
        "Dir::State": state, "Dir::State::status": state / "status", "Dir::Cache": state,
        "Dir::Etc::SourceList": state / "sources.list", "Dir::Etc::SourceParts": "/dev/null",
        "APT::Update::Error-Mode": "any", "APT::Sandbox::User": "root", "Acquire::Retries": 3,
    }  # fmt: skip
    apt = ["apt-get", "--quiet", *(word for name, value in settings.items() for word in ("-o", f"{name}={value}"))]
    apt += [word for each in dict.fromkeys((host, "arm64")) for word in ("-o", f"APT::Architectures::={each}")]
    _run(*apt, "update", mark="E:", hint=_NETWORK)
    download = (*apt, "download", QEMU, *(f"{name}:arm64" for name in FOREIGN))
    current = {line.split()[1] for line in _run(*download, "--print-uris", mark="E:").splitlines()}
    for deb in debs.glob("*.deb"):  # of an earlier run, and of a version that there is no more
        if deb.name not in current:
            deb.unlink()
    _run(*download, folder=debs, mark="E:", hint=_NETWORK)


def _download_wheels(wheels: Path) -> None:
    """By pip, from the index that it is set up with."""
    platforms = [word for libc in PLATFORMS for word in ("--platform", f"manylinux_{libc}_{ARCHITECTURE}")]
    _run(
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", *platforms,
        "--python-version", PYTHON, "--constraint", CONSTRAINTS, "--dest", wheels, *PACKAGES,
        mark="ERROR:", hint=_NETWORK,
    )  # fmt: skip


def _unpack(debs: Path, wheels: Path, place: Path, wanted: str) -> EmulationRecord:
    """Lay the folder out; of the emulator's package, the program for this architecture alone, and its licence."""
    system, packages = {}, {}
    for deb in sorted(debs.glob("*.deb")):
        name, version = (_run("dpkg-deb", "--field", deb, field) for field in ("Package", "Version"))
        foreign = name in FOREIGN
        system[name] = version
        into = place / (ROOT if foreign else "emulator")
        into.mkdir(parents=True, exist_ok=True)
        _run("dpkg-deb", "--extract", deb, into)
        if not foreign:
            for other in (place / EMULATOR).parent.iterdir():
                if other.name != (place / EMULATOR).name:
                    other.unlink()
    for wheel in sorted(wheels.glob("*.whl")):
        name, version, *_ = wheel.name.split("-")
        packages[name.replace("_", "-")] = version
        try:
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(place / SITE)
        except (zipfile.BadZipFile, ValueError) as error:
            wheel.unlink()
            raise P3MEdgeError(f"{wheel.name} is damaged: {error}", hint="the next run downloads it again") from error
    version = _run(place / EMULATOR, "--version").split()[2]
    return EmulationRecord(ARCHITECTURE, wanted, f"{Path(EMULATOR).name} {version}", PYTHON, packages, system)


def _run(*command: str | Path, folder: Path | None = None, mark: str = "error:", hint: str | None = None) -> str:
    """What a program prints; where it fails, an error with the first line that has the mark, or the last of all."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
    if done.returncode == 0:
        return done.stdout.strip()
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
    told = next((line for line in lines if mark in line), lines[-1])
    raise P3MEdgeError(f"{Path(command[0]).name} failed: {told}", hint=hint)


if __name__ == "__main__":
    sys.exit(main(tool=sys.modules[__name__]))
