"""What an app, a container or a shell may have done around us: folders, homes, and how NumPy treats small numbers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from p3m_edge.errors import ArtefactError, InputError
from p3m_edge.preprocess import fit, from_network, to_network
from p3m_edge.runtimes import Matting, golden
from tests.artefacts import make_artefact, picture

pytest.importorskip("onnx")

Name = Literal["onnxruntime", "openvino"]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", params=["onnxruntime", "openvino"])
def artefact(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip(request.param)
    name: Name = request.param
    return make_artefact(tmp_path_factory.mktemp(name) / "artefact", name, size=(64, 96))


def run(code: str, *arguments: Path | str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-P", "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


class TestFolders:
    def test_another_current_folder_after_opening(
        self, artefact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(artefact.parent)
        with Matting(artefact.name, threads=1, cache_dir="cache") as matting:
            want = matting(picture(50, 60))
            monkeypatch.chdir(tmp_path)
            np.testing.assert_array_equal(matting(picture(50, 60)), want)
            assert matting.selftest().passed
            assert matting.folder == artefact
            assert Path(matting.info.folder) == artefact
        assert not (tmp_path / "cache").exists()

    def test_an_artefact_that_was_deleted_after_opening(self, artefact: Path, tmp_path: Path) -> None:
        own = Path(shutil.copytree(artefact, tmp_path / "own"))
        with Matting(own, threads=1, cache=False) as matting:
            want = matting(picture(50, 60))
            shutil.rmtree(own)
            np.testing.assert_array_equal(matting(picture(50, 60)), want)
            with pytest.raises(ArtefactError, match=r"golden\.npz cannot be read"):
                matting.selftest()

    @pytest.mark.skipif(os.name == "nt", reason="Windows deletes no folder that a process stands in")
    def test_a_current_folder_that_was_deleted(self, artefact: Path, tmp_path: Path) -> None:
        code = """
import os, sys, warnings
warnings.simplefilter("ignore")
from p3m_edge.cli import main
from p3m_edge.errors import ArtefactError
from p3m_edge.runtimes import Matting
import numpy as np
gone, artefact, picture, out = sys.argv[1:]
os.mkdir(gone); os.chdir(gone); os.rmdir(gone)
frame = np.zeros((50, 60, 3), np.uint8)
for options in ({}, {"cache_dir": "cache"}):
    with Matting(artefact, **options) as matting:
        print(matting(frame).shape, matting.selftest().passed)
for folder in ("x", ".", ".."):
    try:
        Matting(folder)
    except ArtefactError as error:
        print(error)
print(main(["run", artefact, picture, "--out", out]), sorted(os.listdir(out)))
for words in (["run", artefact, "x.jpg", "--out", "o"], ["run", ".", picture, "--out", out], ["verify", "x"]):
    print(main(words), file=sys.stderr)
"""
        Image.fromarray(picture(50, 60)).save(tmp_path / "x.png")
        done = run(code, tmp_path / "gone", artefact, tmp_path / "x.png", tmp_path / "out")
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert lines[:2] == ["(50, 60) True"] * 2
        assert lines[2:5] == [f"{name} does not exist: the current folder was deleted" for name in ("x", ".", "..")]
        assert any(line.startswith("0 ['x.alpha.png'") for line in lines)
        assert "internal error" not in done.stderr
        assert "the current folder was deleted" in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows has other ways to a user's folder")
def test_a_user_without_a_home_or_an_account(artefact: Path, tmp_path: Path) -> None:
    """As ``docker run --user 12345`` without HOME."""
    code = """
import os, pwd, sys, warnings
for name in ("HOME", "XDG_CACHE_HOME", "P3M_EDGE_CACHE"):
    os.environ.pop(name, None)
def unknown(uid): raise KeyError(uid)
pwd.getpwuid = unknown
import numpy as np
from p3m_edge.cli import main
from p3m_edge.errors import OutputError
from p3m_edge.runtimes import Matting, cache
artefact, picture, out = sys.argv[1:]
try:
    cache.root()
except OutputError as error:
    print(error, "|", error.hint)
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    with Matting(artefact) as matting:
        print(matting(np.zeros((50, 60, 3), np.uint8)).shape, [str(each.message) for each in told])
for words in (["--background", "~/b.jpg"], ["--background", "~no-such-user/b.jpg"], []):
    print(main(["run", artefact, picture, "--out", out, *words]))
"""
    Image.fromarray(picture(50, 60)).save(tmp_path / "x.png")
    done = run(code, artefact, tmp_path / "x.png", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    reason = "there is no place for the cache: the user has no home"
    assert lines[0] == f"{reason} | set P3M_EDGE_CACHE to a folder that can be written"
    openvino = artefact.parent.name.startswith("openvino")
    told = [f"the cache of compiled models is not used: {reason}"] if openvino else []
    assert lines[1] == f"(50, 60) {told}"
    assert [line for line in lines if line in ("0", "1", "2")] == ["2", "2", "0"]
    assert "internal error" not in done.stderr


class TestNumPy:
    """``np.seterr(all="raise")``: numbers that are too small or too large are ours, not the app's."""

    def test_a_matting(self, artefact: Path) -> None:
        with Matting(artefact, threads=1, cache=False) as matting:
            frame = picture(50, 60)
            want = matting(frame)
            with np.errstate(all="raise"):
                state = np.geterr()
                for form in (frame, frame / 255, (frame / 255).astype(np.longdouble), (frame / 255).astype(np.float16)):
                    np.testing.assert_allclose(matting(form), want, atol=0.05)
                assert matting.batch([np.full((5, 6, 3), 1e-320)])[0].shape == (5, 6)
                assert matting.selftest().passed
                assert np.geterr() == state

    def test_preprocessing(self) -> None:
        geometry = fit(40, 50, 32, 32)
        with np.errstate(all="raise"):
            for value in (1e-300, 1e-40, 1.0):
                image, _ = to_network(np.full((40, 50, 3), value, np.longdouble), 32, 32)
                assert image.max() == round(255 * value)
                for dtype in (np.float64, np.longdouble):
                    alpha = from_network(np.full((32, 32), value, dtype), geometry)
                    np.testing.assert_allclose(alpha, value, atol=1e-6)
            with pytest.raises(InputError, match="infinity"):
                from_network(np.full((32, 32), 1e300), geometry)

    def test_comparing(self) -> None:
        reference = {"alpha": np.zeros((1, 1, 8, 8), np.float32)}
        for value in (1e-30, 1e30, np.inf, np.nan):
            found = {"alpha": np.full((1, 1, 8, 8), value, np.float32)}
            with np.errstate(all="ignore"):
                want = golden.compare("x", reference, found, 0.1)
            with np.errstate(all="raise"):
                got = golden.compare("x", reference, found, 0.1)
                (_, second) = golden.smoothed([found["alpha"], reference["alpha"]], 1e-30)
            assert repr(got) == repr(want)
            assert second.shape == (1, 1, 8, 8)
