"""Set p3m-edge up and run it: the two commands of the README.

python3 make.py demo [options of `p3m-edge demo`]
    the whole path once: build, export, verify, run and measure the network
python3 make.py test [--tier fast|full] [options of pytest]
    ruff, mypy, import-linter and pytest

Both need Python 3.11 to 3.13 and nothing else. They make a virtual environment (`.venv`, or $P3M_EDGE_VENV), install
into it with pip under the settings that pip finds on this machine, and do nothing when that has been done. Set-up
messages go to the standard error stream.
"""

# This file must parse on old Pythons too, to say there what is wrong: no `X | Y` outside quotes, no walrus.
import argparse
import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
WINDOWS = os.name == "nt"
PYTHONS = ((3, 11), (3, 12), (3, 13))
VERSIONS = ["%d.%d" % version for version in PYTHONS]
PROBE = "import sys, ensurepip, venv; print('%d.%d' % sys.version_info[:2], sys.executable)"


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
        if not isinstance(error, KeyboardInterrupt):  # a terminal sends Ctrl-C to the child as well
            process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):  # until it has cleaned up
            process.wait(timeout=10)
        process.kill()
        raise
    return code if code >= 0 else 128 - code


def probe(command: "list[str]") -> "str | None":
    """The path of the interpreter that a command starts; None unless it works and can make environments."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        answer = subprocess.check_output([*command, "-c", PROBE], stderr=subprocess.DEVNULL, timeout=60)
        version, _, path = answer.decode(errors="replace").strip().partition(" ")
        return path if version in VERSIONS else None
    return None


def environment_folder() -> Path:
    """Where the virtual environment is or will be."""
    return Path(os.environ.get("P3M_EDGE_VENV") or ROOT / ".venv").expanduser().resolve()


def fitting_python() -> str:
    """The interpreter to make the environment with: this one if it will do, else one from PATH."""
    inside = Path(sys.prefix).resolve() == environment_folder()
    if sys.version_info[:2] in PYTHONS and not inside and importlib.util.find_spec("ensurepip"):
        return sys.executable
    candidates = [[getattr(sys, "_base_executable", sys.executable)]] if inside else []
    candidates += [["python" + version] for version in VERSIONS]
    candidates += [["py", "-" + version] for version in VERSIONS if WINDOWS]
    for candidate in candidates:
        python = probe(candidate)
        if python is not None:
            return python
    this = "this is Python %d.%d.%d" % sys.version_info[:3]
    if sys.version_info[:2] in PYTHONS:
        this += " without the venv module (on Debian and Ubuntu: apt install python%d.%d-venv)" % sys.version_info[:2]
    names = ", ".join("python" + version for version in VERSIONS)
    raise SetupError(f"Python 3.11 to 3.13 is needed; {this}, and PATH has no working {names}")


def main(arguments: "list[str]") -> int:
    """Find a Python that will do, prepare the environment, then do what was asked."""
    python = fitting_python()
    if python != sys.executable:
        return run([python, str(Path(__file__).resolve()), *arguments])
    parser = argparse.ArgumentParser(
        prog="make.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("verb", choices=("demo", "test"))
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="options of that verb")
    chosen = parser.parse_args(arguments)
    sys.path.insert(0, str(ROOT / "tools"))
    import environment  # parses on new Pythons alone

    made = environment.prepared(environment_folder(), chosen.verb)
    command = ["p3m_edge", "demo"] if chosen.verb == "demo" else ["tests.packaging.checks"]
    return run([made, "-m", *command, *chosen.arguments])


def on_termination(number: int, _frame: object) -> None:
    """Leave as after Ctrl-C, with the child stopped."""
    raise SystemExit(128 + number)


def guarded() -> int:
    """The exit code of ``main``; whatever stops it is told in one line."""
    signal.signal(signal.SIGTERM, on_termination)
    try:
        return main(sys.argv[1:])
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    except SetupError as error:
        say(f"make.py: error: {error}")
    except OSError as error:
        say(f"make.py: error: {error.strerror or error}: {error.filename or ROOT}")
    return 1


if __name__ == "__main__":
    sys.modules["make"] = sys.modules[__name__]  # for those that import it
    sys.exit(guarded())
