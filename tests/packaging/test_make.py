"""make.py itself, run as a user runs it, on a tiny project that builds without any network."""

from __future__ import annotations

import ast
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.packaging.sources import ROOT
from tests.tools import load_tool

WINDOWS = os.name == "nt"
environment = load_tool("environment")

BACKEND = """
import os, pathlib, time, zipfile

NAME = "p3m_edge-0-py3-none-any.whl"

def _metadata():
    return pathlib.Path("METADATA").read_text()

def build_editable(folder, config_settings=None, metadata_directory=None):
    pathlib.Path("building").touch()
    time.sleep(float(os.environ.get("TINY_SLEEP", "0")))
    info = "p3m_edge-0.dist-info/"
    with zipfile.ZipFile(pathlib.Path(folder) / NAME, "w") as wheel:
        wheel.writestr("tiny.pth", os.getcwd())
        wheel.writestr(info + "METADATA", _metadata())
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "RECORD", "")
    return NAME

build_wheel = build_editable
"""
MAIN = (
    "import json, sys; print(json.dumps([sys.prefix, sys.argv[1:]])); raise SystemExit(7 if 'seven' in sys.argv else 0)"
)


class Tiny:
    """A project of the same name, extras and verbs as this one, with this ``make.py`` and next to nothing else."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.venv = root / ".venv"
        (root / "p3m_edge").mkdir(parents=True)
        shutil.copy(ROOT / "make.py", root)
        (root / "tools").mkdir()
        shutil.copy(ROOT / "tools" / "environment.py", root / "tools")
        (root / "p3m_edge" / "__main__.py").write_text(MAIN)
        (root / "backend.py").write_text(BACKEND)
        build = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        (root / "pyproject.toml").write_text(build)
        (root / "constraints.txt").write_text("numpy==2.3.5\nsympy==1.14.0\ntorch==2.13.0\n")
        self.require()

    def require(self, torch: str | None = None) -> None:
        lines = ["Metadata-Version: 2.1", "Name: p3m-edge", "Version: 0"]
        lines += [f"Provides-Extra: {extra}" for extra in environment.TEST_EXTRAS]
        lines += [f'Requires-Dist: {torch}; extra == "torch"'] if torch else []
        (self.root / "METADATA").write_text("\n".join(lines) + "\n")

    def start(self, python: Path, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "PYTHON", "P3M_EDGE_", "VIRTUAL_ENV"))}
        variables = {**kept, "PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", **variables}
        return subprocess.Popen(
            [str(python), str(self.root / "make.py"), *arguments],
            env={name: value for name, value in variables.items() if value},
            cwd=self.root.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, python: Path, *arguments: str, **variables: str) -> tuple[int, str, str]:
        process = self.start(python, *arguments, **variables)
        out, err = process.communicate(timeout=120)
        assert "Traceback" not in err, err
        return process.returncode, out, err

    def status(self) -> str:
        return str(json.loads((self.venv / "p3m-edge.json").read_text())["status"])


def outer_python(folder: Path) -> Path:
    """An interpreter without packages: what a user has who has only installed Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return folder / ("Scripts/python.exe" if WINDOWS else "bin/python")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return outer_python(tmp_path_factory.mktemp("outer") / "venv")


@pytest.fixture
def tiny(tmp_path: Path) -> Tiny:
    return Tiny(tmp_path / "a project")  # with a space in its name


def test_set_up_once_then_cheap_then_again_when_the_pins_change(tiny: Tiny, python: Path) -> None:
    code, out, err = tiny.run(python, "demo", "--json", "x y")
    assert code == 0, err
    assert json.loads(out) == [str(tiny.venv), ["demo", "--json", "x y"]]  # one document, all else on stderr
    assert "about 200 MB" in err
    assert "Set up: " in err
    assert tiny.status() == "ready"
    (tiny.venv / "kept").touch()

    assert tiny.run(python, "demo", "seven")[::2] == (7, "")
    inner = Path(environment.Environment(tiny.venv).python)
    assert tiny.run(inner, "demo")[::2] == (0, "")  # with the environment's own Python, too

    (tiny.root / "constraints.txt").write_text("numpy==2.3.4\n")
    code, _, err = tiny.run(inner, "demo")
    assert (code, "Set up: " in err, "Making" in err) == (0, True, False)
    assert (tiny.venv / "kept").exists()


