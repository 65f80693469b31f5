"""Fixtures that every test may use, and what must be set before the engines start."""

import os
import shutil
import signal
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings

from p3m_edge.resources import usable_cores
from p3m_edge.telemetry import silence_engines

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
Once = Callable[[str, Callable[[Path], object]], Path]

# A busy machine is no failure.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def _share_the_cores() -> None:
    """Give each of several workers its part of the cores: engines that all start a thread per core only get slower.

    The variables are read when a library is loaded, so this runs before any test module is imported.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers > 1:
        threads = str(max(1, usable_cores() // workers))
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"):
            os.environ.setdefault(name, threads)


_share_the_cores()
# A job started in the background ignores Ctrl-C, and its children with it; those of the tests must not.
signal.signal(signal.SIGINT, signal.default_int_handler)
silence_engines()  # the tests' own imports of the engines must not report either


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Note architecture and target of the tests that have them as parameters, for the table of the full tier."""
    for item in items:
        if isinstance(item, pytest.Function) and hasattr(item, "callspec"):
            for name in ("arch", "target"):
                if isinstance(value := item.callspec.params.get(name), str):
                    item.user_properties.append((name, value))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference cases and real portraits; it is not part of the project."""
    if not (SHARED / "reference").is_dir():
        pytest.skip("../shared (reference cases, real portraits) is not here")
    return SHARED


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Make a folder by its name, once for all workers of a parallel run; tests must not change it."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def make(name: str, action: Callable[[Path], object]) -> Path:
        folder = base / f"once-{name}"
        with FileLock(base / f"once-{name}.lock"):
            if not (folder / "done").exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                action(folder)
                (folder / "done").touch()
        return folder

    return make


@pytest.fixture
def command_line(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line in this process, which has imported what another would import anew.

    It takes the arguments and, as ``cwd``, the folder to stand in, and ``tool`` as ``main`` does.
    """
    from p3m_edge.cli import main

    def call(*arguments: object, cwd: Path | None = None, tool: Any = None) -> subprocess.CompletedProcess[str]:
        with monkeypatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("default")  # as users have it; what is shown is on the standard error
            patch.chdir(cwd or Path.cwd())
            code = main([*map(str, arguments)], tool)
        return subprocess.CompletedProcess([*map(str, arguments)], code, *capfd.readouterr())

    return call
