"""Apps that are more than a script beside an environment: frozen by PyInstaller, and packed as a zipapp."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipapp
import zipfile
from pathlib import Path

import msgspec
import pytest

from p3m_edge.errors import MissingError
from p3m_edge.workers.parent import Worker
from tests.artefacts import make_artefact
from tests.packaging.conftest import Distributions

pytest.importorskip("onnx")

APP = """
import sys
import numpy as np
from p3m_edge.errors import P3MEdgeError
from p3m_edge.runtimes import Matting

for folder in sys.argv[1:]:
    try:
        with Matting(folder, cache=False) as matting:
            frame = np.full((90, 60, 3), 120, np.uint8)
            info = matting.info.engine
            print(info.name, matting(frame).shape, matting.selftest().passed)
    except P3MEdgeError as error:
        print(type(error).__name__, error)
"""
REMOVING = """
from p3m_edge import remove

print(remove(np.full((40, 30, 3), 120, np.uint8)).shape)
"""


@pytest.fixture(scope="module")
def installed(distributions: Distributions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content, hook and entry points included, as pip would lay it out."""
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(distributions.wheel) as wheel:
        wheel.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("openvino")
    folder = tmp_path_factory.mktemp("artefacts")
    return {
        "onnxruntime": make_artefact(folder / "onnx", "onnxruntime"),
        "openvino": make_artefact(folder / "openvino", "openvino"),
    }


@pytest.mark.full
def test_an_app_frozen_by_pyinstaller(installed: Path, artefacts: dict[str, Path]) -> None:
    pytest.importorskip("PyInstaller", reason="PyInstaller is not installed")
    with tempfile.TemporaryDirectory() as folder:  # half a gigabyte, which need not stay until the third run from now
        place = Path(folder)
        (place / "app.py").write_text(APP + REMOVING)
        left_out = ("torch", "onnx", "scipy", "skimage", "matplotlib", "IPython", "pytest", "tensorrt", "coreai")
        command = [
            sys.executable, "-m", "PyInstaller", "--noconfirm", "--log-level", "ERROR", "app.py",
            *(word for name in left_out for word in ("--exclude-module", name)),
        ]  # fmt: skip
        environment = {**os.environ, "PYTHONPATH": str(installed), "PYINSTALLER_CONFIG_DIR": str(place / "config")}
        built = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
        assert built.returncode == 0, built.stderr[-3000:]
        app = place / "dist" / "app" / ("app.exe" if sys.platform == "win32" else "app")
        # Nothing of the environment that froze it is to be seen by the app.
        variables = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))
        }
        words = [str(app), *map(str, artefacts.values())]
        done = subprocess.run(words, env=variables, cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines() == [*(f"{name} (90, 60) True" for name in artefacts), "(40, 30, 4)"]


def test_a_zipapp(installed: Path, artefacts: dict[str, Path], tmp_path: Path) -> None:
    """The package is read from the archive; what has compiled modules cannot be, and is installed."""
    source = tmp_path / "source"
    shutil.copytree(installed / "p3m_edge", source / "p3m_edge")
    (source / "__main__.py").write_text(f"import p3m_edge\nassert '.pyz' in p3m_edge.__file__\n{APP}")
    app = tmp_path / "app.pyz"
    zipapp.create_archive(source, app)
    done = subprocess.run(
        [sys.executable, str(app), *map(str, artefacts.values())],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines() == [f"{name} (90, 60) True" for name in artefacts]


def test_a_process_of_its_own_finds_the_package_of_a_zipapp(installed: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(installed / "p3m_edge", source / "p3m_edge")
    (source / "__main__.py").write_text(
        "from p3m_edge.workers.parent import Worker\n"
        "with Worker('p3m_edge.cli.probe') as worker:\n"
        "    print(worker.call('probe', name='msgspec')['version'])\n"
    )
    app = tmp_path / "app.pyz"
    zipapp.create_archive(source, app)
    command = [sys.executable, "-S", str(app)]  # without site-packages: only the archive has the package
    site = [path for path in sys.path if path.endswith("site-packages")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(site)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{msgspec.__version__}\n"), done.stderr


def test_a_frozen_app_has_no_python_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("frozen", True), ("executable", "")):
        with monkeypatch.context() as patch:
            patch.setattr(sys, name, value, raising=False)
            with pytest.raises(MissingError, match="has no Python to start it with"):
                Worker("p3m_edge.runtimes.engines.coreai_worker")