@pytest.mark.skipif(WINDOWS, reason="no such signals on Windows")
@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (signal.SIGINT, 130),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.full),
        pytest.param(signal.SIGKILL, -9, marks=pytest.mark.full),
    ],
)
def test_an_interrupted_set_up_is_made_anew(tiny: Tiny, python: Path, number: signal.Signals, expected: int) -> None:
    process = tiny.start(python, "demo", TINY_SLEEP="60")
    deadline = time.monotonic() + 60
    while not (tiny.root / "building").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == expected
    assert 'Traceback (most recent call last):\n  File "' + str(tiny.root) not in err
    assert tiny.status() == "installing"
    (tiny.venv / "half").touch()
    code, _, err = tiny.run(python, "demo")
    assert (code, "Making" in err, (tiny.venv / "half").exists()) == (0, True, False)


@pytest.mark.full
def test_two_at_once_install_once(tiny: Tiny, python: Path) -> None:
    both = [tiny.start(python, "demo", TINY_SLEEP="2") for _ in range(2)]
    ends = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    errors = [err for _, err in ends]
    assert sorted("Making" in err for err in errors) == [False, True]
    assert sorted("waiting" in err for err in errors) == [False, True]


def test_pip_that_fails_is_one_clear_line_and_the_next_run_goes_on(tiny: Tiny, python: Path) -> None:
    tiny.require("torch>=2.9")
    code, out, err = tiny.run(python, "demo")
    assert (code, out) == (1, "")
    (line,) = [line for line in err.splitlines() if line.startswith("make.py: error: ")]
    assert line.startswith("make.py: error: pip failed: the pinned versions cannot all be had")
    (tiny.root / "constraints.txt").write_text("")
    code, _, err = tiny.run(python, "demo")
    assert (code, err.count("no package index has a build of torch>=2.9 for this Python")) == (1, 1)
    assert str(tiny.venv / "pip.log") in err
    assert tiny.status() == "failed"

    # Nothing listens on the discard port.
    code, _, err = tiny.run(python, "demo", PIP_NO_INDEX="", PIP_INDEX_URL="http://127.0.0.1:9/", PIP_RETRIES="0")
    assert code == 1
    assert "make.py: error: pip failed: the package index cannot be reached (offline? a proxy?)" in err.splitlines()

    (tiny.venv / "kept").touch()
    tiny.require()
    code, _, err = tiny.run(python, "demo")
    assert (code, tiny.status(), (tiny.venv / "kept").exists()) == (0, "ready", True)


@pytest.mark.parametrize("variable", ["", "elsewhere"])
def test_a_foreign_folder_is_left_alone(tiny: Tiny, python: Path, tmp_path: Path, variable: str) -> None:
    folder = tmp_path / variable if variable else tiny.venv
    folder.mkdir()
    (folder / "precious").write_text("mine")
    code, _, err = tiny.run(python, "demo", P3M_EDGE_VENV=str(folder) if variable else "")
    assert code == 1
    assert f"make.py: error: {folder} was not made by make.py and is left alone" in err
    assert [path.name for path in folder.iterdir()] == ["precious"]


def install_stand_in_torch(python: Path, version: str, user_base: Path | None = None) -> None:
    """PyTorch as far as pip and make.py look at it: importable, with metadata."""
    query = (
        "import site, sysconfig, sys; print(sysconfig.get_path('purelib') if len(sys.argv) == 1 else site.USER_SITE)"
    )
    command = [str(python), "-c", query, *(["user"] if user_base else [])]
    env = {**os.environ, "PYTHONUSERBASE": str(user_base)} if user_base else None
    site = Path(subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout.strip())
    (site / "torch").mkdir(parents=True)
    (site / "torch" / "__init__.py").write_text(f"__version__ = '{version}'")
    info = site / f"torch-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\nRequires-Dist: sympy\n")
    sympy = site / "sympy-1.13.3.dist-info"
    sympy.mkdir()
    (sympy / "METADATA").write_text("Metadata-Version: 2.1\nName: sympy\nVersion: 1.13.3\n")


def test_a_torch_that_is_there_is_used_and_its_pin_relaxed(tiny: Tiny, tmp_path: Path) -> None:
    python = outer_python(tmp_path / "outer")
    install_stand_in_torch(python, "2.10.1+cu128")
    tiny.require("torch>=2.9")
    code, _, err = tiny.run(python, "demo")
    assert code == 0, err
    assert "Using the PyTorch 2.10.1 of " in err
    assert "constraints.txt has torch==2.13.0: relaxed" in err
    assert "This downloads" not in err
    assert (tiny.venv / "constraints.txt").read_text().split() == ["numpy==2.3.5", "torch==2.10.1"]
    seen = [environment.Environment(tiny.venv).python, "-c", "import torch; print(torch.__version__)"]
    assert subprocess.run(seen, capture_output=True, text=True, check=True).stdout.strip() == "2.10.1+cu128"


