"""The cache of compiled models: it makes starts faster and can do no harm."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from p3m_edge import manifest as manifests
from p3m_edge.errors import UsageError
from p3m_edge.runtimes import CacheWarning, EngineOptions, Matting, cache, open_engine
from tests.artefacts import make_artefact, picture, rehash, scale_constant

FRAME = picture(64, 96)


class TestRoot:
    def test_the_variable_overrides(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("P3M_EDGE_CACHE", str(tmp_path / "mine"))
        assert cache.root() == tmp_path / "mine"
        assert cache.root(tmp_path / "argument") == tmp_path / "argument"

    @pytest.mark.parametrize(
        ("platform", "variables", "expected"),
        [
            ("linux", {}, "home/.cache/p3m-edge"),
            ("linux", {"XDG_CACHE_HOME": "relative"}, "home/.cache/p3m-edge"),
            ("linux", {"XDG_CACHE_HOME": "{base}/xdg"}, "xdg/p3m-edge"),
            ("darwin", {"XDG_CACHE_HOME": "{base}/xdg"}, "home/Library/Caches/p3m-edge"),
            ("win32", {}, "home/AppData/Local/p3m-edge/Cache"),
            ("win32", {"LOCALAPPDATA": "{base}/local"}, "local/p3m-edge/Cache"),
        ],
    )
    def test_the_rules_of_each_system(
        self,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        platform: str,
        variables: dict[str, str],
        expected: str,
    ) -> None:
        for name in ("P3M_EDGE_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value.format(base=tmp_path))
        monkeypatch.setattr("sys.platform", platform)
        monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
        assert cache.root() == tmp_path / expected


class TestOpenVino:
    @pytest.fixture
    def artefact(self, tmp_path: Path) -> Path:
        pytest.importorskip("openvino")
        pytest.importorskip("onnx")
        return make_artefact(tmp_path / "artefact", "openvino")

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return tmp_path / "cache"

    @staticmethod
    def start(artefact: Path, folder: Path) -> tuple[str, float]:
        with Matting(artefact, threads=1, cache_dir=folder) as matting:
            return matting.info.engine.cache, float(matting(FRAME).mean())

    @staticmethod
    def blobs(folder: Path) -> list[Path]:
        return list(folder.rglob("*.blob"))

    def test_the_second_start_is_from_the_cache(self, artefact: Path, folder: Path) -> None:
        before = sorted(artefact.iterdir())
        first, want = self.start(artefact, folder)
        second, got = self.start(artefact, folder)
        assert (first, second) == ("miss", "hit")
        assert got == want
        assert sorted(artefact.iterdir()) == before
        (blob,) = self.blobs(folder)
        assert blob.parent.stat().st_mode & 0o077 == 0

    @pytest.mark.parametrize("damage", ["empty", "short", "one bit", "rubbish", "no sums", "rubbish sums"])
    def test_a_damaged_entry_is_thrown_away(self, artefact: Path, folder: Path, damage: str) -> None:
        _, want = self.start(artefact, folder)
        (blob,) = self.blobs(folder)
        good = blob.read_bytes()
        blob.chmod(0o600)
        flipped = bytearray(good)
        flipped[-40] ^= 1
        sums = blob.parent / "crc32.json"
        match damage:
            case "empty":
                blob.write_bytes(b"")
            case "short":
                blob.write_bytes(good[: len(good) // 2])
            case "one bit":
                blob.write_bytes(flipped)
            case "rubbish":
                blob.write_bytes(b"\xff" * len(good))
            case "no sums":
                sums.unlink()
            case "rubbish sums":
                sums.write_bytes(b"\xff\xfe\n\n")
        assert self.start(artefact, folder) == ("miss", want)
        assert self.start(artefact, folder) == ("hit", want)

    def test_other_weights_at_the_same_path(self, artefact: Path, folder: Path, tmp_path: Path) -> None:
        _, before = self.start(artefact, folder)
        other = make_artefact(tmp_path / "other", "openvino", breaking=scale_constant("local.weight", -1))
        for name in ("model.xml", "model.bin"):
            # Same size and same time of change: only the content tells them apart.
            stamp = (artefact / name).stat()
            shutil.copyfile(other / name, artefact / name)
            os.utime(artefact / name, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        rehash(artefact)
        state, after = self.start(artefact, folder)
        assert state == "miss"
        assert after != before
        with Matting(other, threads=1, cache=False) as matting:
            assert float(matting(FRAME).mean()) == after

    def test_an_artefact_that_was_moved(self, artefact: Path, folder: Path, tmp_path: Path) -> None:
        _, want = self.start(artefact, folder)
        moved = artefact.rename(tmp_path / "moved")
        assert self.start(moved, folder)[1] == want

    def test_without_a_cache(self, artefact: Path, folder: Path) -> None:
        with Matting(artefact, threads=1, cache=False, cache_dir=folder) as matting:
            assert matting.info.engine.cache == "off"
        assert not folder.exists()

    def test_a_folder_that_cannot_be_made(self, artefact: Path, folder: Path) -> None:
        folder.write_text("a file in its place")
        with pytest.warns(CacheWarning, match="cache of compiled models is not used"):
            state, mean = self.start(artefact, folder)
        assert state == "off"
        assert np.isfinite(mean)

    @pytest.mark.parametrize(
        ("mount", "states"),
        [
            ("mount -t tmpfs -o size=16k tmpfs {0}", ["off", "off"]),  # less than the model
            ("mount -t tmpfs -o size=4k tmpfs {0}", ["off", "off"]),  # not even a folder
            ("mount -t tmpfs -o ro tmpfs {0}", ["off", "off"]),
            ("mount -t tmpfs tmpfs {0}; {1}; mount -o remount,ro {0}", ["hit", "hit"]),
            ("mount -t tmpfs tmpfs {0}; {1}; cp /proc/version {0}/*/*/*.blob; mount -o remount,ro {0}", ["off", "off"]),
            ("mount -t tmpfs tmpfs {0}; {1}; rm -f {0}/*/*/*; mount -o remount,ro {0}", ["off", "off"]),
        ],
        ids=["full", "fuller", "read-only", "made before", "made before and damaged", "made before and emptied"],
    )  # fmt: skip
    def test_a_disc_that_is_full_or_read_only(
        self, artefact: Path, tmp_path: Path, mount: str, states: list[str]
    ) -> None:
        """In a mount namespace of its own. A warning says so, and it works all the same."""
        if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
            pytest.skip("no mount namespaces here")
        code = """
