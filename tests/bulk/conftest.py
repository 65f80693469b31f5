"""Pictures, an artefact, and an object store that is a process of its own."""

import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import cv2
import pytest

from tests.artefacts import make_artefact, picture

ROOT = Path(__file__).parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def artefact(once: Callable[..., Path]) -> Path:
    """A genuine small artefact; tests must not change it."""
    pytest.importorskip("onnxruntime")
    return once("bulk-artefact", lambda folder: make_artefact(folder / "onnx")) / "onnx"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray keeps a token there."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def write_pictures(folder: Path, count: int, height: int = 40, width: int = 60) -> Path:
    """Different pictures, by number."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        assert cv2.imwrite(str(folder / f"{number}.jpg"), picture(height, width, number))
    return folder


def files(folder: Path) -> dict[str, bytes]:
    """The results in a folder, hidden files left out."""
    found = (path for path in folder.rglob("*") if path.is_file() and ".p3m-edge" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "p3m_edge", *map(str, arguments)]


def environment(**more: str) -> dict[str, str]:
    """For processes that run this package, without the user's credentials for a store."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RAY_"))}
    return kept | {"PYTHONPATH": str(ROOT), "AWS_EC2_METADATA_DISABLED": "true"} | more


def run(*arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
    """The real command line."""
    return subprocess.run(
        command(*arguments), capture_output=True, encoding="utf-8", timeout=600, env=environment(**more)
    )


class S3:
    """A server of S3's interface; ``environment`` points s3fs at it."""

    def __init__(self, port: int) -> None:
        import s3fs

        self.url = f"http://127.0.0.1:{port}"
        self.environment = {
            "AWS_ENDPOINT_URL": self.url, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }  # fmt: skip
        self.fs = s3fs.S3FileSystem(
            endpoint_url=self.url, key="key", secret="secret", use_listings_cache=False, skip_instance_cache=True
        )

    def names(self, prefix: str) -> list[str]:
        self.fs.invalidate_cache()
        return [name.removeprefix(f"{prefix}/") for name in self.fs.find(prefix)]

    def files(self, prefix: str) -> dict[str, bytes]:
        return {name: self.fs.cat_file(f"{prefix}/{name}") for name in self.names(prefix) if ".p3m-edge" not in name}

    def times_written(self, prefix: str) -> dict[str, int]:
        """How often each file was written; the bucket keeps all versions."""
        bucket, _, inside = prefix.partition("/")
        found = self.fs.call_s3("list_object_versions", Bucket=bucket, Prefix=f"{inside}/")["Versions"]
        return dict(Counter(each["Key"].removeprefix(f"{inside}/") for each in found))


@pytest.fixture
def s3() -> Iterator[S3]:
    """An S3 server with the bucket ``bucket``, which keeps every version."""
    for package in ("moto", "flask", "flask_cors", "s3fs"):
        pytest.importorskip(package, reason="an object store to test with: moto[s3], flask, flask-cors, s3fs")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(600):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert server.poll() is None
            time.sleep(0.2)
        found = S3(port)
        found.fs.mkdir("bucket")
        found.fs.call_s3("put_bucket_versioning", Bucket="bucket", VersioningConfiguration={"Status": "Enabled"})
        yield found
    finally:
        server.kill()
        server.wait()