@pytest.mark.full
def test_an_environment_whose_torch_has_gone_is_made_anew(tiny: Tiny, tmp_path: Path) -> None:
    python = outer_python(tmp_path / "outer")
    install_stand_in_torch(python, "2.10.1")
    tiny.require("torch>=2.9")
    assert tiny.run(python, "demo")[0] == 0
    shutil.rmtree(tmp_path / "outer")  # with its PyTorch gone, the environment is no longer whole
    fresh = outer_python(tmp_path / "outer")
    code, _, err = tiny.run(fresh, "demo")
    assert (code, "Making" in err, "This downloads" in err) == (1, True, True)


@pytest.mark.full
def test_the_torch_of_a_plain_python_is_used(tiny: Tiny, tmp_path: Path) -> None:
    python = Path(getattr(sys, "_base_executable", sys.executable))
    base = str(tmp_path / "user")
    install_stand_in_torch(python, "2.11.0", tmp_path / "user")
    tiny.require("torch>=2.9")
    code, _, err = tiny.run(python, "demo", PYTHONUSERBASE=base)
    assert code == 0, err
    assert "Using the PyTorch 2.11.0 of " in err
    seen = [environment.Environment(tiny.venv).python, "-c", "import torch; print(torch.__version__)"]
    assert subprocess.run(seen, capture_output=True, text=True, check=True).stdout.strip() == "2.11.0"


@pytest.mark.full
def test_a_torch_that_is_too_old_is_not_used(tiny: Tiny, tmp_path: Path) -> None:
    python = outer_python(tmp_path / "outer")
    install_stand_in_torch(python, "2.8.0")
    code, _, err = tiny.run(python, "demo")
    assert code == 0
    assert "The PyTorch 2.8.0 of" in err
    assert "is too old and is not used" in err
    assert json.loads((tiny.venv / "p3m-edge.json").read_text())["torch"] is None


def test_an_unknown_verb_is_usage(tiny: Tiny, python: Path) -> None:
    code, _, err = tiny.run(python, "dmeo")
    assert code == 2
    assert "invalid choice: 'dmeo'" in err
    assert not tiny.venv.exists()


def old_python() -> str:
    """A Python before 3.11, from PATH or from pyenv."""
    home = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    managed = [str(path) for path in sorted(home.glob("3.*/bin/python"))]
    for name in [*(f"python3.{minor}" for minor in range(7, 11)), *managed]:
        path = shutil.which(name)
        query = "import sys; raise SystemExit(0 if (3, 6) <= sys.version_info < (3, 11) else 1)"
        if path and subprocess.run([path, "-c", query], capture_output=True).returncode == 0:
            return path
    pytest.skip("no Python between 3.6 and 3.10 here")


@pytest.mark.skipif(WINDOWS, reason="PATH is searched with the py launcher there")
def test_an_old_python_hands_over_or_says_so(tiny: Tiny, python: Path, tmp_path: Path) -> None:
    old = Path(old_python())
    code, _, err = tiny.run(old, "demo", PATH=str(tmp_path))
    assert code == 1
    assert err.startswith("make.py: error: Python 3.11 to 3.13 is needed; this is Python 3.")
    assert len(err.splitlines()) == 1
    found = tmp_path / "bin"
    found.mkdir()
    (found / "python3.11").write_text("#!/bin/sh\necho broken; exit 1\n")  # as a version manager's empty shim
    (found / "python3.11").chmod(0o755)
    (found / "python3.13").symlink_to(python)
    # The verb is unknown, so the new Python answers without setting anything up.
    code, _, err = tiny.run(old, "dmeo", PATH=str(found))
    assert (code, "invalid choice: 'dmeo'" in err) == (2, True)


def test_it_parses_on_old_pythons() -> None:
    ast.parse((ROOT / "make.py").read_text(encoding="utf-8"), feature_version=(3, 6))


def test_the_ci_script_calls_this_command() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "python3 make.py test" in script
    assert (ROOT / "README.md").read_text(encoding="utf-8").count("python3 make.py test") >= 1
    if not WINDOWS:
        assert os.access(ROOT / ".ci" / "run", os.X_OK)