import sys, warnings
from p3m_edge.runtimes import CacheWarning, Matting
import numpy as np
for start in (1, 2):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with Matting(sys.argv[1], threads=1, cache_dir=sys.argv[2]) as matting:
            assert matting(np.zeros((50, 60, 3), np.uint8)).shape == (50, 60)
            state = matting.info.engine.cache
    assert [each.category for each in told] == ([CacheWarning] if state == "off" else []), told
    print(state)
"""
        script, folder = tmp_path / "start.py", tmp_path / "mounted"
        script.write_text(code)
        folder.mkdir()
        start = shlex.join([sys.executable, str(script), str(artefact), str(folder)])
        inside = f"set -e; {mount.format(folder, f'{start} >/dev/null')}; {start}"
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        done = subprocess.run(
            ["unshare", "-rm", "sh", "-c", inside], capture_output=True, text=True, check=False, env=environment
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == states

    def test_never_inside_the_artefact(self, artefact: Path) -> None:
        for folder in (artefact, artefact / "cache", artefact / ".." / "artefact" / "c"):
            with pytest.raises(UsageError, match="inside the artefact"):
                Matting(artefact, cache_dir=folder)

    def test_a_model_without_a_hash_is_not_cached(self, artefact: Path, folder: Path) -> None:
        import dataclasses

        manifest = dataclasses.replace(manifests.read(artefact), files={})
        with open_engine(manifest, artefact, EngineOptions(cache_dir=folder)) as engine:
            assert engine.info.cache == "off"
        assert not folder.exists()
