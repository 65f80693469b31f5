"""The wheel that a bundle carries: complete, reproducible, and usable where nothing else is installed."""

import base64
import csv
import hashlib
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import p3m_edge
from p3m_edge.benchmarks import wheel
from p3m_edge.errors import MissingError, OutputError


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel.make_wheel(tmp_path_factory.mktemp("wheel"))


def test_it_holds_the_package_and_valid_records(made: Path) -> None:
    assert made.name == f"p3m_edge-{p3m_edge.__version__}-py3-none-any.whl"
    info = f"p3m_edge-{p3m_edge.__version__}.dist-info"
    with zipfile.ZipFile(made) as archive:
        names = archive.namelist()
        assert archive.testzip() is None
        records = {r[0]: r[1:] for r in csv.reader(io.StringIO(archive.read(f"{info}/RECORD").decode()))}
        assert set(records) == set(names)
        for name in names:
            if name != f"{info}/RECORD":
                data = archive.read(name)
                digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
                assert records[name] == [f"sha256={digest}", str(len(data))]
    root = Path(p3m_edge.__file__).parent
    sources = {p.relative_to(root.parent).as_posix() for p in root.rglob("*.py")}
    assert sources | {"p3m_edge/py.typed", f"{info}/METADATA", f"{info}/WHEEL"} <= set(names)
    assert not [name for name in names if "__pycache__" in name or name.startswith(("tests", "torch"))]


def test_it_is_the_same_every_time(made: Path, tmp_path: Path) -> None:
    assert wheel.make_wheel(tmp_path).read_bytes() == made.read_bytes()


def test_it_can_be_imported_alone_and_as_installed(made: Path, tmp_path: Path) -> None:
    script = (
        "import sys; sys.path = [p for p in sys.path if 'site-packages' not in p]; sys.path.insert(0, sys.argv[1]);"
        "import p3m_edge, p3m_edge.errors, p3m_edge.targets; from importlib import metadata;"
        "assert p3m_edge.__file__.startswith(sys.argv[1]), p3m_edge.__file__;"
        "print(metadata.version('p3m-edge'), 'torch' in sys.modules)"
    )
    command = [sys.executable, "-I", "-c", script, str(made)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.stderr == ""
    assert done.stdout.split() == [p3m_edge.__version__, "False"]


def test_pip_accepts_it(made: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--no-compile", "--quiet",
               "--disable-pip-version-check", "--target", str(tmp_path), str(made)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "p3m_edge" / "manifest.py").is_file()


def test_metadata_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(p3m_edge, "__version__", "99.0")
    with pytest.raises(MissingError, match=r"99\.0"):
        wheel.make_wheel(tmp_path)


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        wheel.make_wheel(tmp_path / "missing")


def test_what_a_build_left_in_the_source_tree_does_not_count(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / "tree" / "p3m_edge.egg-info"
    left.mkdir(parents=True)
    lines = f"Metadata-Version: 2.1\nName: p3m-edge\nVersion: {p3m_edge.__version__}\n"
    (left / "PKG-INFO").write_text(lines, encoding="utf-8")
    monkeypatch.syspath_prepend(left.parent)
    assert wheel.make_wheel(tmp_path).read_bytes() == made.read_bytes()
